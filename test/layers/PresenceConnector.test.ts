import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import type { Link } from "../../src/services/Connector.js"
import type { BrokerFrame } from "../../src/services/ipc/StreamFrame.js"
import { Presence } from "../../src/services/Presence.js"
import { type CoreOptions, core, FakePlugin, type LogLine } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform, unavailable } from "../kit/FakePlatform.js"
import { pass, quiet, settled } from "../kit/steps.js"

interface Options extends Omit<CoreOptions, "settings" | "variants"> {
  readonly settings?: Partial<Settings>
  readonly platform?: FakePlatform
}
const broker = ({ platform = new FakePlatform(), settings = {}, ...options }: Options = {}) =>
  core({ ...options, settings: { ...quiet, ...settings }, variants: { platform: platform.layer } })

const link = (network: FakeNetwork, state: Link["state"]) =>
  Effect.zipRight(network.setLink({ state, since: 0, ...(state === "up" ? {} : { reason: "test" }) }), settled)
const current = Effect.map(Presence, (presence) => presence.unsafeCurrent())
/** What a plugin was told: `state/reason`. */
const toldOf = (frames: ReadonlyArray<BrokerFrame>) =>
  frames.flatMap((frame) => (frame.event === "presence_changed" ? [`${frame.presence}/${frame.reason}`] : []))
const postsOf = ({ posts }: FakePlatform) =>
  posts.flatMap((report) =>
    report._tag === "NetworkPresenceChanged" ? [`${report.event.state}/${report.event.reason}`] : []
  )
const listening = (pid: number) =>
  Effect.gen(function* () {
    const plugin = new FakePlugin(pid)
    yield* plugin.open
    return plugin
  })

describe("presence", () => {
  it.scoped("is online when the link is up at the start, and the platform is told", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      yield* settled
      assert.strictEqual(yield* current, "online")
      assert.deepStrictEqual(postsOf(platform), ["online/connector_connected"])
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("L1: is offline while the link was never up, and online when it comes", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      yield* network.setLink({ state: "connecting", since: 0 })
      yield* Effect.gen(function* () {
        const plugin = yield* listening(11)
        yield* link(network, "down")
        yield* link(network, "connecting")
        assert.strictEqual(yield* current, "offline")
        assert.deepStrictEqual(plugin.socket.frames, [])
        yield* link(network, "up")
        assert.strictEqual(yield* current, "online")
        assert.deepStrictEqual(toldOf(plugin.socket.frames), ["online/connector_connected"])
        assert.deepStrictEqual(postsOf(platform), ["online/connector_connected"])
      }).pipe(Effect.provide(broker({ network, platform })))
    })
  })

  it.scoped("F22: follows the link, and every plugin hears of each change", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      yield* settled
      const one = yield* listening(11)
      const two = yield* listening(12)
      yield* link(network, "down")
      assert.strictEqual(yield* current, "reconnecting")
      yield* link(network, "connecting")
      yield* link(network, "down")
      yield* link(network, "up")
      assert.strictEqual(yield* current, "online")
      for (const { socket } of [one, two]) {
        const told = ["reconnecting/connector_disconnected", "online/connector_reconnected"]
        assert.deepStrictEqual(toldOf(socket.frames), told)
      }
      assert.deepStrictEqual(postsOf(platform), [
        "online/connector_connected",
        "reconnecting/connector_disconnected",
        "online/connector_reconnected"
      ])
    }).pipe(Effect.provide(broker({ network, platform })))
  })

  it.scoped("is told to plugins before the platform hears of it", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      yield* settled
      const plugin = yield* listening(11)
      const heard: Array<number> = []
      platform.onPost = () => Effect.sync(() => void heard.push(plugin.socket.frames.length))
      yield* link(network, "down")
      assert.deepStrictEqual(heard, [1])
    }).pipe(Effect.provide(broker({ network, platform })))
  })

  it.scoped(
    "is reconnecting for ten minutes after the link was lost, then offline; failures between change nothing",
    () => {
      const network = new FakeNetwork()
      const log: Array<LogLine> = []
      return Effect.gen(function* () {
        yield* settled
        const plugin = yield* listening(11)
        yield* link(network, "down")
        yield* pass(300_000)
        yield* link(network, "connecting")
        yield* link(network, "down")
        yield* pass(299_999)
        assert.strictEqual(yield* current, "reconnecting")
        yield* pass(1)
        assert.strictEqual(yield* current, "offline")
        assert.deepStrictEqual(toldOf(plugin.socket.frames), [
          "reconnecting/connector_disconnected",
          "offline/grace_timeout"
        ])
        assert.deepInclude(log.filter(({ event }) => event === "network_presence_changed").at(-1), {
          level: "info",
          fields: { state: "offline", reason: "grace_timeout" }
        })
        yield* link(network, "up")
        assert.strictEqual(toldOf(plugin.socket.frames).at(-1), "online/connector_connected")
      }).pipe(Effect.provide(broker({ network, log })))
    }
  )

  it.scoped("the grace period is over when the link is back, and begins afresh when it is lost again", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* settled
      yield* link(network, "down")
      yield* pass(599_999)
      yield* link(network, "up")
      yield* pass(1)
      assert.strictEqual(yield* current, "online")
      yield* link(network, "down")
      yield* pass(599_999)
      assert.strictEqual(yield* current, "reconnecting")
      yield* pass(1)
      assert.strictEqual(yield* current, "offline")
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("of several changes the platform missed, it is told the last", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    platform.onPost = () => unavailable()
    return Effect.gen(function* () {
      yield* settled
      for (const state of ["down", "up", "down"] as const) yield* link(network, state)
      platform.onPost = () => Effect.void
      yield* pass(30_000)
      assert.deepStrictEqual(postsOf(platform), ["reconnecting/connector_disconnected"])
    }).pipe(Effect.provide(broker({ network, platform })))
  })
})

describe("F20: leaving", () => {
  it.scoped("makes presence offline at once and tells why, from any state", () => {
    const platform = new FakePlatform()
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* settled
      const plugin = yield* listening(11)
      yield* link(network, "down")
      yield* (yield* Presence).leave
      yield* settled
      assert.strictEqual(yield* current, "offline")
      assert.strictEqual(toldOf(plugin.socket.frames).at(-1), "offline/broker_shutdown")
      assert.strictEqual(postsOf(platform).at(-1), "offline/broker_shutdown")
      yield* pass(600_000)
      assert.strictEqual(postsOf(platform).at(-1), "offline/broker_shutdown", "no grace period ends any more")
    }).pipe(Effect.provide(broker({ network, platform })))
  })

  it.scoped("is for good: a link that comes up afterwards does not bring presence back", () => {
    const platform = new FakePlatform()
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* settled
      yield* link(network, "down")
      yield* (yield* Presence).leave
      yield* link(network, "up")
      assert.strictEqual(yield* current, "offline")
      assert.strictEqual(postsOf(platform).at(-1), "offline/broker_shutdown")
    }).pipe(Effect.provide(broker({ network, platform })))
  })
})
