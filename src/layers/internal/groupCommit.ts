import type { Scope } from "effect"
import { Effect, FiberSet } from "effect"
import type { EventLog } from "../../services/EventLog.js"
import { type BackoffSettings, delay } from "../../services/model/Backoff.js"
import {
  type Key,
  type KeyRange,
  type KeySummary,
  type Op,
  type Store,
  type StoreHealth,
  type Table,
  Transaction
} from "../../services/Store.js"

/** What a store variant brings: writing a batch, and reading. Order, grouping and retrying are the same for all. */
export interface StoreDriver {
  /** Atomic, and durable when the promise resolves. When it rejects, nothing of it was written. */
  readonly write: (ops: ReadonlyArray<Op>) => Promise<void>
  readonly get: <A>(table: Table<A>, key: Key) => A | undefined
  readonly range: <A>(table: Table<A>, range: KeyRange) => ReadonlyArray<readonly [Key, A]>
  /** All of a table's, in order. */
  readonly keys: (table: string) => Iterable<Key>
  /** What was gathered when the store was opened, once; `undefined` where nothing was. */
  readonly gathered?: <S>(summary: KeySummary<S>) => S | undefined
  readonly count: <A>(table: Table<A>, range: Pick<KeyRange, "from" | "until">) => number
}

const summarized = <S>({ keys }: StoreDriver, summary: KeySummary<S>): S => {
  const summed = summary.empty()
  for (const key of keys(summary.table)) summary.add(summed, Buffer.from(key, "latin1"), 0, key.length)
  return summed
}

/**
 * The Store over a driver. While one write is under way, transactions gather and become the next one. The loop is plain
 * callbacks: it runs for every stored message.
 */
export const groupCommit = (
  driver: StoreDriver,
  log: EventLog["Type"],
  retry: BackoffSettings
): Effect.Effect<Store["Type"], never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const run = yield* FiberSet.makeRuntime<never>()
    let waiting: Array<Transaction> = []
    let isBusy = false
    let health: StoreHealth = { _tag: "Healthy" }

    const start = () => {
      isBusy = true
      queueMicrotask(() => write(take(), 0))
    }

    const take = () => {
      const batch = waiting
      waiting = []
      return batch
    }

    const write = (batch: ReadonlyArray<Transaction>, attempt: number) => {
      const ops = batch.length === 1 ? batch[0]!.ops : batch.flatMap((transaction) => transaction.ops)
      driver.write(ops).then(
        () => written(batch),
        (error: unknown) => failed(batch, attempt, error)
      )
    }

    const written = (batch: ReadonlyArray<Transaction>) => {
      if (health._tag === "Failing") {
        log.unsafeLog("info", "store_recovered", { failed_for_ms: clock.unsafeCurrentTimeMillis() - health.since })
        health = { _tag: "Healthy" }
      }
      isBusy = false
      for (const transaction of batch) perform(transaction)
      if (waiting.length > 0 && !isBusy) start()
    }

    const failed = (batch: ReadonlyArray<Transaction>, attempt: number, error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error)
      if (health._tag === "Healthy") {
        health = { _tag: "Failing", since: clock.unsafeCurrentTimeMillis(), reason }
        log.unsafeLog("error", "store_write_failed", { reason })
      }
      run(
        Effect.sleep(delay(retry, attempt, Math.random())).pipe(
          Effect.zipRight(Effect.sync(() => write([...batch, ...take()], attempt + 1)))
        )
      )
    }

    const perform = (transaction: Transaction) => {
      for (const effect of transaction.effects) {
        try {
          effect()
        } catch (error) {
          log.unsafeLog("error", "after_commit_failed", { reason: String((error as Error)?.stack ?? error) })
        }
      }
    }

    const unsafeCommit = (transaction: Transaction) => {
      const waits = transaction.isBarrier && (isBusy || waiting.length > 0)
      if (transaction.ops.length === 0 && !waits) return perform(transaction)
      waiting.push(transaction)
      if (!isBusy) start()
    }

    const commit = (transaction: Transaction) =>
      Effect.async<void>((resume) => {
        transaction.onDurable(() => resume(Effect.void))
        unsafeCommit(transaction)
      })

    return {
      unsafeCommit,
      commit,
      unsafeGet: driver.get,
      unsafeRange: driver.range,
      unsafeSummary: (summary) => driver.gathered?.(summary) ?? summarized(driver, summary),
      unsafeCount: driver.count,
      unsafeHealth: () => health,
      flush: Effect.suspend(() => {
        const barrier = new Transaction()
        barrier.isBarrier = true
        return commit(barrier)
      })
    }
  })
