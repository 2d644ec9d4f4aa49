import type { Fiber, Schedule, Scope } from "effect"
import { Cause, Effect } from "effect"
import { EventLog } from "../../services/EventLog.js"

/** Runs `body` as long as the scope lives. A failure or defect is logged and the body started again. */
export const supervised =
  (name: string, policy: Schedule.Schedule<unknown, number>) =>
  <A, E, R>(
    body: Effect.Effect<A, E, R>
  ): Effect.Effect<Fiber.RuntimeFiber<A, unknown>, never, R | EventLog | Scope.Scope> =>
    Effect.flatMap(EventLog, (log) =>
      Effect.clockWith((clock) => {
        const started = clock.unsafeCurrentTimeMillis()
        return Effect.catchAllCause(body, (cause) => {
          if (Cause.isInterruptedOnly(cause)) return Effect.interrupt
          log.unsafeLog("error", "background_fiber_failed", { fiber: name, cause: Cause.pretty(cause) })
          return Effect.fail(clock.unsafeCurrentTimeMillis() - started)
        })
      }).pipe(Effect.retry(policy), Effect.interruptible, Effect.forkScoped)
    )
