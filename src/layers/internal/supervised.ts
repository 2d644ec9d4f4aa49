import type { Fiber, Scope } from "effect"
import { Cause, Effect } from "effect"
import { EventLog } from "../../services/EventLog.js"
import { backoff } from "../../services/model/Backoff.js"

/** For work within the broker, where a failure is a fault of its own. */
const usual = backoff({ base: 100, cap: 30_000 }, 60_000)

/** Runs `body` until it succeeds. A failure or defect is logged and the body started again. */
export const restarted =
  (name: string, policy = usual) =>
  <A, E, R>(body: Effect.Effect<A, E, R>): Effect.Effect<A, unknown, R | EventLog> =>
    Effect.flatMap(EventLog, (log) =>
      Effect.clockWith((clock) => {
        const started = clock.unsafeCurrentTimeMillis()
        return Effect.catchAllCause(body, (cause) => {
          if (Cause.isInterruptedOnly(cause)) return Effect.interrupt
          log.unsafeLog("error", "background_fiber_failed", { fiber: name, cause: Cause.pretty(cause) })
          return Effect.fail(clock.unsafeCurrentTimeMillis() - started)
        })
      }).pipe(Effect.retry(policy))
    )

/** `restarted` in a fiber of its own, as long as the scope lives. */
export const supervised =
  (name: string, policy = usual) =>
  <A, E, R>(
    body: Effect.Effect<A, E, R>
  ): Effect.Effect<Fiber.RuntimeFiber<A, unknown>, never, R | EventLog | Scope.Scope> =>
    restarted(name, policy)(body).pipe(Effect.interruptible, Effect.forkScoped)
