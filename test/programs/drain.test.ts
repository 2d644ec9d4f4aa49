import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { leave } from "../../src/programs/leave.js"
import { Directory } from "../../src/services/Directory.js"
import { Discovery } from "../../src/services/Discovery.js"
import { Mailboxes } from "../../src/services/Mailboxes.js"
import { PlatformApi } from "../../src/services/PlatformApi.js"
import type { ShutdownReason } from "../../src/services/Shutdown.js"
import { core, settle, withReceipts } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform } from "../kit/FakePlatform.js"
import { mail, pass, quiet, session } from "../kit/steps.js"

const told = [...withReceipts, "drain_notice_v1"]

const world = () => {
  const fake = new FakePlatform()
  const network = new FakeNetwork()
  const ended: Array<string> = []
  const platform = Layer.effect(
    PlatformApi,
    Effect.map(PlatformApi, (api) => ({ ...api, unregister: (id: string) => Effect.sync(() => void ended.push(id)) }))
  ).pipe(Layer.provide(fake.layer))
  const discovery = Layer.succeed(Discovery, {
    publish: () => Effect.void,
    withdraw: Effect.void
  } as unknown as Discovery["Type"])
  return {
    fake,
    network,
    ended,
    layer: Layer.merge(core({ settings: quiet, network, variants: { platform } }), discovery)
  }
}

/** Leaves, and lets all the time pass that leaving may take. */
const left = (reason: ShutdownReason) =>
  Effect.gen(function* () {
    const leaving = yield* Effect.fork(leave(reason))
    yield* pass(5_000)
    assert.isNotNull(leaving.unsafePoll())
  })

describe("leaving", () => {
  it.scoped("tells the channels that asked for it, before they are closed, and no others", () => {
    const { layer } = world()
    return Effect.gen(function* () {
      const [asked, other] = [yield* session(11, {}, told), yield* session(12)]
      yield* settle
      const closes: Array<number> = []
      for (const { socket } of [asked, other]) {
        socket.close = (code) => {
          closes.push(code)
          assert.deepStrictEqual(
            asked.socket.frames.filter(({ event }) => event === "broker_draining"),
            [{ event: "broker_draining", retry_after_ms: 5_000 }]
          )
          socket.end(code)
        }
      }
      yield* left("operator")
      assert.deepStrictEqual(closes, [1001, 1001])
      assert.notInclude(
        other.socket.frames.map(({ event }) => event),
        "broker_draining"
      )
    }).pipe(Effect.provide(layer))
  })

  it.scoped("says how soon another broker can be looked for, when one follows", () => {
    const { layer } = world()
    return Effect.gen(function* () {
      const { socket } = yield* session(11, {}, told)
      yield* left("restart")
      const notice = socket.frames.find((frame) => frame.event === "broker_draining")
      assert.isBelow(notice!.retry_after_ms, 1_000)
    }).pipe(Effect.provide(layer))
  })

  it.scoped("L3: for a restart, the platform keeps the endpoints and hears that they are reconnecting", () => {
    const { ended, fake, layer } = world()
    return Effect.gen(function* () {
      const { endpointId } = yield* session(11)
      yield* settle
      yield* left("restart")
      assert.deepStrictEqual(ended, [])
      assert.strictEqual(fake.statesOf(endpointId).at(-1), "reconnecting/broker_restart")
      assert.strictEqual((yield* Directory).unsafeGet(endpointId)!.state._tag, "Reconnecting")
    }).pipe(Effect.provide(layer))
  })

  it.scoped("L3: for any other reason, they end there and stay here", () => {
    const { ended, fake, layer } = world()
    return Effect.gen(function* () {
      const { endpointId } = yield* session(11)
      yield* settle
      yield* left("operator")
      assert.deepStrictEqual(ended, [endpointId])
      assert.strictEqual(fake.statesOf(endpointId).at(-1), "reconnecting/ipc_close")
    }).pipe(Effect.provide(layer))
  })

  it.scoped("D5: what a plugin acknowledges until its channel ends is delivered, notice or not", () => {
    const { layer, network } = world()
    return Effect.gen(function* () {
      const plugin = yield* session(11, {}, told)
      network.deliver(mail(plugin.endpointId, "taken"), mail(plugin.endpointId, "not taken"))
      yield* settle
      plugin.socket.close = (code) => {
        plugin.acknowledge(plugin.received[0]!)
        plugin.socket.end(code)
      }
      yield* left("restart")
      assert.strictEqual((yield* Mailboxes).unsafeTotals().messages, 1)
    }).pipe(Effect.provide(layer))
  })
})
