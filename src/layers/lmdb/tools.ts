/**
 * What an operator can do with a store that no broker has opened. Whoever calls these holds the broker's lock; those that only
 * read may be used beside a running broker, but then can find pages in the middle of being written.
 */
import { existsSync } from "node:fs"
import { Effect } from "effect"
import { StoreError } from "../../services/StoreReport.js"
import * as tables from "../internal/messageTables.js"
import { readFile } from "./checkFile.js"
import { dataFile } from "./engine.js"
import { migrations } from "./migrations.js"
import * as Places from "./places.js"
import { exportLine, partsOf } from "./record.js"
import { copyStore, countByTable, type Salvaged } from "./salvage.js"
import { formatKey, refusalOf, refuseOther, type Scan, scan, type TableScan } from "./scan.js"

const attempt = <A>(doing: string, directory: string, run: () => A | Promise<A>): Effect.Effect<A, StoreError> =>
  Effect.tryPromise({
    try: async () => {
      if (!existsSync(dataFile(directory))) throw new Error("there is no store")
      return await run()
    },
    catch: (error) =>
      error instanceof StoreError
        ? error
        : new StoreError({ message: `${doing} ${directory} failed: ${(error as Error).message}.` })
    // Who is interrupted gives the lock back: nothing of it may go on then.
  }).pipe(Effect.uninterruptible)

/** Reads all of it first, and refuses a store that a broker of this version would refuse. */
const known = (directory: string): Scan => refuseOther(directory, scan(directory, migrations))

export interface Inspection {
  readonly format: number | undefined
  readonly fileBytes: number
  readonly freeBytes: number
  readonly records: number
  readonly tables: { readonly [table: string]: TableScan }
  /** Records that fail their checksum, by table. */
  readonly damaged: { readonly [table: string]: number }
  readonly damagedCopies: ReadonlyArray<string>
}

/** What the store holds. */
export const inspect = (directory: string): Effect.Effect<Inspection, StoreError> =>
  attempt("Inspecting", directory, () => {
    const { damaged, fileBytes, format, freeBytes, records, tables } = known(directory)
    const damagedCopies = Places.damagedCopies(directory)
    return { format, fileBytes, freeBytes, records, tables, damaged: countByTable(damaged), damagedCopies }
  })

export interface Verification {
  readonly isSound: boolean
  readonly records: number
  /** Records that fail their checksum, by table. */
  readonly damaged: { readonly [table: string]: number }
  /** In sentences. */
  readonly problems: ReadonlyArray<string>
}

/** Whether everything in it is as it was written, by a version that this one knows. Changes nothing. */
export const verify = (directory: string): Effect.Effect<Verification, StoreError> =>
  attempt("Verifying", directory, () => {
    const found = scan(directory, migrations)
    const { damaged, records } = found
    const refusal = refusalOf(directory, found)
    const problems = refusal === undefined ? found.problems : [...found.problems, refusal]
    return {
      isSound: problems.length === 0 && damaged.length === 0,
      records,
      damaged: countByTable(damaged),
      problems
    }
  })

/** The last opening of the store ended its process, and it was not opened since. */
export const diedOpening = (directory: string): boolean => existsSync(Places.openingMarker(directory))

/** Makes the file as small as its records allow. A store that is not sound is left as it is. */
export const compact = (
  directory: string
): Effect.Effect<{ readonly before: number; readonly after: number }, StoreError> =>
  attempt("Compacting", directory, async () => {
    Places.settle(directory)
    const { damaged, fileBytes, problems } = known(directory)
    if (problems.length > 0 || damaged.length > 0) throw new Error("it is damaged; salvage it first")
    await copyStore(directory, Places.replacement(directory))
    Places.replaceStore(directory)
    return { before: fileBytes, after: scan(directory, migrations).fileBytes }
  })

/** Hands every sound record, in key order, as a line of JSON `{"table","key","version","value"}`. */
export const exportLines = (
  directory: string,
  write: (line: string) => void
): Effect.Effect<
  { readonly records: number; readonly damaged: number; readonly problems: ReadonlyArray<string> },
  StoreError
> =>
  attempt("Exporting", directory, () => {
    known(directory)
    let records = 0
    let damaged = 0
    const { file, problems } = readFile(dataFile(directory), {
      onNode: (node) => {
        if (!node.isWhole) damaged++
        else if (node.key !== formatKey) {
          write(exportLine(node.key, node.value!))
          records++
        }
      }
    })
    file.close()
    return { records, damaged, problems }
  })

export interface HeldMessages {
  /** Mail of endpoints, by the key of each. */
  readonly mail: ReadonlyMap<string, number>
  readonly inbox: number
  readonly deadLetters: number
  /** Keys of mail that belongs to no endpoint and is not on its way to the inbox either: the next start sends it there. */
  readonly ownerless: ReadonlyArray<string>
}

/** Where accepted messages lie. */
export const heldMessages = (directory: string): Effect.Effect<HeldMessages, StoreError> =>
  attempt("Counting the messages of", directory, () => {
    known(directory)
    const mail = new Map<string, number>()
    const owners = new Set<string>()
    const counts: Record<string, number> = {}
    const { file } = readFile(dataFile(directory), {
      onNode: (node) => {
        const { key, table } = partsOf(node.key)
        if (!node.isWhole) return
        counts[table] = (counts[table] ?? 0) + 1
        if (owningTables.has(table)) owners.add(key)
        if (table !== tables.mail.name) return
        const owner = key.slice(0, key.indexOf("/"))
        mail.set(owner, (mail.get(owner) ?? 0) + 1)
      }
    })
    file.close()
    return {
      mail,
      inbox: counts[tables.inbox.name] ?? 0,
      deadLetters: counts[tables.deadLetters.name] ?? 0,
      ownerless: [...mail.keys()].filter((owner) => !owners.has(owner))
    }
  })

/** Endpoints, and mail of ended ones that is on its way. */
const owningTables: ReadonlySet<string> = new Set(["endpoints", "mail_moves"])

/** Copies what can be read of a store, or of a kept damaged one, into a new directory. */
export const salvage = (from: string, to: string): Effect.Effect<Salvaged, StoreError> =>
  attempt("Salvaging", from, () => {
    if (existsSync(to)) throw new Error(`${to} is there already`)
    known(from)
    return copyStore(from, to, (copy) => refuseOther(from, scan(copy, migrations)))
  })
