import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { SpawnRefused } from "../../src/services/Spawner.js"
import { begin, dispatch, event, handle, isThere, spawn, undispatched, unregister, World } from "../kit/control.js"
import { unavailable } from "../kit/FakePlatform.js"
import { drain, names, session, settled } from "../kit/steps.js"

describe("dispatch_undispatched", () => {
  it.scoped("hands the message to the endpoint and is acknowledged as applied", () => {
    const world = new World()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      world.network.deliver({ content: "m-1" }, { content: "m-2" })
      yield* settled
      const later = { undispatched_id: "m-2", target_ref: { projection_endpoint_id: plugin.endpointId } }
      yield* handle(dispatch("k-1", "m-1", plugin.endpointId), event("dispatch_undispatched", "k-2", later))
      assert.deepStrictEqual(plugin.contents, ["m-1", "m-2"])
      assert.deepInclude(plugin.received[0]!.metadata, { dispatched_from: "m-1", dispatched_by: "passport" })
      assert.deepStrictEqual(yield* undispatched, [])
      assert.sameMembers([...world.acks], ["k-1 applied", "k-2 applied"])
    }).pipe(Effect.provide(world.life()))
  })

  it.scoped("fails for an unknown message and an unknown target, and may then be tried again with the same key", () => {
    const world = new World()
    return Effect.gen(function* () {
      world.network.deliver({ content: "m-1" })
      yield* settled
      yield* handle(dispatch("k-1", "m-0", "ep_1"), dispatch("k-2", "m-1", "ep_1"))
      assert.deepStrictEqual(world.acks, [
        "k-1 failed unknown undispatched_id: m-0",
        "k-2 failed target endpoint not found: ep_1"
      ])
      assert.deepStrictEqual(world.store.recordsOf("control_outcomes"), [], "failures are not remembered")
      const plugin = yield* session(11)
      yield* handle(dispatch("k-2", "m-1", plugin.endpointId))
      assert.strictEqual(world.acks.at(-1), "k-2 applied")
      assert.deepStrictEqual(plugin.contents, ["m-1"])
    }).pipe(Effect.provide(world.life()))
  })

  it.scoped("is one commit: message, outcome and acknowledgement become durable together", () => {
    const world = new World()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      world.network.deliver({ content: "m-1" })
      yield* settled
      world.store.hold()
      yield* begin(dispatch("k-1", "m-1", plugin.endpointId))
      yield* settled
      const rows = () =>
        ["inbox", "mail", "control_outcomes", "outbox"].map((name) => world.store.recordsOf(name).length)
      assert.deepStrictEqual(rows(), [1, 0, 0, 0])
      world.platform.onPost = () => unavailable()
      world.store.release()
      yield* settled
      const [inbox, mail, outcomes] = rows()
      assert.deepStrictEqual([inbox, mail, outcomes], [0, 1, 1])
      assert.isAbove(rows()[3]!, 0)
    }).pipe(Effect.provide(world.life()))
  })
})

describe("force_unregister", () => {
  it.scoped("ends the endpoint, reported as explicit_unregister; an unknown one is fine; the reason is logged", () => {
    const world = new World()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* handle(unregister("k-1", plugin.endpointId), unregister("k-2", "ep_none"))
      assert.isFalse(yield* isThere(plugin.endpointId))
      assert.include(world.platform.statesOf(plugin.endpointId), "closed/explicit_unregister")
      assert.sameMembers([...world.acks], ["k-1 applied", "k-2 applied"])
      const lines = world.log.filter(({ event }) => event === "force_unregister_received")
      assert.deepStrictEqual(
        lines.map(({ fields }) => fields.reason),
        ["owner_removed"]
      )
    }).pipe(Effect.provide(world.life()))
  })

  it.scoped("hands the endpoint's mail to the inbox", () => {
    const world = new World()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      world.network.deliver({ content: "a", metadata: { target_endpoint_id: plugin.endpointId } })
      yield* settled
      yield* handle(unregister("k-1", plugin.endpointId))
      assert.deepStrictEqual(yield* undispatched, ["a"])
    }).pipe(Effect.provide(world.life()))
  })
})

describe("other events", () => {
  it.scoped("F5: unknown, nudging, later, malformed and of another version are answered as each deserves", () => {
    const world = new World()
    return Effect.gen(function* () {
      yield* handle(
        event("dance", "k-1"),
        event("dispatch_nudge", "k-2"),
        event("owner_session_delivery", "k-3"),
        event("force_unregister", "k-4"),
        event("force_unregister", "k-5", { version: 2 }),
        event("spawn_request", "k-6", { emitted_at: null, prompt: "p", runtime_kind: "k" })
      )
      assert.sameMembers(
        [...world.acks],
        [
          "k-1 applied unknown_variant_dropped",
          "k-2 applied",
          "k-3 failed no_handler:owner_session_delivery",
          "k-4 failed invalid_event: endpoint_id",
          "k-5 failed unsupported_protocol_version",
          "k-6 failed invalid_event: emitted_at"
        ]
      )
      assert.deepStrictEqual(world.spawner.orders, [])
    }).pipe(Effect.provide(world.life()))
  })

  it.scoped("that are no events are logged by their length, without their words, and not answered", () => {
    const world = new World()
    return Effect.gen(function* () {
      yield* handle("secret words", "[1]", '{"type":"spawn_request"}')
      const lines = world.log.filter(({ event }) => event === "sse_frame_unparseable")
      assert.deepStrictEqual(
        lines.map(({ fields }) => [fields.because, fields.length]),
        [
          ["no_json", 12],
          ["no_key", 3],
          ["no_key", 24]
        ]
      )
      assert.notInclude(JSON.stringify(world.log), "secret")
      assert.deepStrictEqual(world.acks, [])
    }).pipe(Effect.provide(world.life()))
  })

  it.scoped("a handler that breaks fails its event and no other; what broke is in the log only", () => {
    const world = new World()
    world.spawner.onSpawn = () => Effect.die(new Error("boom"))
    return Effect.gen(function* () {
      yield* handle(spawn("k-1"), event("dispatch_nudge", "k-2"))
      assert.sameMembers([...world.acks], ["k-1 failed internal_error", "k-2 applied"])
      assert.include(JSON.stringify(world.log), "boom")
    }).pipe(Effect.provide(world.life()))
  })
})

describe("spawn_request", () => {
  it.scoped("goes to the spawner with the key as its token; its refusal is the detail", () => {
    const world = new World()
    world.spawner.onSpawn = ({ token }) =>
      token === "k-2" ? new SpawnRefused({ detail: "spawn_rate_limited" }) : Effect.void
    return Effect.gen(function* () {
      yield* handle(event("spawn_request", "k-1", { prompt: "do", runtime_kind: "custom", undispatched_id: "m-1" }))
      yield* handle(spawn("k-2"))
      assert.deepStrictEqual(world.spawner.orders, [
        { token: "k-1", prompt: "do", kind: "custom" },
        { token: "k-2", prompt: "go", kind: "claude-code" }
      ])
      assert.deepStrictEqual(world.acks, ["k-2 failed spawn_rate_limited"], "of what is started the spawner tells")
    }).pipe(Effect.provide(world.life()))
  })

  it.scoped("names the message only where the setting says so", () => {
    const world = new World()
    return Effect.gen(function* () {
      yield* handle(event("spawn_request", "k-1", { prompt: "do", runtime_kind: "custom", undispatched_id: "m-1" }))
      assert.strictEqual(world.spawner.orders[0]!.undispatchedId, "m-1")
    }).pipe(Effect.provide(world.life({ spawnBinds: true })))
  })
})

describe("the same key", () => {
  it.scoped("again has its effect once and the same answer again, also in the next life: B9", () => {
    const world = new World()
    const events = (target: string) => [
      dispatch("k-1", "m-1", target),
      unregister("k-2", "ep_none"),
      event("dispatch_nudge", "k-3")
    ]
    return Effect.gen(function* () {
      const target = yield* Effect.gen(function* () {
        const plugin = yield* session(11)
        world.network.deliver({ content: "m-1" })
        yield* settled
        yield* handle(...events(plugin.endpointId))
        yield* handle(...events(plugin.endpointId).reverse())
        yield* drain(plugin)
        assert.deepStrictEqual(plugin.contents, ["m-1"])
        return plugin.endpointId
      }).pipe(Effect.scoped, Effect.provide(world.life()))
      const applied = ["k-1 applied", "k-2 applied", "k-3 applied"]
      assert.sameMembers([...world.acks], [...applied, ...applied])

      yield* Effect.gen(function* () {
        // The message is back, by whatever way: the old event must not move it.
        world.network.deliver({ content: "m-1" })
        yield* settled
        yield* handle(...events(target))
        yield* handle(...events(target).reverse())
        assert.deepStrictEqual(yield* undispatched, ["m-1"])
        assert.strictEqual(world.acks.length, 12)
        assert.isTrue(world.acks.every((ack) => ack.endsWith(" applied")))
      }).pipe(Effect.scoped, Effect.provide(world.life()))
    })
  })

  it.scoped("while its handler runs shares the running result", () => {
    const world = new World()
    const latch = Effect.unsafeMakeLatch(false)
    world.spawner.onSpawn = () => Effect.zipRight(latch.await, new SpawnRefused({ detail: "no" }))
    return Effect.gen(function* () {
      const fibers = yield* begin(spawn("k-1"), spawn("k-1"), spawn("k-1"))
      yield* settled
      assert.strictEqual(world.spawner.orders.length, 1)
      assert.isTrue(fibers.every((fiber) => fiber.unsafePoll() === null))
      yield* latch.open
      yield* Effect.forEach(fibers, Fiber.join)
      yield* settled
      assert.strictEqual(world.spawner.orders.length, 1)
      assert.deepStrictEqual(world.acks, ["k-1 failed no"])
      yield* handle(spawn("k-1"))
      assert.strictEqual(world.spawner.orders.length, 2, "it failed without effect: it may be tried again")
    }).pipe(Effect.provide(world.life()))
  })

  it.scoped("is remembered for the last 1024 events", () => {
    const world = new World()
    return Effect.gen(function* () {
      yield* handle(...names("k-", 1_025).map((key) => event("dispatch_nudge", key)))
      assert.strictEqual(world.store.recordsOf("control_outcomes").length, 1_024)
      const kept = world.store.recordsOf<{ readonly key: string }>("control_outcomes").map(({ key }) => key)
      assert.deepStrictEqual([kept[0], kept.at(-1)], ["k-2", "k-1025"])
    }).pipe(Effect.provide(world.life()))
  })
})
