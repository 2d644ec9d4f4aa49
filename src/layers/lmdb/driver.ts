/** Reads and writes of an opened store. */
import { statSync } from "node:fs"
import type { Key, KeyRange, KeySummary, Op, Table, Transaction } from "../../services/Store.js"
import type { StoreDriver } from "../internal/groupCommit.js"
import { dataFile, type Engine, openEngine, usedBytes } from "./engine.js"
import { currentVersion, type Migrations } from "./migrations.js"
import { encode, fullKey, isWhole, partsOf, recordValue } from "./record.js"
import { large, Reserve } from "./reserve.js"
import type { Room } from "./room.js"
import { Snapshot } from "./snapshot.js"

export interface DriverOptions {
  readonly directory: string
  readonly room: Room
  readonly migrations: Migrations
  /** So much of what is changed while a snapshot is read is kept for it, in bytes. */
  readonly snapshotBytes: number
  /** What was gathered when the store was opened. */
  readonly summaries: ReadonlyMap<KeySummary<unknown>, unknown>
  /** A record that was sound at the start is no longer: it is left out of what is read. */
  readonly onDamaged: (table: string, key: Key) => void
}

/** More is not written together, in bytes: a write needs its size once more beside all that is there, and small records twice that. */
const mostBytes = 8 * 2 ** 20

export interface OpenedDriver extends StoreDriver {
  /** All records of this moment; whoever takes it ends it. It ends by itself when the store is closed. */
  readonly snapshot: () => Snapshot
  /** Bytes in use by records and their index. */
  readonly usedBytes: () => number
  readonly close: () => Promise<void>
}

export const makeDriver = (opened: Engine, options: DriverOptions): OpenedDriver => {
  const { directory, migrations, onDamaged, room } = options
  let engine = opened
  const reserve = new Reserve(directory)
  const snapshots = new Set<Snapshot>()
  const summaries = new Map(options.summaries)
  /** Of the commit that is under way. */
  let changing: ReadonlyArray<{ readonly full: string }> = []
  let hasFailed = false
  let isClosed = false

  /** The engine, where it can be read. Asked while it is closed, it would end the process. */
  const open = (): Engine => {
    if (isClosed)
      throw new Error(`${dataFile(directory)} could not be read: it is being opened again after a failed write`)
    return engine
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

  /** The first of these that are to be written together. */
  const encodedFirst = (batch: ReadonlyArray<Transaction>) => {
    const changes: Array<ReturnType<typeof encoded>> = []
    let bytes = 0
    let count = 0
    for (const { ops } of batch) {
      const own = ops.map(encoded)
      const size = own.reduce((sum, change) => sum + sizeOf(change), 0)
      if (count > 0 && bytes + size > mostBytes) break
      for (const change of own) changes.push(change)
      bytes += size
      count++
    }
    return { bytes, changes, count }
  }

  const commit = ({ bytes, changes }: ReturnType<typeof encodedFirst>) => {
    const largeBytes = changes.reduce((sum, change) => sum + (sizeOf(change) > large ? sizeOf(change) : 0), 0)
    room.taken(reserve.take(engine, changes.length, bytes, largeBytes))
    for (const snapshot of [...snapshots]) for (const { full } of changes) snapshot.keep(full)
    changing = changes
    // Nothing may throw once the batch has begun: what is in it by then would be committed.
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
      open().transactionSync(() => undefined)
    } catch {
      if (!isClosed) {
        isClosed = true
        await engine.close()
      }
      engine = openEngine(directory)
      isClosed = false
    }
  }

  const file = identityOf(dataFile(directory))

  /** What is written to a file that has no name any more is gone at the next start. */
  const checkFile = () => {
    if (identityOf(dataFile(directory)) === file) return
    throw new Error("the file was removed or replaced while the broker runs; put it back, or restart the broker")
  }

  const write = async (batch: ReadonlyArray<Transaction>) => {
    try {
      checkFile()
      if (hasFailed) await recover()
      const first = encodedFirst(batch)
      await commit(first)
      hasFailed = false
      return first.count
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
    shortage: () => room.shortage(),
    get: <A>(table: Table<A>, key: Key) => {
      const full = fullKey(table.name, key)
      const bytes = open().getBinary(full)
      return bytes !== undefined && whole(full, bytes) ? (recordValue(bytes) as A) : undefined
    },
    range: <A>(table: Table<A>, range: KeyRange) => {
      const { after, bytes = Number.POSITIVE_INFINITY, from, limit = Number.POSITIVE_INFINITY, until } = range
      const start = fullKey(table.name, after !== undefined ? `${after}\u0000` : (from ?? ""))
      const end = fullKey(table.name, until)
      const found: Array<readonly [Key, A]> = []
      if (start >= end || limit <= 0) return found
      let size = 0
      for (const { key, value } of open().getRange({ start, end })) {
        if (!whole(key, value)) continue
        size += value.length
        if (size > bytes && found.length > 0) break
        found.push([partsOf(key).key, recordValue(value) as A])
        if (found.length >= limit) break
      }
      return found
    },
    keys: (table) => {
      const prefix = fullKey(table, "")
      return open()
        .getKeys({ start: prefix, end: `${prefix}\u007f` })
        .map((full) => full.slice(prefix.length))
    },
    gathered: <S>(summary: KeySummary<S>) => {
      const gathered = summaries.get(summary) as S | undefined
      summaries.delete(summary)
      return gathered
    },
    count: <A>(table: Table<A>, { from = "", until }: Pick<KeyRange, "from" | "until">) => {
      const [start, end] = [fullKey(table.name, from), fullKey(table.name, until)]
      return start < end ? open().getKeysCount({ start, end }) : 0
    },
    snapshot: () => {
      const snapshot = new Snapshot(open, options.snapshotBytes, (ended) => snapshots.delete(ended))
      snapshots.add(snapshot)
      // Whether these are as they were or will be is the same for all of them now, and would not be later.
      for (const { full } of changing) snapshot.keep(full)
      return snapshot
    },
    usedBytes: () => usedBytes(open()),
    close: () => {
      reserve.close()
      for (const snapshot of [...snapshots]) snapshot.end("the store was closed meanwhile")
      return isClosed ? Promise.resolve() : engine.close()
    }
  }
}

const identityOf = (file: string): string | undefined => {
  const found = statSync(file, { throwIfNoEntry: false })
  return found && `${found.dev}/${found.ino}`
}

const sizeOf = ({ bytes, full }: { readonly full: string; readonly bytes: Buffer | undefined }): number =>
  full.length + (bytes?.length ?? 0)

/** A failed commit rejects twice: first that it failed, then why. */
const reasonOf = async (error: unknown): Promise<string> => {
  const why = (error as { readonly commitError?: Promise<never> }).commitError
  const reason = why === undefined ? error : await why.catch((second: unknown) => second)
  return reason instanceof Error ? reason.message : String(reason)
}
