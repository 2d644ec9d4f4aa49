/** Control events with the built broker: what the owner orders at the platform happens here. */
import { chmodSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, temporaryDirectory } from "../kit/broker.js"
import { type Cloud, startCloud, startCloudBroker, untilCalled, untilRegistered } from "../kit/cloud.js"
import { inboxOf, startSession } from "../kit/endToEnd.js"

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
