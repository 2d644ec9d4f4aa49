import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Directory } from "../../src/services/Directory.js"
import { Leases } from "../../src/services/Leases.js"
import { PlatformError } from "../../src/services/PlatformApi.js"
import { Registry } from "../../src/services/Registry.js"
import { core } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform, unauthorized, unavailable } from "../kit/FakePlatform.js"
import { drain, jitter, mail, pass, quiet, session } from "../kit/steps.js"

const lost = new PlatformError({ kind: "refused", status: 404, code: "not_found", reason: "the lease ran out" })

/** A platform that wants a heartbeat every 30 s, and gives a new id whenever it lost the record. */
const leasing = () => {
  const platform = new FakePlatform()
  let minted = 0
  platform.onRegister = () => Effect.sync(() => ({ endpointId: `ep_${++minted}`, heartbeatAfterMs: 30_000 }))
  return platform
}
const broker = (platform: FakePlatform, network = new FakeNetwork()) =>
  core({ network, settings: quiet, variants: { platform: platform.layer } })

describe("heartbeats", () => {
  it.scoped("F15: are sent as often as the platform wants, for as long as the endpoint is there", () => {
    const platform = leasing()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* pass(29_999)
      assert.deepStrictEqual(platform.heartbeats, [])
      yield* pass(1)
      assert.deepStrictEqual(platform.heartbeats, ["ep_1"])
      yield* pass(60_000)
      assert.strictEqual(platform.heartbeats.length, 3)
      yield* (yield* Registry).unregister(plugin.endpointId)
      yield* pass(120_000)
      assert.strictEqual(platform.heartbeats.length, 3)
    }).pipe(Effect.provide(broker(platform)))
  })

  it.scoped("go on while its plugin is away", () => {
    const platform = leasing()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      yield* pass(30_000)
      assert.deepStrictEqual(platform.heartbeats, ["ep_1"])
    }).pipe(Effect.provide(broker(platform)))
  })

  it.scoped("that fail are repeated after 1, 2, 4 … 30 s, and on time again once they work", () => {
    const platform = leasing()
    platform.onHeartbeat = () => unavailable()
    return Effect.gen(function* () {
      yield* jitter(1)
      yield* session(11)
      yield* pass(30_000)
      for (const [n, wait] of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].entries()) {
        yield* pass(wait - 1)
        assert.strictEqual(platform.heartbeats.length, n + 1)
        yield* pass(1)
        assert.strictEqual(platform.heartbeats.length, n + 2)
      }
      platform.onHeartbeat = () => Effect.void
      yield* pass(30_000)
      const before = platform.heartbeats.length
      yield* pass(29_999)
      assert.strictEqual(platform.heartbeats.length, before)
      yield* pass(1)
      assert.strictEqual(platform.heartbeats.length, before + 1)
    }).pipe(Effect.provide(broker(platform)))
  })

  it.scoped("wait a minute when the platform does not know the broker, longer when it asks for it", () => {
    const platform = leasing()
    platform.onHeartbeat = () => unauthorized
    return Effect.gen(function* () {
      yield* session(11)
      yield* pass(30_000)
      yield* pass(59_999)
      assert.strictEqual(platform.heartbeats.length, 1)
      platform.onHeartbeat = () => unavailable(90_000)
      yield* pass(1)
      yield* pass(89_999)
      assert.strictEqual(platform.heartbeats.length, 2)
      yield* pass(1)
      assert.strictEqual(platform.heartbeats.length, 3)
    }).pipe(Effect.provide(broker(platform)))
  })

  it.scoped("are not sent where the platform wants none", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      yield* session(11)
      yield* pass(600_000)
      assert.deepStrictEqual(platform.heartbeats, [])
    }).pipe(Effect.provide(broker(platform)))
  })
})

describe("L3, F14: a lease that is lost", () => {
  it.scoped("is registered again with the old nonce; the new id is told, the old one stays an alias", () => {
    const platform = leasing()
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      platform.onHeartbeat = (id) => (id === "ep_1" ? lost : Effect.void)
      yield* pass(30_000)
      assert.strictEqual(platform.registrations.length, 2)
      assert.deepStrictEqual(platform.registrations[1], platform.registrations[0])
      assert.deepStrictEqual(platform.statesOf("ep_2"), ["active/register"])
      const directory = yield* Directory
      assert.strictEqual(directory.unsafeGet("ep_1")?.id, "ep_2")
      assert.strictEqual(directory.unsafeGet("ep_2")?.id, "ep_2")
      network.deliver(mail("ep_1", "to the old id"), mail("ep_2", "to the new one"))
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, ["to the old id", "to the new one"])
      yield* pass(30_000)
      assert.deepStrictEqual(platform.heartbeats, ["ep_1", "ep_2"])
      yield* (yield* Registry).unregister("ep_1")
      yield* pass(0)
      assert.isUndefined(directory.unsafeGet("ep_1"))
      assert.isUndefined(directory.unsafeGet("ep_2"))
      assert.deepStrictEqual(platform.statesOf("ep_2"), ["active/register", "closed/explicit_unregister", "removed"])
    }).pipe(Effect.provide(broker(platform, network)))
  })

  it.scoped("is made good by a plugin's own heartbeat, too, and a failure to is told", () => {
    const platform = leasing()
    return Effect.gen(function* () {
      yield* session(11)
      const endpoint = (yield* Directory).unsafeGet("ep_1")!
      const { heartbeat } = yield* Leases
      platform.onHeartbeat = () => lost
      yield* heartbeat(endpoint)
      assert.strictEqual((yield* Directory).unsafeGet("ep_1")?.id, "ep_2")
      platform.onRegister = () => unavailable()
      assert.strictEqual((yield* Effect.flip(heartbeat(endpoint))).code, "overloaded")
    }).pipe(Effect.provide(broker(platform)))
  })

  it.scoped("of an endpoint that ended meanwhile is not brought back", () => {
    const platform = leasing()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      platform.onHeartbeat = () => lost
      const release = platform.holdRegistrations()
      yield* pass(30_000)
      yield* (yield* Registry).unregister(plugin.endpointId)
      yield* release
      yield* pass(0)
      assert.deepStrictEqual([...(yield* Directory).unsafeAll()], [])
    }).pipe(Effect.provide(broker(platform)))
  })
})
