/** Reads and writes of an opened store. */
import { statfs } from "node:fs/promises"
import type { Key, KeyRange, Op, Table } from "../../services/Store.js"
import type { StoreDriver } from "../internal/groupCommit.js"
import { dataFile, type Engine, openEngine } from "./engine.js"
import { currentVersion, type Migrations } from "./migrations.js"
import { encode, fullKey, isWhole, partsOf, recordValue } from "./record.js"
import { Reserve } from "./reserve.js"

export interface DriverOptions {
  readonly directory: string
  /** Nothing is written while the disk has less than this, in bytes. */
  readonly freeDiskBytes: number
  /** How long a look at the disk is good for, milliseconds. */
  readonly freeDiskMs: number
  /** Bytes that are free on the disk of the directory; `undefined` where it cannot be told. */
  readonly freeDisk: (directory: string) => Promise<number | undefined>
  readonly migrations: Migrations
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
  readonly close: () => Promise<void>
}

export const makeDriver = (opened: Engine, options: DriverOptions): OpenedDriver => {
  const { directory, freeDiskBytes, migrations, onDamaged } = options
  let engine = opened
  const reserve = new Reserve(directory)
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
    close: () => {
      reserve.close()
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
