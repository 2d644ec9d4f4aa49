import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { makeSweeper } from "../../../src/layers/internal/sweeper.js"
import { collectedLog, settle } from "../../kit/core.js"
import { pass } from "../../kit/steps.js"

const sweeperOf = (sweep: (now: number) => number | undefined) =>
  Effect.provide(makeSweeper("test", sweep), collectedLog())

/** A sweeper that remembers when it swept, asleep. */
const recording = (next: (now: number) => number | undefined = () => undefined) =>
  Effect.gen(function* () {
    const swept: Array<number> = []
    const sweeper = yield* sweeperOf((now) => {
      swept.push(now)
      return next(now)
    })
    yield* settle
    return { swept, sweeper }
  })

it.scoped("an earlier time counts also when it is told while the sweeper is just about to sleep", () =>
  Effect.gen(function* () {
    for (let turns = 0; turns < 20; turns++) {
      yield* Effect.scoped(
        Effect.gen(function* () {
          const start = (yield* Effect.clock).unsafeCurrentTimeMillis()
          const { swept, sweeper } = yield* recording()
          yield* Effect.promise(async () => {
            sweeper.unsafeWakeAt(start + 5_000)
            for (let turn = 0; turn < turns; turn++) await Promise.resolve()
            sweeper.unsafeWakeAt(start + 10)
          })
          yield* pass(10)
          assert.deepStrictEqual(swept, [start + 10], `told ${turns} turns later`)
        })
      )
    }
  })
)

it.scoped("a time between two milliseconds does not keep it busy", () =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    let sleeps = 0
    // Beyond twenty sleeps it sleeps for ever: a sweeper that spins would never let the test end.
    const counting = Object.create(clock, {
      sleep: {
        value: (...given: Parameters<typeof clock.sleep>) => (++sleeps > 20 ? Effect.never : clock.sleep(...given))
      }
    }) as typeof clock
    const { swept, sweeper } = yield* Effect.withClock(recording(), counting)
    sweeper.unsafeWakeAt(1_000.0000004)
    yield* pass(1_001)
    assert.strictEqual(swept.length, 1, `after ${sleeps} sleeps`)
    assert.isAtMost(sleeps, 3)
  })
)
