/** The Outbox over the store: lanes take turns, and a bounded number of posts is under way at a time. */
import { Cause, Effect, FiberSet, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { EventLog } from "../services/EventLog.js"
import { delay } from "../services/model/Backoff.js"
import { laneOf, type PlatformReport, supersedes } from "../services/model/PlatformReport.js"
import { ordered } from "../services/model/StoreKey.js"
import { type DeadReport, Outbox, outlineOf } from "../services/Outbox.js"
import { PlatformApi, type PlatformError } from "../services/PlatformApi.js"
import { Store, Transaction, table } from "../services/Store.js"
import { DeadLetterBox } from "./internal/deadLetterBox.js"
import { LaneQueue } from "./internal/LaneQueue.js"
import { makeSweeper } from "./internal/sweeper.js"

const owed = table<{ readonly report: PlatformReport }>("outbox", 1)
const dead = table<DeadReport>("outbox_dead", 1)

const postsAtATime = 8
const mostInATurn = 256

interface Entry {
  readonly key: string
  readonly report: PlatformReport
  isDurable: boolean
  isPosting: boolean
}

interface Lane {
  readonly name: string
  readonly entries: Array<Entry>
  /** It is in the queue, or posting. */
  hasTurn: boolean
  /** Posts that failed in a row. */
  failures: number
}

export const layer: Layer.Layer<Outbox, never, Store | PlatformApi | BrokerConfig | EventLog> = Layer.scoped(
  Outbox,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const store = yield* Store
    const platform = yield* PlatformApi
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const run = yield* FiberSet.makeRuntime<never>()
    const queue = new LaneQueue<Lane>()
    const backoff = { base: config.backoffMs, cap: config.backoffMaxMs }
    const everything = { from: "", until: "~" }

    const lanes = new Map<string, Lane>()
    const waitingForEmpty = new Set<() => void>()
    const refused = new DeadLetterBox(dead, store, config, outlineOf)
    // A refused report keeps its number: none after it may get the same, in a later life and once it is purged neither.
    let last = Math.max(refused.last(), clock.unsafeCurrentTimeMillis())
    let waiting = 0
    let posting = 0
    let isBeginning = false
    let pausedUntil = 0
    /** The platform cannot be reached, or asked for quiet: what one post was told is true for all. */
    let unreachableUntil = 0
    /** Posts in a row after which it was so. */
    let outage = 0
    let lastFailure: string | undefined

    const laneNamed = (name: string) => {
      let lane = lanes.get(name)
      if (lane === undefined) {
        lane = { name, entries: [], hasTurn: false, failures: 0 }
        lanes.set(name, lane)
      }
      return lane
    }

    const now = () => clock.unsafeCurrentTimeMillis()
    const pausesUntil = () => Math.max(pausedUntil, unreachableUntil)

    /** The lane's first report is durable: it gets its turn, unless it waits for one already. */
    const start = (lane: Lane) => {
      if (lane.hasTurn) return
      lane.hasTurn = true
      queue.add(lane)
      goOn()
    }

    /** Begins as many posts as may be under way. Returns when to look again; whoever ends a post looks, too. */
    const begin = (at: number): number | undefined => {
      for (let begun = 0; posting < postsAtATime; begun++) {
        // Where posts end within the call that begins them, others get their turn in between.
        if (begun === mostInATurn) return at
        if (pausesUntil() > at) return pausesUntil()
        const lane = queue.take(at)
        if (lane === undefined) return queue.nextAt
        posting++
        run(post(lane))
      }
      return undefined
    }

    const goOn = () => {
      // A post may end within the call that begins it: then there is a loop already that goes on.
      if (isBeginning) return
      isBeginning = true
      const next = begin(now())
      isBeginning = false
      if (next !== undefined) sweeper.unsafeWakeAt(next)
    }

    /** The lane's post is over. */
    const ended = (lane: Lane, wait: number) => {
      posting--
      if (lane.entries[0]?.isDurable === true) {
        if (wait > 0) queue.addAt(lane, now() + wait)
        else queue.add(lane)
      } else {
        lane.hasTurn = false
        if (lane.entries.length === 0) lanes.delete(lane.name)
      }
      goOn()
    }

    /** Posts the lane's first report, as it is by now: a newer one may have taken its place. */
    const post = (lane: Lane): Effect.Effect<void> =>
      Effect.suspend(() => {
        const entry = lane.entries[0]
        if (entry?.isDurable !== true) return Effect.succeed(0)
        entry.isPosting = true
        return Effect.match(platform.post(entry.report), {
          onSuccess: () => {
            lastFailure = undefined
            outage = 0
            settle(lane, entry)
            return 0
          },
          onFailure: (error) => {
            entry.isPosting = false
            lastFailure = error.message
            return failed(lane, entry, error)
          }
        })
      }).pipe(
        Effect.catchAllCause((cause) => {
          log.unsafeLog("error", "report_fault", { lane: lane.name, reason: Cause.pretty(cause) })
          if (lane.entries[0] !== undefined) lane.entries[0].isPosting = false
          return Effect.succeed(config.backoffMaxMs)
        }),
        Effect.map((wait) => ended(lane, wait))
      )

    /** How long the lane has to wait. */
    const failed = (lane: Lane, entry: Entry, error: PlatformError): number => {
      const fields = { report: entry.report._tag, lane: lane.name, code: error.code, status: error.status }
      switch (error.kind) {
        case "unauthorized":
          pausedUntil = now() + config.unauthorizedPauseMs
          log.unsafeLog("warn", "platform_refused_credentials", { ...fields, pause_ms: config.unauthorizedPauseMs })
          return 0
        case "refused":
          log.unsafeLog("warn", "report_refused", fields)
          settle(lane, entry, error.message)
          return 0
        case "unavailable": {
          const isForAll = error.code === "network" || error.status === 429
          // One of those that were under way together has said it.
          if (isForAll && pausesUntil() > now()) return 0
          const attempt = isForAll ? outage++ : lane.failures++
          const wait = Math.max(delay(backoff, attempt, Math.random()), error.retryAfterMs ?? 0)
          log.unsafeLog("info", "report_retry", { ...fields, attempt, wait_ms: Math.round(wait) })
          if (!isForAll) return wait
          unreachableUntil = now() + wait
          return 0
        }
      }
    }

    /** The report is no longer owed: accepted, or refused for good. */
    const settle = (lane: Lane, entry: Entry, refusal?: string) => {
      lane.failures = 0
      lane.entries.splice(lane.entries.indexOf(entry), 1)
      waiting--
      const transaction = new Transaction()
      transaction.delete(owed, entry.key)
      if (refusal !== undefined) {
        const letter = { report: entry.report, reason: refusal, at: now() }
        for (const [id, { report }] of refused.add(transaction, Number.parseInt(entry.key, 36), letter)) {
          log.unsafeLog("info", "report_dropped", { dead_letter: `r-${id}`, report })
        }
      }
      store.unsafeCommit(transaction)
      if (waiting > 0) return
      for (const resume of waitingForEmpty) resume()
      waitingForEmpty.clear()
    }

    /** Owes the report, behind all of its lane. */
    const append = (transaction: Transaction, lane: Lane, report: PlatformReport) => {
      const entry: Entry = { key: ordered(++last), report, isDurable: false, isPosting: false }
      lane.entries.push(entry)
      waiting++
      transaction.put(owed, entry.key, { report })
      transaction.onDurable(() => {
        entry.isDurable = true
        start(lane)
      })
    }

    const sweeper = yield* makeSweeper("outbox", () => {
      goOn()
      return undefined
    })

    for (const [key, { report }] of store.unsafeRange(owed, everything)) {
      const lane = laneNamed(laneOf(report))
      lane.entries.push({ key, report, isDurable: true, isPosting: false })
      last = Math.max(last, Number.parseInt(key, 36))
      waiting++
      lane.hasTurn = true
      queue.add(lane)
    }
    sweeper.unsafeWakeAt(now())

    return {
      unsafeAdd: (transaction, report) => {
        const lane = laneNamed(laneOf(report))
        const older = lane.entries.find((entry) => !entry.isPosting && supersedes(report, entry.report))
        if (older !== undefined) {
          lane.entries.splice(lane.entries.indexOf(older), 1)
          transaction.delete(owed, older.key)
          waiting--
        }
        append(transaction, lane, report)
      },
      drained: Effect.async<void>((resume) => {
        if (waiting === 0) return resume(Effect.void)
        const done = () => resume(Effect.void)
        waitingForEmpty.add(done)
        return Effect.sync(() => waitingForEmpty.delete(done))
      }),
      unsafeStatus: () => ({
        waiting,
        dead: refused.size,
        pausedUntil: pausedUntil > now() ? pausedUntil : undefined,
        lastFailure
      }),
      unsafeDead: () => refused.list(),
      unsafeGetDead: (id) => refused.get(id),
      unsafeRetry: (transaction, id) => {
        const report = refused.get(id)?.report
        if (report === undefined) return false
        const lane = laneNamed(laneOf(report))
        if (lane.entries.some((entry) => supersedes(entry.report, report))) return false
        refused.take(transaction, id)
        append(transaction, lane, report)
        log.unsafeLog("info", "report_retried", { dead_letter: `r-${id}`, report: report._tag, lane: lane.name })
        return true
      },
      unsafePurge: (transaction, id) => {
        const purged = refused.take(transaction, id)
        if (purged === undefined) return false
        log.unsafeLog("info", "report_purged", { dead_letter: `r-${id}`, report: purged.report })
        return true
      }
    }
  })
)
