/** A store the test holds in its hands: writes can wait or fail, and its records outlive the services that wrote them. */
import { Effect, Layer } from "effect"
import { groupCommit, type StoreDriver } from "../../src/layers/internal/groupCommit.js"
import { EventLog } from "../../src/services/EventLog.js"
import { StoreNotReadable } from "../../src/services/model/Errors.js"
import {
  type Key,
  type KeyRange,
  type Op,
  Store,
  type Table,
  type Transaction,
  table
} from "../../src/services/Store.js"
import { StoreInspection } from "../../src/services/StoreInspection.js"
import { nothingFound, type StoreFindings, StoreReport } from "../../src/services/StoreReport.js"

export class FakeStore {
  /** What its opening is said to have found. */
  findings: StoreFindings = nothingFound(0)
  /** Records that are said to have been found damaged since. */
  damagedSince = 0
  /** Why writes fail at the moment; `undefined` when they work. */
  failure: string | undefined
  /** Why there is no room for new mail at the moment. */
  shortage: { readonly since: number; readonly reason: string } | undefined
  /** Records of the largest write so far. */
  largestWrite = 0
  /** Records that were read so far. */
  read = 0
  /** Is told of each page that is read, before that: it may throw. */
  onRange: (table: string) => void = () => undefined
  /** Is told of each transaction that is handed to a write. */
  onTransaction: (transaction: Transaction) => void = () => undefined
  /** Bytes of the largest page read so far that was asked for with a limit. */
  largestPage = 0
  private readonly tables = new Map<string, Map<Key, unknown>>()
  private readonly damaged = new Set<string>()
  private isHeld = false
  private held: Array<() => void> = []

  /** Writes wait from now on. */
  hold(): void {
    this.isHeld = true
  }

  /** Everything that waits is written, and what comes after it. */
  release(): void {
    this.isHeld = false
    for (const write of this.held.splice(0)) write()
  }

  /** A crash: what waits is never written. */
  dropHeld(): void {
    this.isHeld = false
    this.held = []
  }

  /** The record can no longer be read; its key is still there. */
  damage(name: string, key: Key): void {
    this.damaged.add(`${name}/${key}`)
  }

  /** The durable records of a table, in key order. */
  recordsOf<A>(name: string): ReadonlyArray<A> {
    return this.driver.range(table<A>(name, 1), { from: "", until: "~" }).map(([, record]) => record)
  }

  keysOf(name: string): ReadonlyArray<Key> {
    return Array.from(this.driver.keys(name))
  }

  private apply({ key, table: { name }, ...op }: Op) {
    let records = this.tables.get(name)
    if (records === undefined) {
      records = new Map()
      this.tables.set(name, records)
    }
    if (op._tag === "Put") records.set(key, JSON.parse(JSON.stringify(op.value)))
    else records.delete(key)
  }

  private readonly driver: StoreDriver = {
    shortage: () => this.shortage,
    write: (batch) =>
      new Promise((resolve, reject) => {
        batch.forEach(this.onTransaction)
        const ops = batch.flatMap((transaction) => transaction.ops)
        const write = () => {
          if (this.failure !== undefined) return reject(new Error(this.failure))
          this.largestWrite = Math.max(this.largestWrite, ops.length)
          for (const op of ops) this.apply(op)
          resolve(batch.length)
        }
        if (this.isHeld) this.held.push(write)
        else write()
      }),
    get: <A>({ name }: Table<A>, key: Key) => {
      this.read++
      return this.damaged.has(`${name}/${key}`) ? undefined : (this.tables.get(name)?.get(key) as A | undefined)
    },
    range: <A>({ name }: Table<A>, { after, bytes = Number.POSITIVE_INFINITY, from = "", limit, until }: KeyRange) => {
      this.onRange(name)
      let size = 0
      const found = [...(this.tables.get(name) ?? new Map<Key, A>())]
        .filter(([key]) => (after !== undefined ? key > after : key >= from) && key < until)
        .filter(([key]) => !this.damaged.has(`${name}/${key}`))
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .slice(0, limit)
        .filter(([, value], index) => {
          size += JSON.stringify(value).length
          return index === 0 || size <= bytes
        }) as ReadonlyArray<readonly [Key, A]>
      this.read += found.length
      if (limit !== undefined) {
        this.largestPage = Math.max(this.largestPage, JSON.stringify(found.map(([, value]) => value)).length)
      }
      return found
    },
    keys: (name) => [...(this.tables.get(name)?.keys() ?? [])].sort(),
    count: <A>({ name }: Table<A>, { from = "", until }: Pick<KeyRange, "from" | "until">) =>
      [...(this.tables.get(name)?.keys() ?? [])].filter((key) => key >= from && key < until).length
  }

  readonly layer = Layer.mergeAll(
    Layer.scoped(
      Store,
      Effect.flatMap(EventLog, (log) => groupCommit(this.driver, log, { base: 100, cap: 30_000, waitMs: 3_000 }))
    ),
    Layer.sync(StoreReport, () => ({ opened: this.findings, unsafeDamaged: () => this.damagedSince })),
    Layer.succeed(StoreInspection, { inspect: notOnDisk, verify: notOnDisk, lines: notOnDisk })
  )
}

const notOnDisk = new StoreNotReadable({ message: "This store is the test's." })
