/** Reads and writes of an opened store. */
import { statfs } from "node:fs/promises"
import type { Key, KeyRange, KeySummary, Op, Table } from "../../services/Store.js"
import type { StoreDriver } from "../internal/groupCommit.js"
import { dataFile, type Engine, openEngine, usedBytes } from "./engine.js"
import { currentVersion, type Migrations } from "./migrations.js"
import { encode, fullKey, isWhole, partsOf, recordValue } from "./record.js"
import { Reserve } from "./reserve.js"
import { Snapshot } from "./snapshot.js"

export interface DriverOptions {
  readonly directory: string
  /** Nothing is written while the disk has less than this, in bytes. */
  readonly freeDiskBytes: number
  /** How long a look at the disk is good for, milliseconds. */
  readonly freeDiskMs: number
  /** Bytes that are free on the disk of the directory; `undefined` where it cannot be told. */
  readonly freeDisk: (directory: string) => Promise<number | undefined>
  readonly migrations: Migrations
  /** So much of what is changed while a snapshot is read is kept for it, in bytes. */
  readonly snapshotBytes: number
  /** What was gathered when the store was opened. */
  readonly summaries: ReadonlyMap<KeySummary<unknown>, unknown>
  /** A record that was sound at the start is no longer: it is left out of what is read. */
  readonly onDamaged: (table: string, key: Key) => void
}

/** What the file system says. */
export const freeDisk = (directory: string): Promise<number | undefined> =>
  statfs(directory).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => undefined
  )

const MiB = 2 ** 20

export interface OpenedDriver extends StoreDriver {
  /** All records of this moment; whoever takes it ends it. It ends by itself when the store is closed. */
  readonly snapshot: () => Snapshot
  /** Bytes in use by records and their index. */
  readonly usedBytes: () => number
  readonly close: () => Promise<void>
}

export const makeDriver = (opened: Engine, options: DriverOptions): OpenedDriver => {
  const { directory, freeDiskBytes, migrations, onDamaged } = options
  let engine = opened
  const reserve = new Reserve(directory)
  const snapshots = new Set<Snapshot>()
  const summaries = new Map(options.summaries)
  /** Of the commit that is under way. */
  let changing: ReadonlyArray<{ readonly full: string }> = []
  let hasFailed = false
  let lookedAt = Number.NEGATIVE_INFINITY

  /** Rejects below the limit. */
  const roomOnDisk = async () => {
    const free = await options.freeDisk(directory)
    if (free !== undefined && free < freeDiskBytes) {
      lookedAt = Number.NEGATIVE_INFINITY
      throw new Error(
        `the disk of ${directory} has ${Math.floor(free / MiB)} MiB free, and nothing is stored below ${Math.ceil(freeDiskBytes / MiB)} MiB`
      )
    }
    lookedAt = performance.now()
  }

  const encoded = (op: Op) => {
    const full = fullKey(op.table.name, op.key)
    if (op._tag === "Delete") return { full, bytes: undefined }
    const version = currentVersion(migrations, op.table.name)
    if (version !== op.table.version) {
      throw new Error(`table ${op.table.name} has version ${op.table.version}, its migrations lead to ${version}`)
    }
    return { full, bytes: encode(full, version, op.value) }
  }

  const commit = (ops: ReadonlyArray<Op>) => {
    // Nothing may throw once the batch has begun: what is in it by then would be committed.
    const changes = ops.map(encoded)
    const bytes = changes.reduce((sum, change) => sum + change.full.length + (change.bytes?.length ?? 0), 0)
    reserve.take(engine, changes.length, bytes)
    for (const snapshot of [...snapshots]) for (const { full } of changes) snapshot.keep(full)
    changing = changes
    return engine.batch(() => {
      for (const { bytes, full } of changes) {
        if (bytes === undefined) engine.remove(full)
        else engine.put(full, bytes)
      }
    })
  }

  /** The engine takes no more writes once one of its meta pages could not be written, until it is opened again. */
  const recover = async () => {
    try {
      engine.transactionSync(() => undefined)
    } catch {
      await engine.close()
      engine = openEngine(directory)
    }
  }

  const write = async (ops: ReadonlyArray<Op>) => {
    if (performance.now() - lookedAt >= options.freeDiskMs) await roomOnDisk()
    if (hasFailed) await recover()
    try {
      await commit(ops)
      hasFailed = false
    } catch (error) {
      hasFailed = true
      throw new Error(`writing ${dataFile(directory)} failed: ${await reasonOf(error)}`)
    } finally {
      changing = []
    }
  }

  const whole = (full: string, bytes: Buffer): boolean => {
    if (isWhole(full, bytes)) return true
    const { key, table } = partsOf(full)
    onDamaged(table, key)
    return false
  }

  return {
    write,
    get: <A>(table: Table<A>, key: Key) => {
      const full = fullKey(table.name, key)
      const bytes = engine.getBinary(full)
      return bytes !== undefined && whole(full, bytes) ? (recordValue(bytes) as A) : undefined
    },
    range: <A>(table: Table<A>, { after, from, limit = Number.POSITIVE_INFINITY, until }: KeyRange) => {
      const start = fullKey(table.name, after !== undefined ? `${after}\u0000` : (from ?? ""))
      const end = fullKey(table.name, until)
      const found: Array<readonly [Key, A]> = []
      if (start >= end || limit <= 0) return found
      for (const { key, value } of engine.getRange({ start, end })) {
        if (!whole(key, value)) continue
        found.push([partsOf(key).key, recordValue(value) as A])
        if (found.length >= limit) break
      }
      return found
    },
    keys: (table) => {
      const prefix = fullKey(table, "")
      return engine.getKeys({ start: prefix, end: `${prefix}\u007f` }).map((full) => full.slice(prefix.length))
    },
    gathered: <S>(summary: KeySummary<S>) => {
      const gathered = summaries.get(summary) as S | undefined
      summaries.delete(summary)
      return gathered
    },
    count: <A>(table: Table<A>, { from = "", until }: Pick<KeyRange, "from" | "until">) => {
      const [start, end] = [fullKey(table.name, from), fullKey(table.name, until)]
      return start < end ? engine.getKeysCount({ start, end }) : 0
    },
    snapshot: () => {
      const snapshot = new Snapshot(
        () => engine,
        options.snapshotBytes,
        (ended) => snapshots.delete(ended)
      )
      snapshots.add(snapshot)
      // Whether these are as they were or will be is the same for all of them now, and would not be later.
      for (const { full } of changing) snapshot.keep(full)
      return snapshot
    },
    usedBytes: () => usedBytes(engine),
    close: () => {
      reserve.close()
      for (const snapshot of [...snapshots]) snapshot.end("the store was closed meanwhile")
      return engine.close()
    }
  }
}

/** A failed commit rejects twice: first that it failed, then why. */
const reasonOf = async (error: unknown): Promise<string> => {
  const why = (error as { readonly commitError?: Promise<never> }).commitError
  const reason = why === undefined ? error : await why.catch((second: unknown) => second)
  return reason instanceof Error ? reason.message : String(reason)
}
