import { assert, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { makeSweeper } from "../../../src/layers/internal/sweeper.js"
import { collectedLog, type LogLine, settle } from "../../kit/core.js"
import { pass } from "../../kit/steps.js"

const sweeperOf = (sweep: (now: number) => number | undefined, log: Array<LogLine> = []) =>
  Effect.provide(makeSweeper("test", sweep), collectedLog(log))

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

it.scoped("it sweeps at the time it is told, not before, and then not again", () =>
  Effect.gen(function* () {
    const { swept, sweeper } = yield* recording()
    yield* pass(1_000)
    assert.deepStrictEqual(swept, [])
    sweeper.unsafeWakeAt(2_000)
    yield* pass(999)
    assert.deepStrictEqual(swept, [])
    yield* pass(1)
    yield* pass(60_000)
    assert.deepStrictEqual(swept, [2_000])
  })
)

it.scoped("an earlier time counts, a later one does not", () =>
  Effect.gen(function* () {
    const { swept, sweeper } = yield* recording()
    sweeper.unsafeWakeAt(5_000)
    yield* settle
    sweeper.unsafeWakeAt(1_000)
    sweeper.unsafeWakeAt(9_000)
    yield* pass(60_000)
    assert.deepStrictEqual(swept, [1_000])
  })
)

it.scoped("it comes back when its sweep says so, or earlier when it is told", () =>
  Effect.gen(function* () {
    const { swept, sweeper } = yield* recording((now) => (now < 3_000 ? now + 1_000 : undefined))
    sweeper.unsafeWakeAt(1_000)
    yield* pass(1_500)
    sweeper.unsafeWakeAt(1_600)
    yield* pass(60_000)
    assert.deepStrictEqual(swept, [1_000, 1_600, 2_600, 3_600])
  })
)

it.scoped("a time that is past means at once", () =>
  Effect.gen(function* () {
    const { swept, sweeper } = yield* recording()
    yield* pass(5_000)
    sweeper.unsafeWakeAt(1_000)
    yield* pass(0)
    assert.deepStrictEqual(swept, [5_000])
  })
)

it.scoped("a wish that comes up during the sweep counts when it is earlier than what the sweep says", () =>
  Effect.gen(function* () {
    const swept: Array<number> = []
    const sweeper = yield* sweeperOf((now) => {
      swept.push(now)
      if (swept.length === 1) sweeper.unsafeWakeAt(now + 50)
      return swept.length === 1 ? now + 500 : undefined
    })
    sweeper.unsafeWakeAt(100)
    yield* pass(100)
    yield* pass(49)
    assert.deepStrictEqual(swept, [100])
    yield* pass(1)
    yield* pass(60_000)
    assert.deepStrictEqual(swept, [100, 150])
  })
)

it.scoped("a wish from before its fiber first ran counts", () =>
  Effect.gen(function* () {
    const swept: Array<number> = []
    const sweeper = yield* sweeperOf((now) => {
      swept.push(now)
      return undefined
    })
    sweeper.unsafeWakeAt(100)
    yield* pass(99)
    assert.deepStrictEqual(swept, [])
    yield* pass(1)
    assert.deepStrictEqual(swept, [100])
  })
)

it.scoped("a fault in a sweep is logged, and it is tried again: what was due, and what was planned meanwhile", () =>
  Effect.gen(function* () {
    const swept: Array<number> = []
    const log: Array<LogLine> = []
    const sweeper = yield* sweeperOf((now) => {
      swept.push(now)
      if (swept.length < 3) throw new Error("a fault")
      return swept.length === 3 ? now + 1_000 : undefined
    }, log)
    sweeper.unsafeWakeAt(1_000)
    yield* pass(1_000)
    assert.deepStrictEqual(swept, [1_000])
    yield* pass(60_000)
    assert.strictEqual(swept.length, 4)
    assert.isBelow(swept[2]!, 1_400)
    // The wait before it was tried again need not be a whole one; that of a sweeper is.
    assert.closeTo(swept[3]! - swept[2]!, 1_000.5, 0.6)
    assert.deepStrictEqual(
      log.map(({ event, fields }) => [event, fields.fiber]),
      [
        ["background_fiber_failed", "test"],
        ["background_fiber_failed", "test"]
      ]
    )
  })
)

it.effect("it ends with its scope, whatever was planned or is asked for later", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const { swept, sweeper } = yield* Scope.extend(recording(), scope)
    sweeper.unsafeWakeAt(100)
    yield* settle
    yield* Scope.close(scope, Exit.void)
    yield* pass(1_000)
    sweeper.unsafeWakeAt(50)
    yield* pass(1_000)
    assert.deepStrictEqual(swept, [])
  })
)
