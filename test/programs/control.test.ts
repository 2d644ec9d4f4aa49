/** Control events from the development cloud to a whole broker, with real sessions it starts. */
import { writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import * as AccountCheckPlatform from "../../src/layers/AccountCheckPlatform.js"
import * as ControlEventsHttp from "../../src/layers/ControlEventsHttp.js"
import * as DevCloudServer from "../../src/layers/devCloud/DevCloudServer.js"
import * as LivenessProcess from "../../src/layers/LivenessProcess.js"
import * as PlatformApiHttp from "../../src/layers/PlatformApiHttp.js"
import * as SpawnerProcess from "../../src/layers/SpawnerProcess.js"
import { brokerWith } from "../../src/programs/Graph.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Connector } from "../../src/services/Connector.js"
import { ControlEvents } from "../../src/services/ControlEvents.js"
import { Credentials } from "../../src/services/Credentials.js"
import { DevCloud } from "../../src/services/DevCloud.js"
import { Directory } from "../../src/services/Directory.js"
import type { Happening } from "../../src/services/devCloud/Journal.js"
import { Inbox } from "../../src/services/Inbox.js"
import { IpcServer } from "../../src/services/IpcServer.js"
import { IpcTokens } from "../../src/services/IpcTokens.js"
import { settle } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakeStore } from "../kit/FakeStore.js"
import { configWith, KeptLog } from "../kit/ground.js"
import { ownPrograms, type Programs, until } from "../kit/spawning.js"
import { session } from "../kit/steps.js"

/** What outlives the broker. */
class World {
  readonly store = new FakeStore()
  readonly log = new KeptLog()
  network = new FakeNetwork()
  readonly programs: Programs

  constructor(programs: Programs) {
    this.programs = programs
  }

  /** A session: opens the stream, registers with its token, and stays. */
  writeAgent(): string {
    const door = JSON.stringify(this.programs.at("door.json"))
    return this.programs.write(
      "agent",
      `
  const { url, token } = JSON.parse(fs.readFileSync(${door}, "utf8"))
  const headers = { authorization: "Bearer " + token, "x-plugin-pid": String(process.pid) }
  const upgrade = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13",
    "sec-websocket-key": Buffer.alloc(16).toString("base64") }
  require("node:http").get(url + "/v1/stream", { headers: { ...headers, ...upgrade } }).on("upgrade", async (_, socket) => {
    socket.on("error", () => process.exit(0)).on("close", () => process.exit(0)).resume()
    const body = JSON.stringify({ agent_id: "spawned", plugin_pid: process.pid, kind: "custom",
      spawn_token: process.env.MASONS_SPAWN_TOKEN })
    const answer = await fetch(url + "/v1/endpoint/register", { method: "POST", body,
      headers: { ...headers, "content-type": "application/json" } })
    fs.writeFileSync(path.join(path.dirname(${door}), "answer.json"), await answer.text())
  }).on("error", () => process.exit(0))
  setTimeout(() => process.exit(0), 15_000)`
    )
  }

  /** Runs in a life of the broker, which has a cloud. */
  life<A>(body: Effect.Effect<A, unknown, any>, settings: Partial<Settings> = {}) {
    this.network = new FakeNetwork()
    const credentials = Layer.effect(
      Credentials,
      Effect.map(DevCloud, ({ accounts: [alice] }) => ({
        accountId: "alice",
        runtimeToken: Redacted.make(alice!.token),
        connectorUrl: alice!.connectorUrl,
        apiOrigin: alice!.apiHost
      }))
    )
    const agent = { spawnCommand: JSON.stringify([this.programs.at("agent")]) }
    const broker = brokerWith({
      store: this.store.layer,
      platform: PlatformApiHttp.layer,
      connector: Layer.succeed(Connector, this.network.connector),
      control: {
        events: Layer.provide(ControlEventsHttp.layer, AccountCheckPlatform.layer),
        spawner: SpawnerProcess.layer
      }
    }).pipe(
      Layer.provideMerge(Layer.mergeAll(credentials, LivenessProcess.layer)),
      Layer.provideMerge(Layer.merge(configWith({ ...agent, backoffMs: 100, ...settings }), this.log.layer))
    )
    return Effect.gen(this, function* () {
      const { url } = yield* IpcServer
      const { plugin } = yield* IpcTokens
      writeFileSync(this.programs.at("door.json"), JSON.stringify({ url, token: Redacted.value(plugin) }))
      yield* until(() => this.log.events.at(-1) !== undefined, "a log")
      return yield* body
    }).pipe(Effect.scoped, Effect.provide(broker)) as Effect.Effect<A, unknown, DevCloud>
  }
}

const inWorld = (name: string, test: (world: World) => Effect.Effect<void, unknown, any>) =>
  it.scopedLive(
    name,
    () =>
      Effect.gen(function* () {
        const world = new World(yield* ownPrograms)
        world.writeAgent()
        yield* test(world)
      }).pipe(Effect.provide(DevCloudServer.layer())) as Effect.Effect<void>
  )

const acksIn = (happenings: ReadonlyArray<Happening>) =>
  happenings.flatMap((one) => {
    if (one.kind !== "platform" || one.call !== "control_ack" || one.status !== 204) return []
    const { detail, idempotency_key, status } = one.body as Record<string, string>
    return [[idempotency_key, status, detail].filter((part) => part !== undefined).join(" ")]
  })
const acks = Effect.flatMap(DevCloud, (cloud) => Effect.map(cloud.happened(), acksIn))
/** The acknowledgements, once there are so many of the keys. */
const acksOf = (count: number, ...keys: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    for (let waited = 0; waited < 8_000; waited += 20) {
      const found = (yield* acks).filter((ack) => keys.includes(ack.split(" ")[0]!))
      if (found.length >= count) return found
      yield* Effect.sleep(20)
    }
    return yield* Effect.dieMessage(`waited in vain for ${count} acknowledgements: ${JSON.stringify(yield* acks)}`)
  })
const control = (type: string, key: string, fields: object = {}) =>
  Effect.flatMap(DevCloud, (cloud) =>
    cloud.control({ account: "alice", event: { type, idempotency_key: key, ...fields } })
  )
/** An event once more, as it is. */
const again = (type: string, key: string, fields: object = {}) =>
  Effect.flatMap(DevCloud, (cloud) => {
    const event = { type, version: 1, idempotency_key: key, emitted_at: 1, ...fields }
    return cloud.rawControl({ account: "alice", chunks: [`data: ${JSON.stringify(event)}\n\n`] })
  })
const isOpen = Effect.gen(function* () {
  const events = yield* ControlEvents
  for (let waited = 0; waited < 5_000 && events.unsafeStatus().state !== "open"; waited += 10) yield* Effect.sleep(10)
  assert.strictEqual(events.unsafeStatus().state, "open")
})
const endpoints = Effect.map(Directory, (directory) => Array.from(directory.unsafeAll(), ({ session }) => session))
const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))

describe("control events of the development cloud", () => {
  inWorld("dispatch an unaddressed message, start a session that registers with its token, and end it", (world) =>
    world.life(
      Effect.gen(function* () {
        yield* isOpen
        const plugin = yield* session(process.pid, {}, [])
        world.network.deliver({ content: "m-1" })
        yield* settle
        yield* control("dispatch_undispatched", "k-1", {
          undispatched_id: "m-1",
          target_endpoint_id: plugin.endpointId
        })
        assert.deepStrictEqual(yield* acksOf(1, "k-1"), ["k-1 applied"])
        assert.deepStrictEqual(plugin.contents, ["m-1"])

        yield* control("spawn_request", "k-2", { prompt: "Summarise", runtime_kind: "custom", origin: "x" })
        assert.deepStrictEqual(yield* acksOf(2, "k-2"), ["k-2 received", "k-2 applied"])
        const { input } = yield* world.programs.started("k-2")
        assert.strictEqual(input, "Summarise")
        const [spawned] = (yield* endpoints).filter(({ agentId }) => agentId === "spawned")
        assert.deepInclude(spawned, { kind: "custom" })
        const directory = yield* Directory
        const { id } = [...directory.unsafeAll()].find(({ agent }) => agent === "spawned")!
        // Sessions of this kind can be started here, which the platform is told.
        const registered = (yield* (yield* DevCloud).happened({ call: "register_endpoint" })).at(-1)
        assert.deepInclude((registered as { body?: object }).body, { runtime_capabilities: ["remote_spawn_v1"] })

        yield* control("force_unregister", "k-3", { endpoint_id: id, reason: "owner_removed" })
        assert.deepStrictEqual(yield* acksOf(1, "k-3"), ["k-3 applied"])
        assert.isUndefined(directory.unsafeGet(id))
      })
    )
  )

  inWorld("replayed, reordered and delivered again after a restart have each effect once: B9, F4", (world) =>
    Effect.gen(function* () {
      const message = { undispatched_id: "m-1", target_endpoint_id: "" }
      const spawning = { prompt: "go", runtime_kind: "custom" }
      yield* world.life(
        Effect.gen(function* () {
          yield* isOpen
          const plugin = yield* session(process.pid, {}, [])
          message.target_endpoint_id = plugin.endpointId
          world.network.deliver({ content: "m-1" })
          yield* settle
          yield* (yield* DevCloud).fault({ at: "event", does: "duplicate" })
          yield* control("dispatch_undispatched", "k-1", message)
          yield* control("spawn_request", "k-2", spawning)
          yield* acksOf(1, "k-1")
          assert.strictEqual((yield* acksOf(2, "k-2"))[0], "k-2 received")
          yield* again("spawn_request", "k-2", spawning)
          yield* again("dispatch_undispatched", "k-1", message)
          yield* acksOf(3, "k-2")
          assert.deepStrictEqual(plugin.contents, ["m-1"])
        })
      )
      yield* (yield* DevCloud).clear()
      const acked = yield* acks
      yield* world.life(
        Effect.gen(function* () {
          yield* isOpen
          world.network.deliver({ content: "m-1" })
          yield* settle
          for (let round = 0; round < 3; round++) {
            yield* again("spawn_request", "k-2", spawning)
            yield* again("dispatch_undispatched", "k-1", message)
          }
          yield* control("dispatch_nudge", "k-3")
          // Each is acknowledged by itself, in any order.
          for (const key of ["k-1", "k-2", "k-3"]) {
            const earlier = acked.filter((ack) => ack.startsWith(`${key} `)).length
            yield* acksOf(earlier + 1, key)
          }
          assert.deepStrictEqual(yield* undispatched, ["m-1"], "the old event does not move it again")
          const spawned = (yield* endpoints).filter(({ agentId }) => agentId === "spawned")
          assert.lengthOf(spawned, 1, "the one of the first life, which waits for its plugin")
        })
      )
      assert.isFalse(world.programs.wasStartedTwice("k-2"))
      const last = new Set((yield* acks).slice(acked.length))
      assert.sameMembers([...last], ["k-1 applied", "k-2 applied", "k-3 applied"])
    })
  )

  inWorld("F4: a spawn that is replayed while it is pending is acknowledged as received, not as applied", (world) =>
    world.life(
      Effect.gen(function* () {
        yield* isOpen
        world.programs.write("agent", "setTimeout(() => {}, 2_000)")
        yield* control("spawn_request", "k-1", { prompt: "go", runtime_kind: "custom" })
        yield* acksOf(1, "k-1")
        yield* again("spawn_request", "k-1", { prompt: "go", runtime_kind: "custom" })
        assert.deepStrictEqual(yield* acksOf(3, "k-1"), [
          "k-1 received",
          "k-1 received",
          "k-1 failed spawn_correlation_timeout"
        ])
        yield* again("spawn_request", "k-1", { prompt: "go", runtime_kind: "custom" })
        assert.strictEqual((yield* acksOf(4, "k-1"))[3], "k-1 failed spawn_correlation_timeout")
        assert.isFalse(world.programs.wasStartedTwice("k-1"))
      }),
      { spawnCorrelationMs: 1_000 }
    )
  )

  inWorld("F7: come after the broker was away, and begin where it had handled all", (world) =>
    Effect.gen(function* () {
      yield* world.life(
        Effect.gen(function* () {
          yield* isOpen
          yield* control("dispatch_nudge", "k-1")
          yield* acksOf(1, "k-1")
        })
      )
      const { id } = yield* control("dispatch_nudge", "k-2")
      yield* world.life(Effect.zipRight(isOpen, acksOf(1, "k-2")))
      const opened = (yield* (yield* DevCloud).happened({ kind: "subscription" })).filter(
        (one) => one.kind === "subscription" && one.state === "opened"
      )
      assert.strictEqual(opened.length, 2)
      assert.match((opened[1] as { detail: string }).detail, /^after \d+$/)
      assert.deepStrictEqual(
        world.store.recordsOf<{ id: string }>("control_position").map((one) => one.id),
        [id]
      )
      // What the first life ended over, before it knew that the cloud has it, is posted once more.
      assert.deepStrictEqual([...new Set(yield* acks)], ["k-1 applied", "k-2 applied"])
    })
  )

  inWorld(
    "F8: acknowledgements that are refused with 503 are posted again; D11: one that hangs delays no others",
    (world) =>
      world.life(
        Effect.gen(function* () {
          const cloud = yield* DevCloud
          yield* isOpen
          yield* cloud.fault({ at: "control_ack", does: "refuse", status: 503, times: 2 })
          yield* control("dispatch_nudge", "k-1")
          assert.deepStrictEqual(yield* acksOf(1, "k-1"), ["k-1 applied"])
          yield* cloud.fault({ at: "control_ack", does: "hold", times: 1 })
          yield* control("dispatch_nudge", "k-2")
          yield* Effect.sleep(50)
          yield* control("dispatch_nudge", "k-3")
          assert.deepStrictEqual(yield* acksOf(1, "k-3"), ["k-3 applied"])
          yield* cloud.clear()
          yield* acksOf(1, "k-2")
        })
      )
  )

  inWorld("survive cuts, nonsense, reordering and faults of the subscription", (world) =>
    world.life(
      Effect.gen(function* () {
        const cloud = yield* DevCloud
        yield* isOpen
        yield* cloud.fault({ at: "control_events", does: "refuse", status: 401, times: 1 })
        yield* cloud.fault({ at: "control_events", does: "malformed", times: 1 })
        yield* cloud.cut({ account: "alice" })
        yield* control("dispatch_nudge", "k-1")
        yield* acksOf(1, "k-1")
        yield* cloud.fault({ at: "event", does: "malformed", times: 1 })
        yield* control("dance", "k-2")
        yield* cloud.fault({ at: "event", does: "cut", times: 1 })
        yield* control("dispatch_nudge", "k-3")
        yield* cloud.fault({ at: "event", does: "reorder", times: 2 })
        yield* control("force_unregister", "k-4")
        yield* control("dispatch_nudge", "k-5", { version: 7 })
        yield* cloud.clear()
        yield* isOpen
        yield* acksOf(4, "k-2", "k-3", "k-4", "k-5")
        assert.sameMembers(
          [...new Set(yield* acks)],
          [
            "k-1 applied",
            "k-2 applied unknown_variant_dropped",
            "k-3 applied",
            "k-4 failed invalid_event: endpoint_id",
            "k-5 failed unsupported_protocol_version"
          ]
        )
      })
    )
  )

  inWorld('with "queue and bind" give the new session the message that caused it', (world) =>
    world.life(
      Effect.gen(function* () {
        yield* isOpen
        world.network.deliver({ content: "m-1" })
        yield* settle
        yield* control("spawn_request", "k-1", { prompt: "go", runtime_kind: "custom", undispatched_id: "m-1" })
        assert.deepStrictEqual(yield* acksOf(2, "k-1"), ["k-1 received", "k-1 applied"])
        yield* until(() => world.log.events.includes("undispatched_dispatched"), "the dispatch")
        assert.deepStrictEqual(yield* undispatched, [])
      }),
      { spawnBinds: true }
    )
  )

  inWorld("D2: the broker ends at once with an open stream, and in the wait after a lost one", (world) =>
    Effect.gen(function* () {
      const cloud = yield* DevCloud
      const timed = <A>(life: Effect.Effect<A, unknown, DevCloud>) => Effect.map(Effect.timed(life), ([took]) => took)
      const started = { at: 0 }
      const mark = Effect.sync(() => {
        started.at = Date.now()
      })
      yield* timed(world.life(Effect.zipRight(isOpen, mark)))
      assert.isBelow(Date.now() - started.at, 1_000)
      yield* cloud.fault({ at: "control_events", does: "refuse", status: 503 })
      const waiting = Effect.gen(function* () {
        const events = yield* ControlEvents
        yield* until(() => events.unsafeStatus().state === "waiting", "the wait")
        yield* mark
      })
      yield* timed(world.life(waiting, { backoffMs: 30_000 }))
      assert.isBelow(Date.now() - started.at, 1_000)
    })
  )
})
