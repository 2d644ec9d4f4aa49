import type { Scope } from "effect"
import { Deferred, Effect, FiberId, FiberSet } from "effect"
import type { EventLog } from "../../services/EventLog.js"
import { type BackoffSettings, delay } from "../../services/model/Backoff.js"
import type { StoreUnavailable } from "../../services/model/Errors.js"
import {
  type Key,
  type KeyRange,
  type KeySummary,
  type Store,
  type StoreHealth,
  type Table,
  Transaction
} from "../../services/Store.js"
import { nextTurn } from "./nextTurn.js"
import { unavailable } from "./storeChecks.js"

/** What a store variant brings: writing a batch, and reading. Order, grouping and retrying are the same for all. */
export interface StoreDriver {
  /**
   * Writes the first of these in one atomic write: one at least, and as many as it likes to write together. Durable when the
   * promise resolves, to how many they are. When it rejects, nothing was written.
   */
  readonly write: (batch: ReadonlyArray<Transaction>) => Promise<number>
  /** Why nothing new should be stored, though it can be; `undefined` while there is room, and where room is no matter. */
  readonly shortage?: () => { readonly since: number; readonly reason: string } | undefined
  readonly get: <A>(table: Table<A>, key: Key) => A | undefined
  readonly range: <A>(table: Table<A>, range: KeyRange) => ReadonlyArray<readonly [Key, A]>
  /** All of a table's, in order. */
  readonly keys: (table: string) => Iterable<Key>
  /** What was gathered when the store was opened, once; `undefined` where nothing was. */
  readonly gathered?: <S>(summary: KeySummary<S>) => S | undefined
  readonly count: <A>(table: Table<A>, range: Pick<KeyRange, "from" | "until">) => number
}

/** Since a write failed, or hung, and until one works. */
interface Failure {
  readonly _tag: "Failing"
  readonly since: number
  /** Of the latest one. */
  reason: string
  /** It has lasted so long that nobody waits any more. */
  isGivenUp: boolean
}

const healthy: StoreHealth = { _tag: "Healthy" }

const summarized = <S>({ keys }: StoreDriver, summary: KeySummary<S>): S => {
  const summed = summary.empty()
  for (const key of keys(summary.table)) summary.add(summed, Buffer.from(key, "latin1"), 0, key.length)
  return summed
}

/** How failed writes are repeated, and how long a caller is kept waiting for them. */
export interface GroupCommitSettings extends BackoffSettings {
  readonly waitMs: number
}

/**
 * The Store over a driver. While one write is under way, transactions gather and become the next one. The loop is plain
 * callbacks: it runs for every stored message.
 */
export const groupCommit = (
  driver: StoreDriver,
  log: EventLog["Type"],
  { waitMs, ...retry }: GroupCommitSettings
): Effect.Effect<Store["Type"], never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const run = yield* FiberSet.makeRuntime<never>()
    let waiting: Array<Transaction> = []
    let isBusy = false
    /** When the write that is under way began, by a clock that is never set. */
    let began: bigint | undefined
    let isWatched = false
    let failing: Failure | undefined
    /** Whoever waits for a commit no longer than the store may fail. */
    const callers = new Set<Deferred.Deferred<void, StoreUnavailable>>()

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
      began = clock.unsafeCurrentTimeNanos()
      watch(waitMs)
      driver.write(batch).then(
        (count) => written(batch, count),
        (error: unknown) => failed(batch, attempt, error)
      )
    }

    const written = (batch: ReadonlyArray<Transaction>, count: number) => {
      if (failing !== undefined) {
        log.unsafeLog("info", "store_recovered", { failed_for_ms: clock.unsafeCurrentTimeMillis() - failing.since })
        failing = undefined
      }
      isBusy = false
      began = undefined
      if (count < batch.length) waiting = [...batch.slice(count), ...waiting]
      for (const transaction of batch.slice(0, count)) perform(transaction)
      if (waiting.length > 0 && !isBusy) start()
    }

    const failed = (batch: ReadonlyArray<Transaction>, attempt: number, error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error)
      began = undefined
      if (failing === undefined) {
        const failure = fail("store_write_failed", reason, 0)
        run(
          Effect.zipRight(
            Effect.sleep(waitMs),
            Effect.sync(() => giveUp(failure))
          )
        )
      } else failing.reason = reason
      run(
        Effect.sleep(delay(retry, attempt, Math.random())).pipe(
          Effect.zipRight(Effect.sync(() => write([...batch, ...take()], attempt + 1)))
        )
      )
    }

    /** A write that hangs fails, too, until it ends. */
    const watch = (forMs: number) => {
      if (isWatched) return
      isWatched = true
      run(
        Effect.zipRight(
          // What ended while this process stood still is heard of first.
          Effect.zipRight(Effect.sleep(forMs), nextTurn),
          Effect.sync(() => {
            isWatched = false
            if (began === undefined) return
            const lasts = Math.floor(Number(clock.unsafeCurrentTimeNanos() - began) / 1e6)
            if (failing === undefined && lasts >= waitMs) {
              const reason = `a write has not ended for ${waitMs} ms; the disk may hang`
              giveUp(fail("store_write_hangs", reason, lasts))
            }
            watch(lasts < waitMs ? waitMs - lasts : waitMs)
          })
        )
      )
    }

    /** It fails, and has for so long. */
    const fail = (event: string, reason: string, forMs: number): Failure => {
      failing = { _tag: "Failing", since: clock.unsafeCurrentTimeMillis() - forMs, reason, isGivenUp: false }
      log.unsafeLog("error", event, { reason })
      return failing
    }

    /** Nobody waits any longer, unless it works again. What they wait for stays decided. */
    const giveUp = (failure: Failure) => {
      if (failing !== failure) return
      failure.isGivenUp = true
      for (const caller of callers) Deferred.unsafeDone(caller, Effect.fail(unavailable(failure)))
      callers.clear()
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

    const unsafeCommitWithin = (transaction: Transaction) => {
      const caller = Deferred.unsafeMake<void, StoreUnavailable>(FiberId.none)
      callers.add(caller)
      transaction.onDurable(() => {
        if (callers.delete(caller)) Deferred.unsafeDone(caller, Effect.void)
      })
      unsafeCommit(transaction)
      if (failing?.isGivenUp) giveUp(failing)
      return Deferred.await(caller)
    }

    return {
      unsafeCommit,
      unsafeCommitWithin,
      commit,
      unsafeGet: driver.get,
      unsafeRange: driver.range,
      unsafeSummary: (summary) => driver.gathered?.(summary) ?? summarized(driver, summary),
      unsafeCount: driver.count,
      unsafeHealth: () => {
        if (failing !== undefined) return { _tag: "Failing", since: failing.since, reason: failing.reason }
        const shortage = driver.shortage?.()
        return shortage === undefined ? healthy : { _tag: "Full", ...shortage }
      },
      flush: Effect.suspend(() => {
        const barrier = new Transaction()
        barrier.isBarrier = true
        return commit(barrier)
      })
    }
  })
