import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber } from "effect"
import { makeSharing } from "../../../src/layers/internal/sharing.js"
import { turns } from "../../kit/ground.js"

describe("shared work", () => {
  it.scoped("runs once for all who ask while it runs, and again for who asks later", () =>
    Effect.gen(function* () {
      const share = makeSharing<number, string>()
      const latch = yield* Deferred.make<void>()
      let runs = 0
      const work = Effect.zipRight(
        Deferred.await(latch),
        Effect.sync(() => ++runs)
      )
      const asking = yield* Effect.forEach(["a", "a", "b", "a"], (key) => Effect.forkScoped(share(key, work)))
      yield* turns
      yield* Deferred.succeed(latch, undefined)
      const [first, second, other, third] = yield* Effect.forEach(asking, Fiber.join)
      assert.deepStrictEqual([first, second, third], [first, first, first])
      assert.notStrictEqual(other, first)
      assert.strictEqual(runs, 2)
      assert.strictEqual(yield* share("a", work), 3)
    })
  )

  it.scoped("is begun by one, wherever the fibers that ask are made to wait", () =>
    Effect.forEach(
      // A fiber waits after about two thousand steps.
      Array.from({ length: 20 }, (_, index) => 2_030 + index),
      (steps) =>
        Effect.gen(function* () {
          const share = makeSharing<void>()
          let runs = 0
          const work = Effect.sync(() => runs++).pipe(Effect.zipRight(Effect.never))
          const late = Effect.loop(0, {
            while: (n) => n < steps,
            step: (n) => n + 1,
            body: () => Effect.void,
            discard: true
          })
          for (let n = 0; n < 2; n++) yield* Effect.forkScoped(Effect.zipRight(late, share("a", work)))
          yield* turns
          assert.strictEqual(runs, 1, `after ${steps} steps`)
        }),
      { discard: true }
    )
  )

  it.scoped("fails for all of them, and is forgotten then", () =>
    Effect.gen(function* () {
      const share = makeSharing<number, string>()
      const failing = share("a", Effect.zipRight(Effect.yieldNow(), Effect.fail("no")))
      const exits = yield* Effect.all([Effect.exit(failing), Effect.exit(failing)], { concurrency: 2 })
      assert.deepStrictEqual(exits, [Exit.fail("no"), Exit.fail("no")])
      assert.strictEqual(yield* share("a", Effect.succeed(1)), 1)
    })
  )

  it.scoped("goes on when one who waits for it gives up", () =>
    Effect.gen(function* () {
      const share = makeSharing<number>()
      const latch = yield* Deferred.make<number>()
      const leader = yield* Effect.forkScoped(share("a", Deferred.await(latch)))
      const other = yield* Effect.forkScoped(share("a", Effect.succeed(0)))
      yield* turns
      yield* Fiber.interrupt(other)
      yield* Deferred.succeed(latch, 7)
      assert.strictEqual(yield* Fiber.join(leader), 7)
    })
  )
})
