/** Walks one tree of the file, takes what is well-formed and says what is not. */
import { Node } from "./Node.js"
import { headerSize, type PageFile, PageFlag, type TreeMeta, u64 } from "./PageFile.js"

/** Keys from `from` up to `until`; without them from the beginning or to the end. */
export interface Lost {
  readonly from: string | undefined
  readonly until: string | undefined
}

export interface LeafSpan {
  readonly first: string
  readonly last: string
}

export interface TreeReading {
  /** In sentences. */
  readonly problems: Array<string>
  /** Where pages should be and are not. */
  readonly lost: Array<Lost>
  readonly counts: { branch: number; leaf: number; overflow: number; entries: number }
}

export interface TreeVisit {
  readonly file: PageFile
  readonly tree: TreeMeta
  readonly name: string
  /** No page of the tree is younger. */
  readonly txn: number
  readonly lastPage: number
  /** One byte per page: visited already, in this or another tree. */
  readonly seen: Uint8Array
  /** A page that is free leads nowhere. */
  readonly isFree?: (page: number) => boolean
  /** Whether a node is what was written; decides what is taken from a page that is not well-formed. */
  readonly isWhole: (node: Node) => boolean
  /** The value is the caller's again afterwards. */
  readonly onNode: (node: Node) => void
  /** From the first to the last whole node of a leaf page. */
  readonly onLeaf?: (span: LeafSpan) => void
  /** Binary numbers as keys have another order. */
  readonly isOrdered: boolean
}

const most = 64
const deepest = 32

export const pageHeader = (page: Buffer) => ({
  number: u64(page, 0),
  txn: u64(page, 8),
  flags: page.readUInt16LE(18),
  lower: page.readUInt16LE(20),
  upper: page.readUInt16LE(22)
})

const isEven = (n: number) => (n & 1) === 0
const isOneBit = (n: number) => n !== 0 && (n & (n - 1)) === 0

/** The value of a leaf's node at `at`, and the pages of a large one. */
const valueAt = (visit: TreeVisit, page: Buffer, at: number, keySize: number, complain: (what: string) => void) => {
  const { file } = visit
  const size = page.readUInt32LE(at)
  const flags = page.readUInt16LE(at + 4)
  const start = at + 8 + keySize
  if (flags === 0) {
    if (start + size > page.length) return undefined
    return { bytes: page, from: start, size, end: start + size, first: 0, pages: 0 }
  }
  if (flags !== 1 || start + 24 > page.length) return undefined
  const first = u64(page, start)
  const pages = Math.floor((headerSize - 1 + size) / file.pageSize) + 1
  const end = start + 24
  const header = first + pages <= file.pages ? file.page(first) : undefined
  if (header === undefined) {
    complain(`a large value lies outside of the file`)
    return { bytes: undefined, from: 0, size: 0, end, first, pages }
  }
  const isSound =
    u64(header, 0) === first &&
    header.readUInt16LE(18) === PageFlag.Overflow &&
    header.readUInt32LE(20) === pages &&
    u64(page, start + 16) === pages &&
    u64(header, 8) <= visit.txn
  if (!isSound) complain(`the page ${first} of a large value is not one`)
  return { bytes: file.bytes(first * file.pageSize + headerSize, size), from: 0, size, end, first, pages }
}

/** A value on pages of its own. */
interface Large {
  readonly node: Node
  readonly first: number
  readonly pages: number
}

/** What is taken of a leaf page. */
class Taken {
  readonly nodes: Array<Node> = []
  readonly large: Array<Large> = []
  /** Of the page, in bytes. */
  used = 0
  /** Where the first of the nodes lies; behind its head, as all places that a page names. */
  least: number
  /** Pages of large values. */
  overflow = 0
  private readonly visit: TreeVisit
  private readonly page: Buffer

  constructor(visit: TreeVisit, page: Buffer) {
    this.visit = visit
    this.page = page
    this.least = page.length - headerSize
  }

  /** Takes the node that the page names there. False where it can be none. */
  take(index: number, complain: (what: string) => void, isWhole?: TreeVisit["isWhole"]): boolean {
    const { page } = this
    const at = page.readUInt16LE(headerSize + index * 2) + headerSize
    if (at < headerSize + index * 2 + 2 || at + 8 > page.length) return false
    const keySize = page.readUInt16LE(at + 6)
    if (keySize === 0 || at + 8 + keySize > page.length) return false
    const found = valueAt(this.visit, page, at, keySize, complain)
    if (found === undefined) return false
    const node = new Node(page, at + 8, at + 8 + keySize, found.bytes, found.from, found.from + found.size)
    if (isWhole?.(node) === false) return false
    this.used += found.end - at + ((found.end - at) & 1)
    this.least = Math.min(this.least, at - headerSize)
    this.overflow += found.pages
    this.nodes.push(node)
    if (found.pages > 0 && found.bytes !== undefined) this.large.push({ node, first: found.first, pages: found.pages })
    return true
  }

  /** Nothing lies between the nodes, nor behind them. */
  get isCompact(): boolean {
    return this.used === this.page.length - headerSize - this.least
  }
}

/** The nodes of a leaf page. On one that is not well-formed only whole ones are taken, also behind what its header names. */
export const readLeaf = (visit: TreeVisit, page: Buffer, complain: (what: string) => void) => {
  const { lower, upper } = pageHeader(page)
  const named = new Taken(visit, page)
  let areAll = isEven(lower) && lower <= page.length - headerSize && lower > 0
  if (areAll) for (let index = 0; index < lower / 2; index++) areAll = named.take(index, complain) && areAll
  const isCompact = areAll && named.isCompact
  // Nodes fill the page from `upper` on without a gap: what is left of old ones lies before.
  if (isCompact && lower <= upper && named.least === upper) {
    claim(visit, named.large, complain)
    return { nodes: named.nodes, overflow: named.overflow, isSound: true }
  }
  complain("its nodes do not fit")
  const { large, nodes, overflow } = likeliest(visit, page, isCompact ? named : undefined)
  const byKey = new Map(nodes.filter(visit.isWhole).map((node) => [node.key, node]))
  const taken = new Set(byKey.values())
  const ofTaken = large.filter(({ node }) => taken.has(node))
  claim(visit, ofTaken, () => undefined)
  return { nodes: [...taken].sort((a, b) => (a.key < b.key ? -1 : 1)), overflow, isSound: false }
}

/** What a page most likely holds whose header does not fit; `named` is what that names, where it lies without gaps. */
const likeliest = (visit: TreeVisit, page: Buffer, named: Taken | undefined): Taken => {
  const { lower, upper } = pageHeader(page)
  const room = page.length - headerSize
  const take = (taken: Taken, index: number) => taken.take(index, () => undefined, visit.isWhole)
  // Whole ones in the order of their keys that fill the page down to `upper`: then `lower` is wrong.
  const filling = new Taken(visit, page)
  for (let index = 0; index * 2 + 2 <= upper && filling.used < room - upper && take(filling, index); index++);
  const isNext = (node: Node, n: number, all: ReadonlyArray<Node>) =>
    n === 0 || !visit.isOrdered || node.isBehind(all[n - 1]!)
  if (filling.least === upper && filling.isCompact && filling.nodes.every(isNext)) {
    // Unless old ones lie before by chance: one flipped bit is likelier than another number.
    const isUpperOff = named !== undefined && isOneBit(upper ^ named.least)
    if (!isUpperOff || isOneBit(lower ^ (filling.nodes.length * 2))) return filling
  }
  if (named !== undefined) return named
  const scattered = new Taken(visit, page)
  const floor = isEven(upper) && upper <= room ? upper : 0
  for (let index = 0; headerSize + index * 2 + 2 <= page.length; index++) {
    if (page.readUInt16LE(headerSize + index * 2) >= floor) take(scattered, index)
  }
  return scattered
}

/** Marks the pages of large values. */
const claim = ({ seen }: TreeVisit, large: ReadonlyArray<Large>, complain: (what: string) => void): void => {
  for (const { first, pages } of large) {
    for (let n = first; n < first + pages; n++) {
      if (seen[n] === 1) complain(`page ${n} is used twice`)
      seen[n] = 1
    }
  }
}

interface Child {
  readonly from: string | undefined
  readonly page: number
}

const readBranch = (page: Buffer): { readonly children: ReadonlyArray<Child>; readonly isSound: boolean } => {
  const { lower, upper } = pageHeader(page)
  const room = page.length - headerSize
  if (!isEven(lower) || lower > upper || upper > room || lower < 4) return { children: [], isSound: false }
  const children: Array<Child> = []
  let isSound = true
  let used = 0
  for (let index = 0; index < lower / 2; index++) {
    const at = page.readUInt16LE(headerSize + index * 2) + headerSize
    const keySize = at + 8 <= page.length ? page.readUInt16LE(at + 6) : 0
    if (at + 8 + keySize > page.length) {
      isSound = false
      continue
    }
    const number = page.readUInt32LE(at) + page.readUInt16LE(at + 4) * 0x1_0000_0000
    used += 8 + keySize + (keySize & 1)
    children.push({ from: index === 0 ? undefined : page.toString("latin1", at + 8, at + 8 + keySize), page: number })
  }
  return { children, isSound: isSound && used === room - upper }
}

export const readTree = (visit: TreeVisit): TreeReading => {
  const { file, name, seen, tree } = visit
  const reading: TreeReading = { problems: [], lost: [], counts: { branch: 0, leaf: 0, overflow: 0, entries: 0 } }
  const { counts, lost, problems } = reading
  const complain = (what: string) => {
    if (problems.length < most) problems.push(`${name}: ${what}.`)
  }
  const lose = (from: string | undefined, until: string | undefined, what: string): void => {
    complain(what)
    lost.push({ from, until })
  }

  /** Whether all of the page was taken. A page of other keys than the branch above has it for is not taken at all. */
  const leaf = (number: number, page: Buffer, from: string | undefined, until: string | undefined) => {
    const { isSound, nodes, overflow } = readLeaf(visit, page, (what) => complain(`page ${number}: ${what}`))
    if (visit.isOrdered && nodes.length > 0) {
      const isBelow = from !== undefined && nodes[0]!.isBefore(from)
      const isAbove = until !== undefined && !nodes[nodes.length - 1]!.isBefore(until)
      if (isBelow || isAbove) return "elsewhere"
    }
    seen[number] = 1
    counts.leaf++
    counts.overflow += overflow
    counts.entries += nodes.length
    // Those of other pages are before or behind: the branches say so.
    let last: Node | undefined
    for (const node of nodes) {
      if (visit.isOrdered && last !== undefined && !node.isBehind(last))
        complain(`page ${number}: its keys are not in order`)
      last = node
      visit.onNode(node)
    }
    if (visit.onLeaf !== undefined) {
      const whole = nodes.filter(visit.isWhole)
      if (whole.length > 0) visit.onLeaf({ first: whole[0]!.key, last: whole[whole.length - 1]!.key })
    }
    // Whoever visited the nodes has copied what is to be kept; of the branches above only keys and numbers are.
    file.release()
    return isSound ? "whole" : "in part"
  }

  /** Why the page is not the one that should be here; `undefined` also where only a part of its header is wrong. */
  const whyNot = (number: number, page: Buffer | undefined, expected: number) => {
    if (page === undefined) return "is not there"
    if (seen[number] === 1) return "is used twice"
    if (visit.isFree?.(number) === true) return "is listed as free"
    const header = pageHeader(page)
    const wrong = [header.number !== number, header.txn > visit.txn, header.flags !== expected].filter(Boolean).length
    if (wrong === 1) complain(`page ${number}: its header does not fit`)
    // One of them may be a flipped bit; two are another page.
    return wrong > 1 ? "is another one" : undefined
  }

  const walk = (
    number: number,
    level: number,
    [from, until]: readonly [string | undefined, string | undefined],
    [wideFrom, wideUntil]: readonly [string | undefined, string | undefined]
  ): void => {
    const page = number >= 2 && number <= visit.lastPage ? file.page(number) : undefined
    const expected = level === tree.depth ? PageFlag.Leaf : PageFlag.Branch
    const why = whyNot(number, page, expected)
    if (page === undefined || why !== undefined) {
      lose(wideFrom, wideUntil, `page ${number} ${why}`)
      return
    }
    const { flags } = pageHeader(page)
    if (flags === PageFlag.Leaf || (flags !== PageFlag.Branch && expected === PageFlag.Leaf)) {
      const taken = leaf(number, page, from, until)
      if (taken === "elsewhere") lose(wideFrom, wideUntil, `page ${number} holds other keys`)
      // Its header may be that of an old page: what may have been on it is looked for elsewhere too.
      if (taken === "in part") lost.push({ from, until })
      return
    }
    seen[number] = 1
    const { children, isSound } = readBranch(page)
    counts.branch++
    if (!isSound) lose(wideFrom, wideUntil, `page ${number}: its nodes do not fit`)
    for (const [index, child] of level < deepest ? children.entries() : []) {
      const bounds = [child.from ?? from, children[index + 1]?.from ?? until] as const
      const wide = [
        index > 1 ? children[index - 1]!.from : wideFrom,
        index + 2 < children.length ? children[index + 2]!.from : wideUntil
      ] as const
      walk(child.page, level + 1, bounds, wide)
    }
  }

  if (tree.root !== Number.POSITIVE_INFINITY) walk(tree.root, 1, [undefined, undefined], [undefined, undefined])
  const expected = {
    branch: tree.branchPages,
    leaf: tree.leafPages,
    overflow: tree.overflowPages,
    entries: tree.entries
  }
  for (const what of ["branch", "leaf", "overflow", "entries"] as const) {
    if (counts[what] !== expected[what]) {
      complain(`${counts[what]} ${what === "entries" ? what : `${what} pages`}, of which ${expected[what]} should be`)
    }
  }
  return reading
}
