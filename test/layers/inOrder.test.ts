import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer } from "effect"
import { inOrder } from "../../src/layers/inOrder.js"

class First extends Context.Tag("test/First")<First, string>() {}
class Second extends Context.Tag("test/Second")<Second, string>() {}
class Third extends Context.Tag("test/Third")<Third, string>() {}

/** A layer that notes when it is built and released. */
const noted = <I, R>(tag: Context.Tag<I, string>, from: Effect.Effect<string, never, R>, notes: Array<string>) =>
  Layer.scoped(
    tag,
    Effect.acquireRelease(
      Effect.tap(from, (value) => Effect.sync(() => notes.push(`builds ${value}`))),
      (value) => Effect.sync(() => notes.push(`releases ${value}`))
    )
  )

describe("layers in order", () => {
  it.effect("use the services of those before them, come out all, and are released the other way round", () => {
    const notes: Array<string> = []
    const first = noted(First, Effect.succeed("a"), notes)
    const second = noted(
      Second,
      Effect.map(First, (a) => `${a}b`),
      notes
    )
    const third = noted(
      Third,
      Effect.zipWith(First, Second, (a, b) => `${a}${b}c`),
      notes
    )
    return Effect.gen(function* () {
      const all: Layer.Layer<First | Second | Third> = inOrder(first, second, third)
      assert.deepStrictEqual(yield* Effect.provide(Effect.all([First, Second, Third]), all), ["a", "ab", "aabc"])
      assert.deepStrictEqual(notes, [
        "builds a",
        "builds ab",
        "builds aabc",
        "releases aabc",
        "releases ab",
        "releases a"
      ])
    })
  })

  it.effect("need from outside what none before them gives", () => {
    const second = Layer.effect(
      Second,
      Effect.map(First, (a) => `${a}b`)
    )
    const needing: Layer.Layer<First | Second, never, First> = inOrder(second, Layer.succeed(First, "later"))
    // @ts-expect-error the first one is given too late
    const whole: Layer.Layer<First | Second> = needing
    return Effect.gen(function* () {
      const built = yield* Layer.build(Layer.provide(needing, Layer.succeed(First, "outside")))
      assert.deepStrictEqual([Context.get(built, Second), Context.get(built, First)], ["outsideb", "later"])
      assert.isTrue(Exit.isFailure(yield* Effect.exit(Layer.build(whole))))
    }).pipe(Effect.scoped)
  })

  it.effect("are built once, also when one occurs again, within or beside", () => {
    const notes: Array<string> = []
    const first = noted(First, Effect.succeed("a"), notes)
    const second = Layer.provide(
      Layer.effect(
        Second,
        Effect.map(First, (a) => `${a}b`)
      ),
      first
    )
    const all = Layer.provideMerge(inOrder(first, second, inOrder(first)), first)
    return Effect.gen(function* () {
      assert.strictEqual(yield* Effect.provide(Second, all), "ab")
      assert.deepStrictEqual(notes, ["builds a", "releases a"])
    })
  })

  it.effect("stop at the one that fails, and release those before it", () => {
    const notes: Array<string> = []
    const first = noted(First, Effect.succeed("a"), notes)
    const failing = Layer.effect(Second, Effect.fail("no" as const))
    const third = noted(Third, Effect.succeed("c"), notes)
    return Effect.gen(function* () {
      const all: Layer.Layer<First | Second | Third, "no"> = inOrder(first, failing, third)
      assert.strictEqual(yield* Effect.flip(Effect.provide(Effect.void, all)), "no")
      assert.deepStrictEqual(notes, ["builds a", "releases a"])
    })
  })
})
