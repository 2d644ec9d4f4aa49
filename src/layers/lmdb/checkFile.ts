/**
 * Reads and checks every live record of a database file and all that leads to it: what this finds sound, the engine can be
 * trusted with.
 */
import type { Node } from "./Node.js"
import { type Meta, PageFile, u64 } from "./PageFile.js"
import { type LeafSpan, type Lost, pageHeader, readTree, type TreeReading } from "./readTree.js"

/** The engine's flags of a file of ours: a single file, whole numbers as keys of free pages. */
const fileFlags = 0x4008
/** The version of the engine's file that this reads. */
export const engineVersion = 2
const mostRoom = 16
const mostBeyond = 65_536

export interface FileReading {
  readonly file: PageFile
  /** What is not as the engine writes it, in sentences. Damaged records alone are none of these. */
  readonly problems: ReadonlyArray<string>
  readonly meta: Meta | undefined
  /** No page of the store is younger. */
  readonly txn: number
  /** Key ranges in which records are missing. */
  readonly lost: ReadonlyArray<Lost>
  /** How many records there should be, where that is known. */
  readonly expected: number | undefined
  readonly seen: Uint8Array
  /** Known only where the list of free pages is sound. */
  readonly freePages: ReadonlySet<number> | undefined
}

export interface Visitor {
  /** The value is read into again afterwards: what is to be kept is to be copied. */
  readonly onNode: (node: Node) => void
  readonly onLeaf?: (span: LeafSpan) => void
}

/** Reads the file; closes it only when it fails. */
export const readFile = (name: string, visitor: Visitor): FileReading => {
  const file = PageFile.open(name)
  try {
    return readOpened(file, visitor)
  } catch (error) {
    file.close()
    throw error
  }
}

const everything: ReadonlyArray<Lost> = [{ from: undefined, until: undefined }]

const readOpened = (file: PageFile, visitor: Visitor): FileReading => {
  const { isLatest, meta, problems } = chooseMeta(file)
  const seen = new Uint8Array(file.pages)
  if (meta === undefined) {
    const txn = Number.MAX_SAFE_INTEGER
    return { file, problems, meta, txn, lost: everything, expected: undefined, seen, freePages: undefined }
  }
  const shared = { file, seen, txn: meta.txn, lastPage: meta.lastPage }
  const free = new Set<number>()
  // The file may end before its last free pages, by a few.
  const last = Math.min(meta.lastPage, file.pages + mostBeyond)
  const freeProblems: Array<string> = []
  const seenFree = new Uint8Array(file.pages)
  const freeTree = readTree({
    ...shared,
    seen: seenFree,
    tree: meta.free,
    name: "free pages",
    isOrdered: false,
    isWhole: () => false,
    onNode: (node) => {
      const why = readFreePages(node, last, free)
      if (why !== undefined && freeProblems.length === 0) freeProblems.push(why)
    }
  })
  const listed = [...freeTree.problems, ...freeProblems]
  const freePages = listed.length === 0 ? free : undefined
  // A list that is not sound may have led to pages of records: it must not cost these.
  if (freePages !== undefined) seen.set(seenFree)
  const above = { file, meta, seen, freePages }

  // What leads to the records is lost: each leaf page is to be found by itself.
  const why = !isLatest ? "one meta page is lost, and it may have been the latest." : rootComplaint(file, meta)
  if (why !== undefined) {
    const txn = isLatest ? meta.txn : meta.txn + 1
    const expected = isLatest ? meta.main.entries : undefined
    return { ...above, problems: [...problems, ...listed, why], txn, lost: everything, expected }
  }
  const isFree = (page: number) => freePages?.has(page) === true
  const tree = { tree: meta.main, name: "records", isOrdered: true, isWhole: (node: Node) => node.isWhole, isFree }
  const records = readTree({ ...shared, ...tree, ...visitor })
  const { counts, lost } = records
  const hasAllPages = counts.leaf === meta.main.leafPages && counts.branch === meta.main.branchPages
  const isShort = lost.length === 0 && !hasAllPages
  return {
    ...above,
    problems: [...problems, ...listed, ...records.problems, ...accounting(meta, seen, free, [freeTree, records])],
    txn: meta.txn,
    lost: isShort ? everything : lost,
    expected: lost.length === 0 && hasAllPages ? counts.entries : meta.main.entries
  }
}

/** A commit writes the root anew: one that is older is none. */
const rootComplaint = (file: PageFile, meta: Meta): string | undefined => {
  const { root } = meta.main
  if (root === Number.POSITIVE_INFINITY) return undefined
  const page = root >= 2 && root <= meta.lastPage ? file.page(root) : undefined
  if (page === undefined) return `the root of the records, page ${root}, is not there.`
  const header = pageHeader(page)
  return header.txn === meta.txn && header.number === root
    ? undefined
    : `the root of the records, page ${root}, is not of the last commit.`
}

/** Numbers of pages; a negative one is the length of a run that the next begins. Gives what is wrong with the first bad one. */
const readFreePages = ({ value }: Node, last: number, free: Set<number>): string | undefined => {
  const count = value === undefined || value.length < 8 ? -1 : u64(value, 0)
  if (value === undefined || count < 0 || (count + 1) * 8 > value.length) return "free pages: a list is too short."
  for (let index = 1; index <= count; index++) {
    let entry = Number(value.readBigInt64LE(index * 8))
    let length = 1
    if (entry === 0) continue
    if (entry < 0) {
      length = -entry
      index++
      entry = index <= count ? Number(value.readBigInt64LE(index * 8)) : 0
    }
    if (entry < 2 || entry + length - 1 > last) return "free pages: a number is none."
    for (let page = entry; page < entry + length; page++) {
      if (free.has(page)) return `free pages: page ${page} is listed twice.`
      free.add(page)
    }
  }
  return undefined
}

const accounting = (meta: Meta, seen: Uint8Array, free: ReadonlySet<number>, trees: ReadonlyArray<TreeReading>) => {
  const problems: Array<string> = []
  for (const page of free) {
    if (seen[page] === 1) {
      problems.push(`page ${page} is in use and listed as free.`)
      break
    }
  }
  const used = trees.reduce((sum, { counts }) => sum + counts.branch + counts.leaf + counts.overflow, 0)
  const all = meta.lastPage - 1
  if (used + free.size > all) problems.push(`${used + free.size} pages are in use or free, of ${all}.`)
  return problems
}

interface Choice {
  readonly meta: Meta | undefined
  /** It is known that no other was later. */
  readonly isLatest: boolean
  readonly problems: ReadonlyArray<string>
}

/** Which of the two meta pages is the latest, and whether the engine thinks so too. */
const chooseMeta = (file: PageFile): Choice => {
  const problems: Array<string> = []
  for (const [index, meta] of file.metas.entries()) {
    const why = meta === undefined ? "is not there" : complaint(file, meta)
    if (why !== undefined) problems.push(`meta page ${index} ${why}.`)
  }
  const [first, second] = file.metas.map((meta, index) =>
    isUsable(meta) ? standing(file, meta, file.metas[1 - index]) : undefined
  )
  const chosen = (second?.age ?? -1) > (first?.age ?? -1) ? second : first
  if (chosen === undefined) return { meta: undefined, isLatest: false, problems }
  if (first !== undefined && second !== undefined) {
    const distance = Math.abs(first.meta.txn - second.meta.txn)
    if (distance > 1 || chosen.meta.txn < Math.max(first.meta.txn, second.meta.txn)) {
      problems.push("the meta pages do not follow each other.")
    }
  }
  if ([first, second].some((one) => one !== undefined && one.age !== one.meta.txn))
    problems.push("a meta page and its roots are not of one commit.")
  const isLatest = first !== undefined && second !== undefined
  return { meta: { ...chosen.meta, txn: chosen.age }, isLatest, problems }
}

const complaint = (file: PageFile, meta: Meta): string | undefined => {
  if (!meta.isMeta) return "is none"
  if (meta.dataVersion !== engineVersion) return "is of another version of the engine"
  if (meta.pageSize !== file.pageSize) return "has another page size"
  if (meta.free.flags !== fileFlags || meta.main.flags !== 0) return "has other flags"
  const least = (meta.lastPage + 1) * file.pageSize
  if (!(meta.lastPage >= 1 && least <= Math.max(file.size, 1) * mostRoom + 2 ** 24))
    return "names a last page far outside"
  if (!(meta.mapSize <= mostRoom * Math.max(least, file.size) + 2 ** 24)) return "names a size far outside"
  return undefined
}

/** With some bits wrong a meta page still is one; a page of something else is not. */
const isUsable = (meta: Meta | undefined): meta is Meta =>
  meta !== undefined && (meta.isMeta || (meta.dataVersion === engineVersion && meta.main.root <= meta.lastPage))

interface Standing {
  readonly meta: Meta
  /** The commit it is of. */
  readonly age: number
}

/**
 * A commit writes both roots anew, so three numbers say which commit a meta page is of. Two of them decide; of two alone that
 * differ, the one that follows the other meta page or goes before it.
 */
const standing = (file: PageFile, meta: Meta, other: Meta | undefined): Standing => {
  const roots = [meta.main.root, meta.free.root].flatMap((root) => {
    const page = root >= 2 && root <= meta.lastPage ? file.page(root) : undefined
    return page === undefined ? [] : [pageHeader(page).txn]
  })
  const numbers = [meta.txn, ...roots]
  const isNext = (number: number) => other !== undefined && Math.abs(number - other.txn) === 1
  const age =
    numbers.find((number, at) => numbers.indexOf(number) !== at) ?? numbers.find(isNext) ?? Math.min(...numbers)
  return { meta, age }
}
