/** What a store holds, and whether all of it is as it was written. */
import type { KeySummary } from "../../services/Store.js"
import { StoreError } from "../../services/StoreReport.js"
import { engineVersion, readFile } from "./checkFile.js"
import { dataFile, tableName } from "./engine.js"
import { currentVersion, type Migrations, storeFormat } from "./migrations.js"
import type { Node } from "./Node.js"
import { encode, fullKey, partsOf, recordValue } from "./record.js"

/** The store's own record; no service has a table of this name. */
const storeTable = "store"
export const formatKey = fullKey(storeTable, "format")
export const formatRecord = (): Buffer => encode(formatKey, 1, { format: storeFormat })

export interface TableScan {
  readonly records: number
  /** Of keys and values. */
  readonly bytes: number
  /** Versions of records that occur, with how many there are. */
  readonly versions: { readonly [version: number]: number }
}

interface Counted {
  /** Of its keys. */
  readonly prefix: string
  /** The version its records are written with. */
  readonly current: number
  readonly wanted: KeySummary<unknown> | undefined
  records: number
  bytes: number
  readonly versions: Map<number, number>
}

const told = ([table, { bytes, records, versions }]: readonly [string, Counted]): readonly [string, TableScan] => [
  table,
  { records, bytes, versions: Object.fromEntries(versions) }
]

export interface Scan {
  /** What is wrong with the file, in sentences; damaged records alone are not. */
  readonly problems: ReadonlyArray<string>
  /** `undefined` when there is no record of it. */
  readonly format: number | undefined
  readonly tables: { readonly [table: string]: TableScan }
  /** Sound ones of services. */
  readonly records: number
  /** All there are, as the engine counts them. */
  readonly entries: number
  /** Records that failed their checksum. */
  readonly damaged: ReadonlyArray<Node>
  /** Full keys of records that are to be migrated. */
  readonly outdated: ReadonlyArray<string>
  /** What only a newer version can have written, in words. */
  readonly newer: string | undefined
  readonly fileBytes: number
  /** Of pages that hold nothing. */
  readonly freeBytes: number
  /** Of sound records. */
  readonly summaries: ReadonlyMap<KeySummary<unknown>, unknown>
}

/** Why this version must not serve, copy or change the store, as a sentence; `undefined` when it may. */
export const refusalOf = (directory: string, { format = storeFormat, newer }: Scan): string | undefined => {
  if (newer !== undefined) {
    return `The store ${directory} was written by a newer version of the broker (${newer}); start that version.`
  }
  return format < storeFormat
    ? `The store ${directory} has format ${format}, from before the first release, which is not read any more; move it away.`
    : undefined
}

/** The same as it is. Throws a `StoreError` when it must be refused. */
export const refuseOther = (directory: string, found: Scan): Scan => {
  const message = refusalOf(directory, found)
  if (message !== undefined) throw new StoreError({ message })
  return found
}

/** Reads everything, without the engine, and gathers the summaries on the way. Throws when the file cannot be opened. */
export const scan = (
  directory: string,
  migrations: Migrations,
  summaries: ReadonlyArray<KeySummary<unknown>> = []
): Scan => {
  const gathered = new Map(summaries.map((summary) => [summary, summary.empty()]))
  const tables = new Map<string, Counted>()
  const damaged: Array<Node> = []
  const outdated: Array<string> = []
  let format: number | undefined
  let newer: string | undefined
  let records = 0
  let entries = 0

  const countedOf = (table: string): Counted => {
    let counted = tables.get(table)
    if (counted === undefined) {
      const current = currentVersion(migrations, table)
      const wanted = summaries.find((summary) => summary.table === table)
      counted = { prefix: fullKey(table, ""), current, wanted, records: 0, bytes: 0, versions: new Map() }
      tables.set(table, counted)
    }
    return counted
  }
  /** Records of a table lie together. */
  let counted: Counted | undefined

  const onNode = (node: Node) => {
    entries++
    if (!node.isWhole) {
      damaged.push(node.copy())
      return
    }
    if (counted === undefined || !node.keyStartsWith(counted.prefix)) {
      const { key } = node
      if (key === formatKey) {
        format = (recordValue(node.value!) as { readonly format: number }).format
        if (format > storeFormat) newer = `format ${format}, of which this version knows ${storeFormat}`
        return
      }
      counted = countedOf(partsOf(key).table)
    }
    records++
    const { current, prefix, versions, wanted } = counted
    const version = node.version
    counted.records++
    counted.bytes += node.size
    versions.set(version, (versions.get(version) ?? 0) + 1)
    wanted?.add(gathered.get(wanted), node.page, node.keyStart + prefix.length, node.keyEnd)
    if (version < current) outdated.push(node.key)
    if (version > current)
      newer ??= `version ${version} of table ${tableName(node.key)}, of which this version knows ${current}`
  }

  const { file, freePages, meta, problems } = readFile(dataFile(directory), { onNode })
  const [first, second] = file.metas.map((meta) => (meta?.isMeta === true ? meta.dataVersion : undefined))
  if (first !== undefined && first === second && first > engineVersion) newer = `version ${first} of the engine's file`
  const unused = Math.max(0, file.pages - (meta?.lastPage ?? file.pages) - 1)
  const sizes = { fileBytes: file.size, freeBytes: ((freePages?.size ?? 0) + unused) * file.pageSize }
  file.close()
  return {
    problems,
    format,
    tables: Object.fromEntries([...tables].sort(([a], [b]) => (a < b ? -1 : 1)).map(told)),
    records,
    entries,
    damaged,
    outdated,
    newer,
    summaries: gathered,
    ...sizes
  }
}
