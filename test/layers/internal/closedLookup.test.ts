import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, TestClock } from "effect"
import { makeClosedLookup } from "../../../src/layers/internal/closedLookup.js"
import { PlatformApi, PlatformError } from "../../../src/services/PlatformApi.js"
import { configWith, KeptLog } from "../../kit/ground.js"

type Answer = Effect.Effect<"open" | "closed" | "unknown", PlatformError>

const unexpected = Effect.die("a closed lookup asks for the state only")

const setup = (answer: (id: string) => Answer) =>
  Effect.gen(function* () {
    const asked: Array<string> = []
    const log = new KeptLog()
    const platform = Layer.succeed(PlatformApi, {
      name: "fake",
      register: () => unexpected,
      heartbeat: () => unexpected,
      unregister: () => unexpected,
      post: () => unexpected,
      endpointState: (id) =>
        Effect.suspend(() => {
          asked.push(id)
          return answer(id)
        })
    })
    const settings = configWith({ closedCacheMs: 5_000, closedCacheSize: 3, closedLookupMs: 2_000 })
    const lookup = yield* Effect.provide(makeClosedLookup, Layer.mergeAll(platform, log.layer, settings))
    return { ...lookup, asked, log }
  })

const refused = new PlatformError({ kind: "refused", status: 403, code: "forbidden", reason: "not yours" })
const down = new PlatformError({ kind: "unavailable", code: "network", reason: "no route" })

describe("was the endpoint closed?", () => {
  it.effect("yes, when the platform says so; an open or unknown one was not", () =>
    Effect.gen(function* () {
      const states = { a: "open", b: "closed", c: "unknown" } as const
      const { isClosed } = yield* setup((id) => Effect.succeed(states[id as keyof typeof states]))
      assert.isFalse(yield* isClosed("a"))
      assert.isTrue(yield* isClosed("b"))
      assert.isFalse(yield* isClosed("c"))
    })
  )
  it.effect("is known for a while without asking: nothing before, the answer until its time is over", () =>
    Effect.gen(function* () {
      const { isClosed, unsafePeek } = yield* setup((id) => Effect.succeed(id === "b" ? "closed" : "unknown"))
      assert.isUndefined(unsafePeek("b"))
      yield* isClosed("b")
      yield* isClosed("c")
      yield* TestClock.adjust(4_999)
      assert.isTrue(unsafePeek("b"))
      assert.isFalse(unsafePeek("c"))
      yield* TestClock.adjust(1)
      assert.isUndefined(unsafePeek("b"))
      assert.isUndefined(unsafePeek("c"))
    })
  )
  it.effect("counts as not closed when the platform refuses or fails; that is logged and asked again", () =>
    Effect.gen(function* () {
      for (const failure of [refused, down]) {
        const { asked, isClosed, log, unsafePeek } = yield* setup(() => Effect.fail(failure))
        assert.isFalse(yield* isClosed("a"))
        assert.isUndefined(unsafePeek("a"))
        assert.deepStrictEqual(log.events, ["closed_lookup_failed"])
        yield* isClosed("a")
        assert.deepStrictEqual(asked, ["a", "a"])
      }
    })
  )
  it.effect("counts as not closed when no answer comes in time, not 1 ms earlier", () =>
    Effect.gen(function* () {
      const { isClosed, log, unsafePeek } = yield* setup(() => Effect.never)
      const asking = yield* Effect.fork(isClosed("a"))
      yield* TestClock.adjust(1_999)
      assert.isTrue(Option.isNone(yield* Fiber.poll(asking)))
      yield* TestClock.adjust(1)
      assert.isFalse(yield* Fiber.join(asking))
      assert.isUndefined(unsafePeek("a"))
      assert.deepStrictEqual(log.events, ["closed_lookup_failed"])
    })
  )
  it.effect("is known of so many endpoints at most; the oldest answer goes first", () =>
    Effect.gen(function* () {
      const { isClosed, unsafePeek } = yield* setup(() => Effect.succeed("closed"))
      for (const id of ["a", "b", "c", "d"]) yield* isClosed(id)
      assert.deepStrictEqual(["a", "b", "c", "d"].map(unsafePeek), [undefined, true, true, true])
    })
  )
  it.effect("is remembered longest of those looked at last", () =>
    Effect.gen(function* () {
      const { isClosed, unsafePeek } = yield* setup(() => Effect.succeed("closed"))
      for (const id of ["a", "b", "c"]) yield* isClosed(id)
      assert.isTrue(unsafePeek("a"))
      yield* isClosed("d")
      assert.isTrue(unsafePeek("a"))
      assert.isUndefined(unsafePeek("b"))
    })
  )
})
