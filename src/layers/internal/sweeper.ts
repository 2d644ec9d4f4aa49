import type { Scope } from "effect"
import { Effect } from "effect"

export interface Sweeper {
  /** Something may be due at `at`, epoch milliseconds. Cheap when an earlier sweep is planned already. */
  readonly unsafeWakeAt: (at: number) => void
}

/** A timer can wait no longer; the sweeper then sleeps once more. */
const longest = 2 ** 31 - 1

/**
 * One fiber that sleeps until something is due. `sweep` does what is due and says when to come back; `undefined` means not
 * before somebody calls `unsafeWakeAt`.
 */
export const makeSweeper = (sweep: (now: number) => number | undefined): Effect.Effect<Sweeper, never, Scope.Scope> =>
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

    yield* sleep.pipe(
      Effect.zipRight(
        Effect.sync(() => {
          const now = clock.unsafeCurrentTimeMillis()
          if (now < planned) return
          planned = Number.POSITIVE_INFINITY
          const next = sweep(now)
          if (next !== undefined) planned = Math.min(planned, next)
        })
      ),
      Effect.forever,
      Effect.interruptible,
      Effect.forkScoped
    )

    return {
      unsafeWakeAt: (at) => {
        if (at >= planned) return
        planned = at
        moved.unsafeOpen()
      }
    }
  })
