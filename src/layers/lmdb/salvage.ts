/** Takes out of a damaged file every record that can be read. */
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { type FileReading, readFile } from "./checkFile.js"
import { dataFile, type Engine, openEngine, tableName } from "./engine.js"
import { Node } from "./Node.js"
import { PageFlag } from "./PageFile.js"
import * as Places from "./places.js"
import { type LeafSpan, type Lost, pageHeader, readLeaf } from "./readTree.js"
import { partsOf } from "./record.js"
import { formatKey, formatRecord } from "./scan.js"

export interface Salvaged {
  /** Records taken over. */
  readonly records: number
  /** Of these, records found outside of the damaged index; some may have been deleted before. */
  readonly recovered: number
  /** Records that failed their checksum, by table. */
  readonly setAside: { readonly [table: string]: number }
  /** Records that could not be read at all; `null` when their number is not known. */
  readonly missing: number | null
  readonly missingFrom: ReadonlyArray<string>
  readonly problems: ReadonlyArray<string>
}

/** Where the bytes of damaged records are kept, a JSON line each: nothing else has them. A copy of the store has them, too. */
export const setAsideFile = (directory: string): string => path.join(directory, "damaged.jsonl")

/** Writes down damaged records of the store, behind those that were set aside before. */
export const appendSetAside = (directory: string, damaged: ReadonlyArray<Node>): void => {
  if (damaged.length === 0) return
  appendFileSync(setAsideFile(directory), damaged.map(setAsideLine).join(""), { mode: 0o600, flush: true })
}

const copySetAside = (from: string, to: string) => {
  if (!existsSync(setAsideFile(from))) return
  writeFileSync(setAsideFile(to), readFileSync(setAsideFile(from)), { mode: 0o600, flush: true })
}

const setAsideLine = ({ key, value }: Node): string => {
  const parts = partsOf(key)
  const kept = { table: tableName(key), key: parts.key, bytes: value?.toString("base64") ?? null }
  return `${JSON.stringify(kept)}\n`
}

export const countByTable = (nodes: ReadonlyArray<Node>): { readonly [table: string]: number } => {
  const counts: Record<string, number> = {}
  for (const { key } of nodes) counts[tableName(key)] = (counts[tableName(key)] ?? 0) + 1
  return counts
}

/** Puts records into a new store, some megabytes a commit. */
class Copy {
  private readonly engine: Engine
  private nodes: Array<Node> = []
  private bytes = 0

  constructor(directory: string) {
    mkdirSync(directory, { mode: 0o700 })
    this.engine = openEngine(directory)
  }

  put(node: Node): void {
    // A view on what is read now, and read over later.
    this.nodes.push(node.copy())
    this.bytes += node.size
    if (this.bytes > 2 ** 24) this.commit()
  }

  commit(): void {
    const nodes = this.nodes
    this.nodes = []
    this.bytes = 0
    if (nodes.length === 0) return
    this.engine.transactionSync(() => {
      for (const { key, value } of nodes) this.engine.put(key, value!)
    })
  }

  has(key: string): boolean {
    return this.engine.doesExist(key)
  }

  close(): Promise<void> {
    this.commit()
    return this.engine.close()
  }
}

/**
 * Copies what can be read of the store in `from`, and what was set aside of it, into a new one in `to`. That is durable when the
 * promise resolves, and until then not there: whatever ends the process, half a copy is never taken for a store. `check` looks at the copy before
 * that, and throws when it is not to be.
 */
export const copyStore = async (
  from: string,
  to: string,
  check: (copy: string) => void = () => undefined
): Promise<Salvaged> => {
  const unfinished = Places.unfinished(to)
  Places.removeUnfinished(to)
  const copy = new Copy(unfinished)
  try {
    const salvaged = takeAll(from, copy, unfinished)
    await copy.close()
    check(unfinished)
    Places.flushDirectory(unfinished)
    renameSync(unfinished, to)
    Places.flushDirectory(path.dirname(to))
    return salvaged
  } catch (error) {
    await copy.close().catch(() => undefined)
    rmSync(unfinished, { recursive: true, force: true })
    throw error
  }
}

const takeAll = (from: string, copy: Copy, to: string): Salvaged => {
  let records = 0
  const damaged: Array<Node> = []
  const spans: Array<LeafSpan> = []
  const reading = readFile(dataFile(from), {
    onNode: (node) => {
      if (node.isWhole) {
        records++
        copy.put(node)
      } else damaged.push(node.copy())
    },
    onLeaf: (span) => spans.push(span)
  })
  try {
    copy.commit()
    const recovered = new Set<string>()
    for (const node of recover(reading, spans)) {
      if (copy.has(node.key) || recovered.has(node.key)) continue
      if (node.isWhole) {
        recovered.add(node.key)
        copy.put(node)
      } else damaged.push(node)
    }
    const lines = damaged.filter(({ key }) => !copy.has(key) && !recovered.has(key))
    if (!copy.has(formatKey) && !recovered.has(formatKey)) copy.put(Node.of(formatKey, formatRecord()))
    copySetAside(from, to)
    appendSetAside(to, lines)
    const missing = missingOf(reading, records + recovered.size + lines.length)
    return {
      records: records + recovered.size,
      recovered: recovered.size,
      setAside: countByTable(lines),
      missing,
      missingFrom: missing === 0 ? [] : tablesOf(reading.lost),
      problems: reading.problems
    }
  } finally {
    reading.file.close()
  }
}

const missingOf = ({ expected, file }: FileReading, found: number): number | null =>
  // No record takes fewer bytes.
  expected === undefined || expected > file.size / 16 ? null : Math.max(0, expected - found)

const tablesOf = (lost: ReadonlyArray<Lost>): ReadonlyArray<string> => {
  const ends = lost.flatMap(({ from, until }) => [from ?? "", until ?? ""])
  return [...new Set(ends.map((key) => (key === "" ? "unknown" : tableName(key))))].sort()
}

/**
 * Leaf pages that nothing leads to any more: where pages are lost, a page that is not free is one of them. Where it is not
 * known what is free, the latest of pages with the same keys is: leaves of one commit never overlap.
 */
function* recover(reading: FileReading, spans: ReadonlyArray<LeafSpan>): Generator<Node> {
  const { file, freePages, lost, meta, seen, txn } = reading
  if (lost.length === 0) return
  const visit = {
    file,
    txn,
    tree: undefined as never,
    name: "",
    lastPage: file.pages,
    seen: new Uint8Array(0),
    isOrdered: true,
    isWhole: (node: Node) => node.isWhole,
    onNode: () => undefined
  }
  const found: Array<{ readonly page: number; readonly txn: number; readonly first: string; readonly last: string }> =
    []
  for (let page = 2; page < file.pages; page++) {
    if (seen[page] === 1) continue
    const bytes = file.page(page)
    if (bytes === undefined) continue
    const header = pageHeader(bytes)
    if (header.flags !== PageFlag.Leaf || header.number !== page || header.txn > txn) continue
    // Free for the commit that says so, unless a later one has used it.
    if (freePages?.has(page) === true && header.txn <= meta!.txn) continue
    const keys = readLeaf(visit, bytes, () => undefined)
      .nodes.filter((node) => node.isWhole)
      .map(({ key }) => key)
      .sort()
    const [first, last] = [keys[0], keys[keys.length - 1]]
    if (first === undefined || last === undefined || !isWithin(lost, first, last)) continue
    found.push({ page, txn: header.txn, first, last })
  }
  const taken = new Spans(spans)
  for (const { first, last, page } of found.sort((a, b) => b.txn - a.txn)) {
    if (!taken.add(first, last)) continue
    const bytes = file.page(page)
    if (bytes !== undefined) yield* readLeaf(visit, bytes, () => undefined).nodes
  }
}

const isWithin = (lost: ReadonlyArray<Lost>, first: string, last: string) =>
  lost.some(({ from, until }) => (from === undefined || last >= from) && (until === undefined || first < until))

/** Spans of keys that do not overlap. */
class Spans {
  private readonly spans: Array<LeafSpan>

  constructor(spans: ReadonlyArray<LeafSpan>) {
    this.spans = [...spans].sort((a, b) => (a.first < b.first ? -1 : 1))
  }

  /** `false` when it overlaps one that is there. */
  add(first: string, last: string): boolean {
    let low = 0
    let high = this.spans.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.spans[middle]!.last < first) low = middle + 1
      else high = middle
    }
    const next = this.spans[low]
    if (next !== undefined && next.first <= last) return false
    this.spans.splice(low, 0, { first, last })
    return true
  }
}
