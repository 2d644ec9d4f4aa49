import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { Spawner } from "../../src/services/Spawner.js"
import { settle } from "../kit/core.js"
import { ownPrograms, really, register, SpawnWorld, spawn, until } from "../kit/spawning.js"

const command = (word: string) => ({ spawnCommand: JSON.stringify([word]) })
const pending = ({ store }: SpawnWorld) => store.recordsOf("spawns").length
const pass = (ms: number) => settle.pipe(Effect.zipRight(TestClock.adjust(ms)), Effect.zipRight(settle))
/** Spawns on a test clock: what waits for the machine gets real time. */
const started = (token: string) => Effect.map(spawn({ token }), (outcome) => assert.strictEqual(outcome, "started"))

describe("a started session", () => {
  it.scoped("that registers with its token within 30,000 ms is acknowledged as applied, and its message is told", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const world = new SpawnWorld()
      yield* Effect.gen(function* () {
        const told: Array<unknown> = []
        ;(yield* Spawner).unsafeOnRegistered((...who) => told.push(who))
        yield* spawn({ undispatchedId: "m-1" })
        yield* pass(29_999)
        assert.strictEqual(pending(world), 1)
        assert.isTrue(yield* register("cmd-1", "ep_7"))
        assert.deepStrictEqual(told, [["ep_7", "m-1"]])
        assert.deepStrictEqual(world.acks, ["cmd-1 received", "cmd-1 applied"])
        assert.deepStrictEqual(world.remembered, { "cmd-1": "applied" })
        assert.isFalse(yield* register("cmd-1", "ep_8"), "a token resolves once")
        yield* pass(60_000)
        assert.strictEqual(world.acks.length, 2)
        assert.deepStrictEqual(world.store.recordsOf("spawns"), [])
        const line = world.log.find(({ event }) => event === "endpoint_spawned_correlation_resolved")
        assert.deepStrictEqual(line?.fields, { spawn_token: "cmd-1", endpoint_id: "ep_7" })
      }).pipe(Effect.provide(world.life(command(own.write("agent")))))
    })
  )

  it.scoped("that does not is acknowledged as failed after 30,000 ms; a later registration finds nothing", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const world = new SpawnWorld()
      yield* Effect.gen(function* () {
        yield* started("a")
        yield* pass(10_000)
        yield* started("b")
        yield* pass(19_999)
        assert.deepStrictEqual(world.acks, ["a received", "b received"])
        yield* pass(1)
        assert.deepStrictEqual(world.acks.slice(2), ["a failed spawn_correlation_timeout"])
        assert.isTrue(world.log.some(({ event, level }) => event === "spawn_correlation_timeout" && level === "warn"))
        assert.isFalse(yield* register("a"))
        yield* pass(10_000)
        assert.deepStrictEqual(world.acks.slice(3), ["b failed spawn_correlation_timeout"])
        assert.deepStrictEqual(world.remembered, { a: "failed", b: "failed" })
      }).pipe(Effect.provide(world.life(command(own.write("agent")))))
    })
  )

  it.scoped("with an unknown token there is none", () =>
    Effect.gen(function* () {
      assert.isFalse(yield* register("nobody"))
    }).pipe(Effect.provide(new SpawnWorld().life()))
  )

  it.scoped("that registers as it starts is applied, and never received after that", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const world = new SpawnWorld()
      yield* Effect.gen(function* () {
        // The store is slow: the answer `received` is not durable when the session registers.
        const spawning = yield* Effect.forkScoped(spawn())
        yield* until(() => world.log.some(({ event }) => event === "spawn_request_initiated"), "the start")
        world.store.hold()
        const registering = yield* Effect.forkScoped(register("cmd-1"))
        yield* settle
        world.store.release()
        yield* registering
        yield* spawning
        yield* settle
        assert.deepStrictEqual(world.acks, ["cmd-1 received", "cmd-1 applied"])
      }).pipe(Effect.provide(world.life(command(own.write("agent")))))
    })
  )
})

describe("the next life of the broker", () => {
  it.scoped(
    "waits 30,000 ms afresh for sessions started before; one that registers is applied, one that does not fails",
    () =>
      Effect.gen(function* () {
        const own = yield* ownPrograms
        const world = new SpawnWorld()
        const settings = command(own.write("agent"))
        yield* Effect.provide(Effect.zipRight(started("a"), started("b")), world.life(settings))
        yield* own.started("a")
        yield* own.started("b")
        assert.deepStrictEqual(world.acks, ["a received", "b received"], "shutdown says nothing of them")
        yield* pass(3_600_000)
        yield* Effect.gen(function* () {
          assert.strictEqual(pending(world), 2)
          yield* pass(29_999)
          assert.isTrue(yield* register("a"))
          yield* pass(1)
          assert.deepStrictEqual(world.acks.slice(2), ["a applied", "b failed spawn_correlation_timeout"])
        }).pipe(Effect.provide(world.life(settings)))
        assert.strictEqual(pending(world), 0)
      })
  )

  it.scoped("B9: nothing is started before it is durable that it will be", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const world = new SpawnWorld()
      const settings = command(own.write("agent"))
      yield* Effect.gen(function* () {
        world.store.hold()
        yield* Effect.forkScoped(spawn())
        yield* until(() => world.log.length >= 0, "a moment")
        yield* really(300)
        assert.isUndefined(own.startedNow("cmd-1"))
        assert.isFalse(world.log.some(({ event }) => event === "spawn_request_initiated"))
        world.store.release()
        yield* own.started("cmd-1")
      }).pipe(Effect.scoped, Effect.provide(world.life(settings)))
    })
  )
})

describe("limits", () => {
  it.scoped("3 sessions per 30,000 ms, counted before anything else is looked at", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const world = new SpawnWorld()
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* spawn({ token: "a", kind: "openclaw" }), "runtime_kind_unsupported: openclaw")
        yield* started("b")
        yield* started("c")
        assert.strictEqual(yield* spawn({ token: "d" }), "spawn_rate_limited")
        assert.strictEqual(yield* spawn({ token: "d", kind: "openclaw" }), "spawn_rate_limited")
        yield* TestClock.adjust(30_000)
        assert.strictEqual(yield* spawn({ token: "d" }), "spawn_rate_limited")
        yield* TestClock.adjust(1)
        yield* started("d")
      }).pipe(Effect.provide(world.life(command(own.write("agent")))))
    })
  )

  it.scoped("D10: a command is looked for once a minute, by all who ask together", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const file = own.at("agent")
      yield* Effect.gen(function* () {
        const spawner = yield* Spawner
        const ask = Effect.all(
          Array.from({ length: 100 }, () => spawner.isAvailable("custom")),
          { concurrency: 100 }
        )
        assert.deepStrictEqual(new Set(yield* ask), new Set([false]))
        own.write("agent")
        yield* TestClock.adjust(59_999)
        assert.isFalse(yield* spawner.isAvailable("custom"))
        yield* TestClock.adjust(1)
        assert.isTrue(yield* spawner.isAvailable("custom"))
      }).pipe(Effect.provide(new SpawnWorld().life(command(file))))
    })
  )
})
