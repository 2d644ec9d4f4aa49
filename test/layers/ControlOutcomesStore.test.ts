import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { ControlOutcomes } from "../../src/services/ControlOutcomes.js"
import { applied, failed, received } from "../../src/services/model/ControlEvent.js"
import { laneOf, type PlatformReport, supersedes } from "../../src/services/model/PlatformReport.js"
import { isSettled, reported } from "../../src/services/model/PlatformWire.js"
import { settle } from "../kit/core.js"
import { refused, unavailable } from "../kit/FakePlatform.js"
import { SpawnWorld } from "../kit/spawning.js"
import { commit, jitter, names, pass } from "../kit/steps.js"

const remember = (key: string, outcome = applied) =>
  Effect.flatMap(ControlOutcomes, (outcomes) =>
    commit((transaction) => outcomes.unsafeRemember(transaction, key, outcome))
  )
const acknowledge = (key: string, outcome = applied) =>
  Effect.flatMap(ControlOutcomes, (outcomes) =>
    commit((transaction) => outcomes.unsafeAcknowledge(transaction, key, outcome))
  )
const get = (key: string) => Effect.map(ControlOutcomes, (outcomes) => outcomes.unsafeGet(key))

describe("outcomes", () => {
  it.scoped("are remembered beyond the broker's life, the oldest forgotten first, pending ones never", () => {
    const world = new SpawnWorld()
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        yield* remember("pending", received)
        for (const key of names("k", 4)) yield* remember(key)
        assert.deepStrictEqual(yield* get("k1"), undefined)
        assert.deepStrictEqual(yield* get("pending"), received)
      }).pipe(Effect.provide(world.life({ controlKeys: 4 })))
      yield* Effect.gen(function* () {
        for (const key of ["k2", "k3", "k4"]) assert.deepStrictEqual(yield* get(key), applied)
        yield* remember("pending", failed("no"))
        assert.deepStrictEqual(yield* get("pending"), { status: "failed", detail: "no" })
        yield* remember("k5")
        assert.isUndefined(yield* get("pending"), "final now, it is the oldest")
        yield* Effect.flatMap(ControlOutcomes, (outcomes) =>
          commit((transaction) => {
            outcomes.unsafeForget(transaction, "k2")
            outcomes.unsafeForget(transaction, "unknown")
          })
        )
        assert.isUndefined(yield* get("k2"))
      }).pipe(Effect.provide(world.life({ controlKeys: 4 })))
      assert.deepStrictEqual(world.remembered, { k3: "applied", k4: "applied", k5: "applied" })
    })
  })

  it.scoped("of any key: long, strange, or like another's beginning", () => {
    const world = new SpawnWorld()
    const keys = ["a/b", "a", "ä😀\u0000", "k".repeat(2_000), "__proto__", "~", " "]
    return Effect.gen(function* () {
      yield* Effect.provide(
        Effect.forEach(keys, (key) => remember(key)),
        world.life()
      )
      for (const key of keys) assert.deepStrictEqual(yield* Effect.provide(get(key), world.life()), applied)
    })
  })
})

describe("F8: acknowledgements", () => {
  const ack = (key: string, status: "received" | "applied", detail?: string): PlatformReport => ({
    _tag: "ControlAck",
    ack: { idempotency_key: key, status, ...(detail === undefined ? {} : { detail }) }
  })

  it("are posted to control-ack as they stand", () => {
    assert.deepStrictEqual(reported(ack("k", "applied", "d")), {
      method: "POST",
      path: "/v1/runtime/control-ack",
      body: { idempotency_key: "k", status: "applied", detail: "d" }
    })
    assert.isFalse(isSettled(ack("k", "applied"), 404))
    assert.strictEqual(laneOf(ack("k", "applied")), "control:k")
    assert.isTrue(supersedes(ack("k", "applied"), ack("k", "applied")))
    assert.isFalse(supersedes(ack("k", "applied"), ack("k", "received")))
    assert.isFalse(supersedes(ack("k", "applied"), ack("k", "applied", "d")))
  })

  it.scoped(
    "are posted until accepted, in order per event; the same said twice is said once; a refused one is set aside",
    () => {
      const world = new SpawnWorld()
      return Effect.gen(function* () {
        yield* jitter(1)
        world.platform.onPost = () => unavailable()
        yield* acknowledge("a", received)
        yield* acknowledge("a", applied)
        yield* acknowledge("b", received)
        yield* acknowledge("b", received)
        yield* settle
        for (let n = 0; n < 20; n++) yield* pass(30_000)
        assert.deepStrictEqual(world.acks, [])
        world.platform.onPost = () => Effect.void
        yield* pass(30_000)
        assert.deepStrictEqual(
          world.acks.filter((one) => one.startsWith("a")),
          ["a received", "a applied"]
        )
        assert.isAtMost(world.acks.filter((one) => one.startsWith("b")).length, 2)
        world.platform.onPost = () => refused
        yield* acknowledge("c")
        yield* settle
        assert.strictEqual(world.store.recordsOf("outbox_dead").length, 1)
        assert.deepStrictEqual(world.store.recordsOf("outbox"), [])
      }).pipe(Effect.provide(world.life()))
    }
  )
})
