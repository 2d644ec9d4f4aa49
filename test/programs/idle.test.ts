import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { leaveWhenIdle } from "../../src/programs/idle.js"
import { Registry } from "../../src/services/Registry.js"
import { Shutdown } from "../../src/services/Shutdown.js"
import { core } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { pass, quiet, session } from "../kit/steps.js"

const idleExitMs = 60_000
const world = (network = new FakeNetwork()) => core({ settings: { ...quiet, idleExitMs }, network })

const reason = Effect.map(Shutdown, (shutdown) => shutdown.unsafeReason())

describe("D22: a broker that nobody uses", () => {
  it.scoped("asks for its end after the time that is set, not before", () =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(leaveWhenIdle)
      yield* pass(idleExitMs - 1)
      assert.isUndefined(yield* reason)
      yield* pass(10_001)
      assert.strictEqual(yield* reason, "idle")
    }).pipe(Effect.provide(world()))
  )

  it.scoped("never does when no time is set", () =>
    Effect.gen(function* () {
      yield* leaveWhenIdle
      assert.isUndefined(yield* reason)
    }).pipe(Effect.provide(core({ settings: { ...quiet, idleExitMs: 0 } })))
  )

  it.scoped("is used while a plugin is connected and while an endpoint waits for its plugin", () =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(leaveWhenIdle)
      const plugin = yield* session(11)
      yield* pass(3 * idleExitMs)
      assert.isUndefined(yield* reason)
      plugin.drop()
      yield* pass(3 * idleExitMs)
      assert.isUndefined(yield* reason, "its endpoint is reconnecting")
      yield* (yield* Registry).unregister(plugin.endpointId)
      yield* pass(idleExitMs - 10_001)
      assert.isUndefined(yield* reason, "the time begins anew")
      yield* pass(20_002)
      assert.strictEqual(yield* reason, "idle")
    }).pipe(Effect.provide(world()))
  )

  it.scoped("is used while it holds a message", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* Effect.forkScoped(leaveWhenIdle)
      network.deliver({ content: "for anybody", metadata: {} })
      yield* pass(3 * idleExitMs)
      assert.isUndefined(yield* reason)
    }).pipe(Effect.provide(world(network)))
  })
})
