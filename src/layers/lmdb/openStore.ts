/**
 * Opens a store so that what it serves is what was written.
 *
 * Everything is read and checked first, as bytes: a damaged file can end the process that gives it to the engine. A file that
 * is not sound, or whose last opening died, is kept, and its readable records are copied into a new one.
 */
import { closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs"
import * as path from "node:path"
import { Effect } from "effect"
import type { KeySummary } from "../../services/Store.js"
import { type SalvageFindings, StoreError, type StoreFindings } from "../../services/StoreReport.js"
import { secretDirectory } from "../internal/secretFile.js"
import { countRecords, dataFile, type Engine, openEngine } from "./engine.js"
import { currentVersion, type Migrations, migrated } from "./migrations.js"
import { canReadPages } from "./PageFile.js"
import * as Places from "./places.js"
import { encode, partsOf, recordValue, recordVersion } from "./record.js"
import { Reserve } from "./reserve.js"
import { appendSetAside, copyStore, countByTable, type Salvaged, setAsideFile } from "./salvage.js"
import { formatKey, formatRecord, refuseOther, type Scan, scan } from "./scan.js"

export interface OpenOptions {
  readonly directory: string
  readonly migrations: Migrations
  /** Gathered while everything is read; not when something is migrated. */
  readonly summaries: ReadonlyArray<KeySummary<unknown>>
  /** Copies what can be read of one store into a new one. */
  readonly salvage: (from: string, to: string) => Promise<Salvaged>
  /** Above this size a file that is mostly free is made smaller, in bytes. */
  readonly compactAboveBytes: number
  /** Bytes free on the disk of the directory; `undefined` where it cannot be told. */
  readonly freeDisk: (directory: string) => Promise<number | undefined>
  /** That much stays free, whatever the store does by itself. */
  readonly freeDiskBytes: number
}

export interface OpenedStore {
  readonly engine: Engine
  readonly findings: StoreFindings
  readonly summaries: Scan["summaries"]
}

const lockBytes = 16_384
const diskIsFull = new Set(["ENOSPC", "EDQUOT"])

export const openStore = (options: OpenOptions): Effect.Effect<OpenedStore, StoreError> => {
  const { directory } = options
  return Effect.gen(function* () {
    if (!canReadPages) {
      return yield* new StoreError({
        message: `The durable store does not run on ${process.arch}; choose another one.`
      })
    }
    const unusable = ({ message }: { readonly message: string }) => new StoreError({ message })
    yield* Effect.mapError(secretDirectory(path.dirname(directory)), unusable)
    const cannotBeOpened = (error: unknown) =>
      error instanceof StoreError
        ? error
        : new StoreError({ message: `The store ${directory} cannot be opened: ${(error as Error).message}.` })
    yield* Effect.try({ try: () => Places.settle(directory), catch: cannotBeOpened })
    if (existsSync(directory)) yield* Effect.mapError(secretDirectory(directory), unusable)
    return yield* Effect.tryPromise({
      try: async () => {
        const hasDied = existsSync(Places.openingMarker(directory))
        mark(directory)
        return await opened(options, hasDied)
      },
      catch: cannotBeOpened
    })
    // Whoever can still say what is wrong, or was asked to stop, has not died.
  }).pipe(
    Effect.tap(() => Effect.try(() => Places.removeMarker(directory)).pipe(Effect.ignore)),
    Effect.onError(() => Effect.try(() => Places.removeMarker(directory)).pipe(Effect.ignore)),
    Effect.uninterruptible
  )
}

/** On a full disk there is no marker: the store can still be read, and takes records when there is room. */
const mark = (directory: string) => {
  try {
    Places.writeMarker(directory)
  } catch (error) {
    if (!diskIsFull.has((error as NodeJS.ErrnoException).code ?? "")) throw error
  }
}

const opened = async (options: OpenOptions, hasDied: boolean): Promise<OpenedStore> => {
  const { directory, migrations, summaries } = options
  if (!existsSync(dataFile(directory))) await createStore(directory)
  let found = refuseOther(directory, scan(directory, migrations, summaries))
  let rescue: Rescue | undefined
  let compacted: StoreFindings["compacted"]
  if (hasDied || found.problems.length > 0) {
    rescue = await rescued(options, hasDied ? "Opening it had ended the process." : "The file is damaged.")
    found = rescue.found
  } else if (await isWorthCompacting(options, found)) {
    const before = found.fileBytes
    await copyStore(directory, Places.replacement(directory))
    Places.replaceStore(directory)
    found = scan(directory, migrations, summaries)
    compacted = { before, after: found.fileBytes }
  }

  let engine = openSound(directory)
  if (countRecords(engine) !== found.entries) {
    await engine.close()
    rescue = await rescued(options, "The engine reads it otherwise than it is.")
    found = rescue.found
    engine = openSound(directory)
  }
  try {
    mend(engine, directory, found)
    const count = migrate(engine, options, found)
    const file = setAsideFile(directory)
    const findings: StoreFindings = {
      records: found.records,
      setAside: rescue?.setAside ?? countByTable(found.damaged),
      setAsideFile: existsSync(file) ? file : undefined,
      salvaged: rescue?.findings,
      damagedCopies: Places.damagedCopies(directory),
      migrated: count,
      compacted
    }
    // A migration may remove records.
    return { engine, findings, summaries: count === 0 ? found.summaries : new Map() }
  } catch (error) {
    await engine.close()
    throw error
  }
}

const createStore = async (directory: string) => {
  const fresh = existsSync(directory) ? directory : Places.unfinished(directory)
  mkdirSync(fresh, { mode: 0o700, recursive: true })
  const engine = openSound(fresh)
  engine.putSync(formatKey, formatRecord())
  await engine.close()
  Places.flushDirectory(fresh)
  if (fresh !== directory) renameSync(fresh, directory)
  Places.flushDirectory(path.dirname(directory))
}

/** The lock file is mapped and written to: where the disk has no room for it, that would end the process. */
const openSound = (directory: string): Engine => {
  const file = `${dataFile(directory)}-lock`
  if (!existsSync(file) || statSync(file).size < lockBytes / 2) {
    const fd = openSync(file, "w", 0o600)
    try {
      writeSync(fd, Buffer.alloc(lockBytes))
    } finally {
      closeSync(fd)
    }
  }
  return openEngine(directory)
}

interface Rescue {
  readonly findings: SalvageFindings
  readonly setAside: Salvaged["setAside"]
  /** In the new store. */
  readonly found: Scan
}

const rescued = async (options: OpenOptions, reason: string): Promise<Rescue> => {
  const { directory, migrations, salvage, summaries } = options
  const copy = Places.replacement(directory)
  const salvaged = await salvage(directory, copy).catch((error: Error) => {
    throw new StoreError({
      message: `The store ${directory} is damaged and could not be copied: ${error.message}. It is as it was.`
    })
  })
  const { missing, missingFrom, problems, recovered, setAside } = salvaged
  let found: Scan
  try {
    found = soundCopy(directory, scan(copy, migrations, summaries))
  } catch (error) {
    rmSync(copy, { recursive: true, force: true })
    throw error
  }
  let keptAs: string | undefined
  if (problems.length === 0 && Object.keys(setAside).length === 0) Places.replaceStore(directory)
  else keptAs = Places.keepDamaged(directory, new Date())
  return {
    findings: { reason, missing: missing ?? undefined, missingFrom, recovered, problems, keptAs },
    setAside,
    found
  }
}

/** What was found outside of the index may be of a newer version, too. */
const soundCopy = (directory: string, found: Scan): Scan => {
  const [problem] = refuseOther(directory, found).problems
  if (problem === undefined) return found
  throw new StoreError({
    message: `The copy of the damaged store ${directory} is not sound: ${problem} It is as it was.`
  })
}

/** Not what is damaged: that is set aside first, and told of. */
const isWorthCompacting = async (options: OpenOptions, { damaged, fileBytes, freeBytes }: Scan) => {
  if (damaged.length > 0 || fileBytes <= options.compactAboveBytes || freeBytes * 2 <= fileBytes) return false
  const free = await options.freeDisk(options.directory)
  return free === undefined || free - (fileBytes - freeBytes) > options.freeDiskBytes
}

const commitNow = (engine: Engine, directory: string, changes: number, bytes: number, run: () => void) => {
  const reserve = new Reserve(directory)
  try {
    reserve.take(engine, changes, bytes)
    engine.transactionSync(run)
  } finally {
    reserve.close()
  }
}

/**
 * Sets damaged records aside, and writes the format where it was among them: without it a later version would not be told from
 * this one. What cannot be done now, for a full disk, is left to the next start: damaged records are never read.
 */
const mend = (engine: Engine, directory: string, { damaged, format }: Scan) => {
  if (damaged.length === 0 && format !== undefined) return
  try {
    appendSetAside(directory, damaged)
    commitNow(engine, directory, damaged.length + 1, 0, () => {
      for (const { key } of damaged) engine.removeSync(key)
      if (format === undefined) engine.putSync(formatKey, formatRecord())
    })
  } catch (error) {
    if (!/space|quota/i.test((error as Error).message)) throw error
  }
}

const migrate = (engine: Engine, { directory, migrations }: OpenOptions, { outdated }: Scan): number => {
  if (outdated.length === 0) return 0
  // All or nothing: a fault of a migration leaves the store as it was.
  const changes = outdated.map((full) => {
    const { key, table } = partsOf(full)
    const bytes = engine.getBinary(full)!
    const value = migrated(migrations, table, key, recordVersion(bytes), recordValue(bytes))
    return { full, bytes: value === undefined ? undefined : encode(full, currentVersion(migrations, table), value) }
  })
  const bytes = changes.reduce((sum, change) => sum + (change.bytes?.length ?? 0), 0)
  commitNow(engine, directory, changes.length, bytes, () => {
    for (const { bytes, full } of changes) {
      if (bytes === undefined) engine.removeSync(full)
      else engine.putSync(full, bytes)
    }
  })
  return changes.length
}
