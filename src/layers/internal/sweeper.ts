import type { Scope } from "effect"
import { Effect } from "effect"
import type { EventLog } from "../../services/EventLog.js"
import { supervised } from "./supervised.js"

export interface Sweeper {
  /** Something may be due at `at`, epoch milliseconds. Cheap when an earlier sweep is planned already. */
  readonly unsafeWakeAt: (at: number) => void
}

/** A timer can wait no longer; the sweeper then sleeps once more. */
const longest = 2 ** 31 - 1

/**
 * One fiber that sleeps until something is due. `sweep` does what is due and says when to come back; `undefined` means not
 * before somebody calls `unsafeWakeAt`. Where it throws, that is logged under `name`, and it is tried again soon.
 */
export const makeSweeper = (
  name: string,
  sweep: (now: number) => number | undefined
): Effect.Effect<Sweeper, never, EventLog | Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    let planned = Number.POSITIVE_INFINITY
    const moved = Effect.unsafeMakeLatch()

    // Sleeps until `planned`, or until it is moved forward. The latch stays open for who is only about to sleep.
    const sleep = Effect.suspend(() => {
      moved.unsafeClose()
      if (planned === Number.POSITIVE_INFINITY) return moved.await
      // The clock counts whole milliseconds: a shorter wait would be none, and end before the time has come.
      const wait = Math.min(longest, Math.max(0, Math.ceil(planned - clock.unsafeCurrentTimeMillis())))
      return Effect.raceFirst(moved.await, Effect.sleep(wait))
    })

    const sweepWhenDue = () => {
      const now = clock.unsafeCurrentTimeMillis()
      if (now < planned) return
      planned = Number.POSITIVE_INFINITY
      let next: number | undefined = now
      try {
        next = sweep(now)
      } finally {
        if (next !== undefined) planned = Math.min(planned, next)
      }
    }

    yield* sleep.pipe(Effect.zipRight(Effect.sync(sweepWhenDue)), Effect.forever, supervised(name))

    return {
      unsafeWakeAt: (at) => {
        if (at >= planned) return
        planned = at
        moved.unsafeOpen()
      }
    }
  })
