import type { Scope } from "effect"
import { Effect } from "effect"

export interface Sweeper {
  /** Something may be due at `at`, epoch milliseconds. Cheap when an earlier sweep is planned already. */
  readonly unsafeWakeAt: (at: number) => void
}

/**
 * One fiber that sleeps until something is due. `sweep` does what is due and says when to come back; `undefined` means not
 * before somebody calls `unsafeWakeAt`.
 */
export const makeSweeper = (sweep: (now: number) => number | undefined): Effect.Effect<Sweeper, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    let planned = Number.POSITIVE_INFINITY
    let interrupt: (() => void) | undefined

    // Sleeps until `planned`, or until it is moved forward.
    const sleep = Effect.suspend(() => {
      const wait = planned - clock.unsafeCurrentTimeMillis()
      const moved = Effect.async<void>((resume) => {
        interrupt = () => resume(Effect.void)
        return Effect.sync(() => {
          interrupt = undefined
        })
      })
      return planned === Number.POSITIVE_INFINITY ? moved : Effect.raceFirst(moved, Effect.sleep(Math.max(0, wait)))
    })

    yield* sleep.pipe(
      Effect.zipRight(
        Effect.sync(() => {
          interrupt = undefined
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
        interrupt?.()
      }
    }
  })
