import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { supervised } from "../../../src/layers/internal/supervised.js"
import { collectedLog, type LogLine, settle } from "../../kit/core.js"
import { pass } from "../../kit/steps.js"

/** Supervised under the name "work", its failures in `log`. */
const watched = <A, E, R>(body: Effect.Effect<A, E, R>, log: Array<LogLine> = []) =>
  Effect.provide(supervised("work")(body), collectedLog(log))

describe("a background fiber", () => {
  it.scoped("that fails or has a fault is told in the log and begins again, later each time", () =>
    Effect.gen(function* () {
      const log: Array<LogLine> = []
      const begun: Array<number> = []
      const clock = yield* Effect.clock
      const body = Effect.suspend(() => {
        begun.push(clock.unsafeCurrentTimeMillis())
        if (begun.length === 1) return Effect.fail("a failure")
        if (begun.length <= 4) return Effect.dieMessage("a fault")
        return Effect.never
      })
      yield* watched(body, log)
      yield* pass(60_000)
      assert.strictEqual(begun.length, 5)
      const waits = begun.slice(1).map((at, n) => at - begun[n]!)
      for (const [n, wait] of waits.entries()) {
        assert.isAtLeast(wait, 75 * 2 ** n)
        assert.isAtMost(wait, 100 * 2 ** n + 1)
      }
      assert.strictEqual(log.length, 4)
      for (const { event, fields, level } of log) {
        assert.deepStrictEqual([level, event, fields.fiber], ["error", "background_fiber_failed", "work"])
        assert.match(String(fields.cause), /a failure|a fault/)
      }
    })
  )

  it.scoped("that succeeds is over, with what it found", () =>
    Effect.gen(function* () {
      const log: Array<LogLine> = []
      const fiber = yield* watched(Effect.succeed("found"), log)
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.succeed("found"))
      assert.deepStrictEqual(log, [])
    })
  )

  it.effect("ends with its scope, at work or waiting to begin again, also where it was begun uninterruptibly", () =>
    Effect.gen(function* () {
      const log: Array<LogLine> = []
      const scope = yield* Scope.make()
      let begun = 0
      const failing = Effect.suspend(() => {
        begun++
        return Effect.fail("a failure")
      })
      const fibers = yield* Effect.all([watched(Effect.never, log), watched(failing, log)]).pipe(
        Effect.uninterruptible,
        Scope.extend(scope)
      )
      yield* settle
      yield* Scope.close(scope, Exit.void)
      const exits = yield* Effect.forEach(fibers, (fiber) => Fiber.await<unknown, unknown>(fiber))
      for (const exit of exits) assert.isTrue(Exit.isInterrupted(exit))
      yield* pass(60_000)
      assert.strictEqual(begun, 1)
      assert.strictEqual(log.length, 1)
    })
  )
})
