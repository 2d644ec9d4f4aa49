import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, FastCheck as fc } from "effect"
import { makeLanes } from "../../../src/layers/internal/lanes.js"
import { turns } from "../../kit/ground.js"

describe("lanes", () => {
  it.scoped("work with a subject in common is done one after the other, other work passes it", () =>
    Effect.gen(function* () {
      const inLanes = makeLanes()
      const begun: Array<string> = []
      const latches = new Map<string, Deferred.Deferred<void>>()
      const begin = (name: string, ...subjects: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          const latch = yield* Deferred.make<void>()
          latches.set(name, latch)
          const work = Effect.zipRight(
            Effect.sync(() => begun.push(name)),
            Deferred.await(latch)
          )
          const fiber = yield* Effect.forkScoped(inLanes(subjects)(work))
          yield* turns
          return fiber
        })
      const end = (name: string) => Effect.zipRight(Deferred.succeed(latches.get(name)!, undefined), turns)
      yield* begin("a", "x")
      yield* begin("ab", "x", "y")
      yield* begin("b", "y")
      yield* begin("free")
      yield* begin("other", "z")
      assert.deepStrictEqual(begun, ["a", "free", "other"])
      yield* end("a")
      assert.deepStrictEqual(begun, ["a", "free", "other", "ab"])
      yield* end("ab")
      assert.deepStrictEqual(begun.at(-1), "b")
      yield* end("b")
      yield* begin("later", "x", "y")
      assert.deepStrictEqual(begun.at(-1), "later", "nobody waits for what is done")
    })
  )

  it.scoped("who fails or gives up lets those behind it go on", () =>
    Effect.gen(function* () {
      const inLanes = makeLanes()
      const first = yield* Effect.forkScoped(inLanes(["x"])(Effect.never))
      yield* turns
      const waiting = yield* Effect.forkScoped(inLanes(["x"])(Effect.void))
      yield* turns
      yield* Fiber.interrupt(waiting)
      yield* Fiber.interrupt(first)
      assert.strictEqual(yield* Effect.flip(inLanes(["x"])(Effect.fail("no"))), "no")
      yield* Effect.exit(inLanes(["x"])(Effect.die("bug")))
      assert.strictEqual(yield* inLanes(["x", "x"])(Effect.succeed(1)), 1)
    })
  )

  it("any work is done, in order per subject", () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.subarray(["a", "b", "c"]), { maxLength: 30 }), async (jobs) => {
        const inLanes = makeLanes()
        const done: Array<number> = []
        const running = new Set<string>()
        const job = (subjects: ReadonlyArray<string>, index: number) =>
          inLanes(subjects)(
            Effect.gen(function* () {
              for (const subject of subjects) {
                assert.isFalse(running.has(subject))
                running.add(subject)
              }
              yield* Effect.yieldNow()
              for (const subject of subjects) running.delete(subject)
              done.push(index)
            })
          )
        await Effect.runPromise(Effect.forEach(jobs, job, { concurrency: "unbounded", discard: true }))
        assert.strictEqual(done.length, jobs.length)
        for (const subject of ["a", "b", "c"]) {
          const order = done.filter((index) => jobs[index]!.includes(subject))
          assert.deepStrictEqual(
            order,
            [...order].sort((a, b) => a - b)
          )
        }
      }),
      { numRuns: 300 }
    ))
})
