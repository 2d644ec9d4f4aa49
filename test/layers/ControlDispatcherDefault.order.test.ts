import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Dispatch } from "../../src/services/Dispatch.js"
import { Ledger } from "../../src/services/Ledger.js"
import { begin, dispatch, event, handle, isThere, spawn, undispatched, unregister, World } from "../kit/control.js"
import { unavailable } from "../kit/FakePlatform.js"
import { jitter, names, pass, session, settled } from "../kit/steps.js"

it.scoped("B10: 1,024 dispatches from this machine do not push out what is remembered of the platform's", () => {
  const world = new World()
  return Effect.gen(function* () {
    const plugin = yield* session(11, {}, [])
    const locally = (id: string) =>
      Effect.flatMap(Dispatch, ({ dispatch }) => Effect.ignore(dispatch(id, plugin.endpointId)))
    yield* handle(unregister("k-1", "ep_none"))
    world.network.deliver(...names("m-", 256).map((content) => ({ content })))
    yield* settled
    for (const id of [...names("m-", 256), ...names("none-", 768)]) yield* locally(id)
    yield* settled
    assert.strictEqual(plugin.contents.length, 256)
    assert.deepStrictEqual(
      world.store.recordsOf<{ readonly key: string }>("control_outcomes").map(({ key }) => key),
      ["k-1"]
    )
  }).pipe(Effect.provide(world.life()))
})

describe("D11: order and concurrency", () => {
  it.scoped("a slow event holds up none of other things, and at most 16 are worked on at a time", () => {
    const world = new World()
    const latch = Effect.unsafeMakeLatch(false)
    world.spawner.onSpawn = () => latch.await
    return Effect.gen(function* () {
      yield* begin(...names("slow-", 15).map((key) => spawn(key)))
      yield* handle(event("dispatch_nudge", "k-1"), unregister("k-2", "ep_1"))
      assert.sameMembers([...world.acks], ["k-1 applied", "k-2 applied"])
      yield* begin(...names("more-", 5).map((key) => spawn(key)))
      yield* settled
      assert.strictEqual(world.spawner.orders.length, 16)
      yield* latch.open
      yield* settled
      assert.strictEqual(world.spawner.orders.length, 20)
    }).pipe(Effect.provide(world.life()))
  })

  it.scoped("events about one endpoint or message are done in the order they came, others pass them", () => {
    const world = new World()
    return Effect.gen(function* () {
      const [a, b] = [yield* session(11), yield* session(12)]
      world.network.deliver({ content: "m-1" }, { content: "m-2" })
      yield* settled
      world.store.hold()
      yield* begin(
        dispatch("k-1", "m-1", a.endpointId),
        unregister("k-2", a.endpointId),
        dispatch("k-3", "m-2", b.endpointId)
      )
      yield* settled
      assert.isTrue(yield* isThere(a.endpointId), "its removal waits for the dispatch to it")
      world.store.release()
      yield* settled
      assert.isFalse(yield* isThere(a.endpointId))
      assert.sameMembers([...world.acks], ["k-1 applied", "k-2 applied", "k-3 applied"])
      assert.deepStrictEqual([a.contents, b.contents, yield* undispatched], [["m-1"], ["m-2"], ["m-1"]])
    }).pipe(Effect.provide(world.life()))
  })

  it.scoped("an acknowledgement that hangs delays neither other events nor their acknowledgements", () => {
    const world = new World()
    world.platform.onPost = (report) =>
      report._tag === "ControlAck" && report.ack.idempotency_key === "k-1" ? Effect.never : Effect.void
    return Effect.gen(function* () {
      yield* handle(unregister("k-1", "ep_1"))
      yield* handle(unregister("k-2", "ep_1"), event("dispatch_nudge", "k-3"))
      assert.sameMembers([...world.acks], ["k-2 applied", "k-3 applied"])
    }).pipe(Effect.provide(world.life()))
  })
})

describe("F8: acknowledgements", () => {
  it.scoped("are posted until they are accepted, in the next life too, each once", () => {
    const world = new World()
    return Effect.gen(function* () {
      yield* jitter(1)
      world.platform.onPost = () => unavailable()
      yield* Effect.scoped(handle(unregister("k-1", "ep_1"), spawn("k-2"), dispatch("k-3", "m", "ep_1"))).pipe(
        Effect.provide(world.life())
      )
      assert.deepStrictEqual(world.acks, [])
      yield* Effect.gen(function* () {
        yield* handle(unregister("k-1", "ep_1"))
        world.platform.onPost = () => Effect.void
        yield* pass(1_000)
        yield* settled
        assert.sameMembers([...world.acks], ["k-1 applied", "k-3 failed unknown undispatched_id: m"])
      }).pipe(Effect.scoped, Effect.provide(world.life()))
    })
  })
})

it.scoped("while the store fails nothing is begun; what came is done when it works again", () => {
  const world = new World()
  return Effect.gen(function* () {
    const plugin = yield* session(11)
    world.network.deliver({ content: "m-1" })
    yield* settled
    world.store.failure = "disk full"
    yield* begin(event("dispatch_nudge", "k-0"))
    yield* settled
    yield* begin(dispatch("k-1", "m-1", plugin.endpointId), spawn("k-2"), event("dance", "k-3"))
    yield* settled
    assert.deepStrictEqual(yield* undispatched, ["m-1"])
    assert.deepStrictEqual(world.spawner.orders, [])
    world.store.failure = undefined
    yield* pass(2_000)
    yield* pass(2_000)
    assert.sameMembers([...world.acks], ["k-0 applied", "k-1 applied", "k-3 applied unknown_variant_dropped"])
    assert.strictEqual(world.spawner.orders.length, 1)
    assert.deepStrictEqual(plugin.contents, ["m-1"])
    assert.strictEqual((yield* Ledger).unsafeBooks().unaccounted, 0)
  }).pipe(Effect.provide(world.life()))
})
