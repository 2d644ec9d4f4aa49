/** The Outbox over the store: one fiber per lane that owes something, a bounded number of posts at a time. */
import { Effect, FiberSet, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { EventLog } from "../services/EventLog.js"
import { delay } from "../services/model/Backoff.js"
import { laneOf, type PlatformReport, supersedes } from "../services/model/PlatformReport.js"
import { ordered } from "../services/model/StoreKey.js"
import { type DeadReport, Outbox } from "../services/Outbox.js"
import { PlatformApi, type PlatformError } from "../services/PlatformApi.js"
import { Store, Transaction, table } from "../services/Store.js"
import { DeadLetterBox } from "./internal/deadLetterBox.js"

const owed = table<{ readonly report: PlatformReport }>("outbox", 1)
const dead = table<DeadReport>("outbox_dead", 1)

const postsAtATime = 8

interface Entry {
  readonly key: string
  readonly report: PlatformReport
  isDurable: boolean
  isPosting: boolean
}

interface Lane {
  readonly name: string
  readonly entries: Array<Entry>
  isRunning: boolean
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
    const posts = yield* Effect.makeSemaphore(postsAtATime)
    const backoff = { base: config.backoffMs, cap: config.backoffMaxMs }
    const everything = { from: "", until: "~" }

    const lanes = new Map<string, Lane>()
    const waitingForEmpty = new Set<() => void>()
    const refused = new DeadLetterBox(dead, store, config)
    // A refused report keeps its number: none after it may get the same, in a later life and once it is purged neither.
    let last = Math.max(refused.last(), clock.unsafeCurrentTimeMillis())
    let waiting = 0
    let pausedUntil = 0
    let lastFailure: string | undefined

    const laneNamed = (name: string) => {
      let lane = lanes.get(name)
      if (lane === undefined) {
        lane = { name, entries: [], isRunning: false, failures: 0 }
        lanes.set(name, lane)
      }
      return lane
    }

    const start = (lane: Lane) => {
      if (lane.isRunning) return
      lane.isRunning = true
      run(work(lane))
    }

    const pauseLeft = () => pausedUntil - clock.unsafeCurrentTimeMillis()

    /** Posts the lane's reports, one after the other, until none is left. */
    const work = (lane: Lane): Effect.Effect<void> =>
      Effect.gen(function* () {
        while (lane.entries[0]?.isDurable === true) {
          const wait = pauseLeft() > 0 ? pauseLeft() : yield* posts.withPermits(1)(postFirst(lane))
          if (wait > 0) yield* Effect.sleep(wait)
        }
        lane.isRunning = false
        if (lane.entries.length === 0) lanes.delete(lane.name)
      })

    /** Posts the lane's first report; says how long the lane has to wait then. */
    const postFirst = (lane: Lane): Effect.Effect<number> =>
      Effect.suspend(() => {
        const entry = lane.entries[0]
        // Its turn came late: by now everything may pause, or a newer report took its place.
        if (entry?.isDurable !== true || pauseLeft() > 0) return Effect.succeed(0)
        entry.isPosting = true
        return Effect.match(platform.post(entry.report), {
          onSuccess: () => {
            lastFailure = undefined
            settle(lane, entry)
            return 0
          },
          onFailure: (error) => {
            entry.isPosting = false
            lastFailure = error.message
            return failed(lane, entry, error)
          }
        })
      })

    const failed = (lane: Lane, entry: Entry, error: PlatformError): number => {
      const fields = { report: entry.report._tag, lane: lane.name, code: error.code, status: error.status }
      switch (error.kind) {
        case "unauthorized":
          pausedUntil = clock.unsafeCurrentTimeMillis() + config.unauthorizedPauseMs
          log.unsafeLog("warn", "platform_refused_credentials", { ...fields, pause_ms: config.unauthorizedPauseMs })
          return 0
        case "refused":
          log.unsafeLog("warn", "report_refused", fields)
          settle(lane, entry, error.message)
          return 0
        case "unavailable": {
          const attempt = lane.failures++
          const wait = Math.max(delay(backoff, attempt, Math.random()), error.retryAfterMs ?? 0)
          log.unsafeLog("info", "report_retry", { ...fields, attempt, wait_ms: Math.round(wait) })
          return wait
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
        const at = clock.unsafeCurrentTimeMillis()
        refused.add(transaction, Number.parseInt(entry.key, 36), { report: entry.report, reason: refusal, at })
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

    for (const [key, { report }] of store.unsafeRange(owed, everything)) {
      const lane = laneNamed(laneOf(report))
      lane.entries.push({ key, report, isDurable: true, isPosting: false })
      last = Math.max(last, Number.parseInt(key, 36))
      waiting++
      start(lane)
    }

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
        pausedUntil: pausedUntil > clock.unsafeCurrentTimeMillis() ? pausedUntil : undefined,
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
        if (purged === undefined) return undefined
        log.unsafeLog("info", "report_purged", { dead_letter: `r-${id}`, report: purged.report._tag })
        return purged
      }
    }
  })
)
