/**
 * What an operator can do with a store that no broker has opened. Whoever calls these holds the broker's lock; those that only
 * read may be used beside a running broker, but then can find pages in the middle of being written.
 */
import { existsSync } from "node:fs"
import { Effect } from "effect"
import { StoreError } from "../../services/StoreReport.js"
import { nodeIsWhole, readFile } from "./checkFile.js"
import { dataFile, tableName } from "./engine.js"
import { type Migrations, migrations } from "./migrations.js"
import * as Places from "./places.js"
import { partsOf, recordValue, recordVersion } from "./record.js"
import { copyStore, countByTable, type Salvaged } from "./salvage.js"
import { formatKey, type Scan, scan, type TableScan } from "./scan.js"

const attempt = <A>(doing: string, directory: string, run: () => A | Promise<A>): Effect.Effect<A, StoreError> =>
  Effect.tryPromise({
    try: async () => {
      if (!existsSync(dataFile(directory))) throw new Error("there is no store")
      return await run()
    },
    catch: (error) => new StoreError({ message: `${doing} ${directory} failed: ${(error as Error).message}.` })
  })

export interface Inspection {
  readonly format: number | undefined
  readonly fileBytes: number
  readonly freeBytes: number
  readonly records: number
  readonly tables: { readonly [table: string]: TableScan }
  readonly damagedCopies: ReadonlyArray<string>
}

/** What the store holds. */
export const inspect = (directory: string): Effect.Effect<Inspection, StoreError> =>
  attempt("Inspecting", directory, () => {
    const { fileBytes, format, freeBytes, records, tables } = scan(directory, migrations)
    return { format, fileBytes, freeBytes, records, tables, damagedCopies: Places.damagedCopies(directory) }
  })

export interface Verification {
  readonly isSound: boolean
  readonly records: number
  /** Records that fail their checksum, by table. */
  readonly damaged: { readonly [table: string]: number }
  /** In sentences. */
  readonly problems: ReadonlyArray<string>
}

/** Whether everything in it is as it was written. Changes nothing. */
export const verify = (directory: string, known: Migrations = migrations): Effect.Effect<Verification, StoreError> =>
  attempt("Verifying", directory, () => {
    const { damaged, newer, problems, records } = scan(directory, known)
    return {
      isSound: problems.length === 0 && damaged.length === 0,
      records,
      damaged: countByTable(damaged),
      problems: newer === undefined ? problems : [...problems, `It was written by a newer version: ${newer}.`]
    }
  })

/** Makes the file as small as its records allow. A store that is not sound is left as it is. */
export const compact = (
  directory: string
): Effect.Effect<{ readonly before: number; readonly after: number }, StoreError> =>
  attempt("Compacting", directory, async () => {
    Places.settle(directory)
    const { damaged, fileBytes, problems }: Scan = scan(directory, migrations)
    if (problems.length > 0 || damaged.length > 0) throw new Error("it is damaged; salvage it first")
    await copyStore(directory, Places.replacement(directory))
    Places.replaceStore(directory)
    return { before: fileBytes, after: scan(directory, migrations).fileBytes }
  })

/** Hands every sound record, in key order, as a line of JSON `{"table","key","version","value"}`. Returns how many. */
export const exportLines = (directory: string, write: (line: string) => void): Effect.Effect<number, StoreError> =>
  attempt("Exporting", directory, () => {
    let count = 0
    const { file } = readFile(dataFile(directory), {
      onNode: (node) => {
        if (node.key === formatKey || !nodeIsWhole(node)) return
        const bytes = node.value!
        const version = recordVersion(bytes)
        const record = { table: tableName(node.key), key: partsOf(node.key).key, version, value: recordValue(bytes) }
        write(`${JSON.stringify(record)}\n`)
        count++
      }
    })
    file.close()
    return count
  })

/** Copies what can be read of a store, or of a kept damaged one, into a new directory. */
export const salvage = (from: string, to: string): Effect.Effect<Salvaged, StoreError> =>
  attempt("Salvaging", from, () => {
    if (existsSync(to)) throw new Error(`${to} is there already`)
    return copyStore(from, to)
  })
