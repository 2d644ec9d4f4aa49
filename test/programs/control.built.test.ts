/** Control events with the built broker: what the owner orders at the platform happens here. */
import { chmodSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, temporaryDirectory } from "../kit/broker.js"
import { type Cloud, startCloud, startCloudBroker, untilCalled, untilRegistered } from "../kit/cloud.js"
import { inboxOf, startSession } from "../kit/endToEnd.js"
import { idleProcess } from "../kit/startedProcess.js"

/** A session: reads where the broker is from its discovery file, opens a stream, registers with its token, and stays. */
const agent = (discovery: string) => `#!${process.execPath}
const { get } = require("node:http")
const { readFileSync } = require("node:fs")
const { bearerToken, ipcUrl } = JSON.parse(readFileSync(${JSON.stringify(discovery)}, "utf8"))
const headers = { authorization: "Bearer " + bearerToken, "x-plugin-pid": String(process.pid) }
const upgrade = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13",
  "sec-websocket-key": Buffer.alloc(16).toString("base64") }
get(ipcUrl + "/v1/stream", { headers: { ...headers, ...upgrade } }).on("upgrade", async (_, socket) => {
  socket.on("error", () => process.exit(0)).on("close", () => process.exit(0)).resume()
  await fetch(ipcUrl + "/v1/endpoint/register", { method: "POST", headers, body: JSON.stringify({
    agent_id: "spawned", plugin_pid: process.pid, kind: "custom", spawn_token: process.env.MASONS_SPAWN_TOKEN }) })
})
setTimeout(() => process.exit(0), 20000)
`

const acknowledged = (cloud: Cloud, key: string, status: string) =>
  untilCalled(cloud, "alice", "control_ack", ({ body }) => {
    const ack = body as { idempotency_key?: string; status?: string }
    return ack.idempotency_key === key && ack.status === status
  })
const control = (cloud: Cloud, event: object) => cloud.control({ account: "alice", event: { ...event } })

it.scopedLive(
  "an unaddressed message is dispatched, a real session is started and registers with its token, and is ended by force",
  () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const userData = yield* temporaryDirectory
      const script = join(userData, "agent.cjs")
      const broker = yield* startCloudBroker(cloud, "alice", { spawnCommand: JSON.stringify([script]) }, userData)
      writeFileSync(script, agent(join(broker.directory, "discovery.json")))
      chmodSync(script, 0o700)
      yield* untilRegistered(cloud, "alice")
      const session = yield* startSession(broker, {}, { agent_id: "alice" })

      yield* cloud.inject({ account: "alice", content: "for whom?" })
      const [item] = yield* inboxOf(broker, "for whom?")
      yield* control(cloud, {
        type: "dispatch_undispatched",
        idempotency_key: "k-1",
        undispatched_id: item.id,
        target_endpoint_id: session.id
      })
      yield* acknowledged(cloud, "k-1", "applied")
      assert.strictEqual((yield* session.plugin.take(1))[0]!.content, "for whom?")

      yield* control(cloud, {
        type: "spawn_request",
        idempotency_key: "k-2",
        prompt: "go",
        runtime_kind: "custom",
        origin: "test"
      })
      yield* acknowledged(cloud, "k-2", "applied")
      const { endpoints } = yield* eventually(broker.status, ({ endpoints }) => endpoints.length === 2)
      const spawned = endpoints.find(({ endpoint_id }) => endpoint_id !== session.id)!

      yield* control(cloud, {
        type: "force_unregister",
        idempotency_key: "k-3",
        endpoint_id: spawned.endpoint_id,
        reason: "owner_removed"
      })
      yield* acknowledged(cloud, "k-3", "applied")
      yield* eventually(broker.status, ({ endpoints }) => endpoints.length === 1)
    })
)

it.scopedLive(
  "B9, F4: the same events again, out of order and after the broker was killed, have each effect once",
  () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const userData = yield* temporaryDirectory
      const [script, starts] = [join(userData, "agent.cjs"), join(userData, "starts")]
      writeFileSync(
        script,
        `#!${process.execPath}\nrequire("node:fs").appendFileSync(${JSON.stringify(starts)}, "x")\nsetTimeout(() => {}, 5000)\n`
      )
      chmodSync(script, 0o700)
      const settings = { spawnCommand: JSON.stringify([script]), spawnCorrelationMs: 300 }
      const first = yield* startCloudBroker(cloud, "alice", settings, userData)
      yield* untilRegistered(cloud, "alice")
      const plugin = yield* idleProcess
      const session = yield* startSession(first, { process: plugin }, { agent_id: "alice" })
      for (const content of ["one", "two"]) yield* cloud.inject({ account: "alice", content, message_id: content })
      yield* inboxOf(first, "one", "two")

      const dispatch = (id: string) => ({
        type: "dispatch_undispatched",
        idempotency_key: `k-${id}`,
        undispatched_id: id,
        target_endpoint_id: session.id
      })
      const spawn = {
        type: "spawn_request",
        idempotency_key: "k-spawn",
        prompt: "go",
        runtime_kind: "custom",
        origin: "x"
      }
      yield* control(cloud, dispatch("one"))
      yield* control(cloud, spawn)
      yield* acknowledged(cloud, "k-one", "applied")
      yield* acknowledged(cloud, "k-spawn", "failed")
      assert.strictEqual((yield* session.plugin.take(1))[0]!.content, "one")
      yield* first.end("SIGKILL")

      const registered = (yield* cloud.happened({ account: "alice" })).at(-1)!.n
      const second = yield* startCloudBroker(cloud, "alice", settings, userData)
      yield* untilRegistered(cloud, "alice", registered)
      const again = yield* startSession(second, { process: plugin }, { agent_id: "alice" })
      assert.strictEqual(again.id, session.id, "the endpoint of the first life")
      const replay = (event: object) => {
        const text = JSON.stringify({ version: 1, emitted_at: 1, ...event })
        return cloud.rawControl({ account: "alice", chunks: [`data: ${text}\n\n`] })
      }
      yield* eventually(
        cloud.happened({ account: "alice", kind: "subscription" }),
        (happenings) => happenings.filter((it) => it.kind === "subscription" && it.state === "opened").length >= 2
      )
      for (const event of [spawn, dispatch("one"), dispatch("two"), dispatch("one"), spawn]) yield* replay(event)
      yield* acknowledged(cloud, "k-two", "applied")
      assert.strictEqual((yield* again.plugin.take(1))[0]!.content, "two")
      yield* again.send(`mstp://dev/alice/${again.id}`, "nothing came between")
      assert.strictEqual((yield* again.plugin.take(1))[0]!.content, "nothing came between")
      assert.strictEqual(readFileSync(starts, "utf8"), "x", "one session was started")
    })
)
