/** The engine, opened as this store uses it: one file, one tree, text keys in byte order, every commit flushed. */
import { chmodSync, existsSync } from "node:fs"
import * as path from "node:path"
import { open, type RootDatabase } from "lmdb"
import { partsOf } from "./record.js"

export type Engine = RootDatabase<Buffer, string>

export const dataFile = (directory: string): string => path.join(directory, "data.mdb")

/** The smallest key there may be. */
export const firstKey = "\u0001"

const keyEncoder = {
  writeKey: (key: string, target: Buffer, start: number) => start + target.write(key, start, "latin1"),
  readKey: (bytes: Buffer, start: number, end: number) => bytes.toString("latin1", start, end)
}

/** Throws when the file cannot be opened. The file must be known to be sound: the engine trusts it. */
export const openEngine = (directory: string): Engine => {
  const file = dataFile(directory)
  // Not among the documented options.
  const permissions = { permissionsMode: 0o600 }
  const engine = open<Buffer, string>({
    path: file,
    noSubdir: true,
    overlappingSync: false,
    // One batch is one commit already; the implicit one has a promise of its own, whose rejection nobody could take.
    eventTurnBatching: false,
    encoding: "binary",
    keyEncoder,
    ...permissions
  })
  for (const name of [file, `${file}-lock`]) if (existsSync(name)) chmodSync(name, 0o600)
  return engine
}

/** How many records there are, by the commit that the engine has chosen. */
export const countRecords = (engine: Engine): number =>
  (engine.getStats() as { readonly entryCount: number }).entryCount

/** The last page in use and the size of pages. Not among the documented calls; those that are walk the free pages. */
export const lastPage = (engine: Engine): { readonly last: number; readonly pageSize: number } => {
  const { env } = engine as unknown as {
    readonly env: { readonly info: () => { lastPageNumber: number }; readonly stat: () => { pageSize: number } }
  }
  return { last: env.info().lastPageNumber, pageSize: env.stat().pageSize }
}

/** Bytes of the pages that hold records, their index, and what the engine keeps of itself. Not among the documented calls. */
export const usedBytes = (engine: Engine): number => {
  const { env } = engine as unknown as {
    readonly env: { readonly stat: () => PageCounts; readonly freeStat: () => PageCounts }
  }
  const pagesOf = ({ overflowPages, treeBranchPageCount, treeLeafPageCount }: PageCounts) =>
    overflowPages + treeBranchPageCount + treeLeafPageCount
  const stat = env.stat()
  return (pagesOf(stat) + pagesOf(env.freeStat()) + metaPages) * stat.pageSize
}

const metaPages = 2

interface PageCounts {
  readonly pageSize: number
  readonly overflowPages: number
  readonly treeBranchPageCount: number
  readonly treeLeafPageCount: number
}

/** The table a full key belongs to; names that are none of ours are said to be unknown. */
export const tableName = (full: string): string => {
  const { table } = partsOf(full)
  return /^[a-z][a-z0-9_]*$/.test(table) ? table : "unknown"
}
