import { assert, describe, it } from "@effect/vitest"
import { WebSocket } from "ws"
import { Endpoints, type RegisterBody } from "../../../src/services/devCloud/Endpoints.js"
import { accountOf, type Cloud, call, run, Subscriber, soon, withCloud } from "./kit.js"

const registration = (nonce: string) => ({ runtime_kind: "shell", endpoint_nonce: nonce, display_label: "shell" })
const register = async (cloud: Cloud, name: string, nonce: string) =>
  (await call(cloud, name, "POST", "/runtime-endpoints", registration(nonce))).body
const closed = { state: "closed", reason: "plugin_exit", ts: new Date().toISOString() }

describe("the platform", () => {
  it.live("knows whose token it is, and refuses any other", () =>
    withCloud(async (cloud) => {
      assert.deepStrictEqual((await call(cloud, "alice", "GET", "/whoami")).body, {
        subjectId: "node_alice",
        subjectType: "agent-runtime",
        ownerUserId: "user_developer"
      })
      const stranger = await fetch(`${cloud.url}/v1/whoami`, { headers: { authorization: "Bearer x" } })
      assert.strictEqual(stranger.status, 401)
      assert.deepInclude(await stranger.json(), { error: "unauthorized" })
      assert.strictEqual((await fetch(`${cloud.url}/v1/whoami`)).status, 401)
    })
  )

  it.live("registers an endpoint once per nonce and account, and a retired one anew", () =>
    withCloud(async (cloud) => {
      const first = await register(cloud, "alice", "n1")
      assert.match(first.endpoint_id, /^ep_/)
      assert.deepInclude(first, {
        node_id: "node_alice",
        display_label: "shell",
        heartbeat_after_seconds: 30,
        lease_ttl_seconds: 90,
        soft_retention_seconds: 86_400,
        session_naming: { nickname: "session 1", owner_edited_name: null }
      })
      assert.strictEqual((await register(cloud, "alice", "n1")).endpoint_id, first.endpoint_id)
      assert.notStrictEqual((await register(cloud, "alice", "n2")).endpoint_id, first.endpoint_id)
      assert.notStrictEqual((await register(cloud, "bob", "n1")).endpoint_id, first.endpoint_id)
      assert.strictEqual((await call(cloud, "alice", "DELETE", `/runtime-endpoints/${first.endpoint_id}`)).status, 204)
      assert.notStrictEqual((await register(cloud, "alice", "n1")).endpoint_id, first.endpoint_id)
    })
  )

  it.live("takes heartbeats, states and display metadata of its own endpoints only", () =>
    withCloud(async (cloud) => {
      const { endpoint_id: id } = await register(cloud, "alice", "n1")
      const path = `/runtime-endpoints/${id}`
      assert.strictEqual((await call(cloud, "alice", "POST", `${path}/heartbeat`)).status, 200)
      assert.deepInclude((await call(cloud, "bob", "POST", `${path}/heartbeat`)).body, { error: "endpoint_unknown" })
      const display = await call(cloud, "alice", "POST", `${path}/display-metadata`, { task_hint: "parse" })
      assert.strictEqual(display.status, 204)
      const away = { ...closed, state: "reconnecting", reason: "ipc_close" }
      assert.strictEqual((await call(cloud, "alice", "POST", `${path}/state`, away)).status, 204)
      const view = await call(cloud, "alice", "GET", `${path}?as=node_alice`)
      assert.deepInclude(view.body, { endpoint_id: id, task_hint: "parse", state: "reconnecting" })
      assert.notProperty(view.body, "retired_at")
      assert.strictEqual((await call(cloud, "alice", "GET", `${path}?as=node_bob`)).status, 403)

      assert.strictEqual((await call(cloud, "alice", "POST", `${path}/state`, closed)).status, 204)
      assert.property((await call(cloud, "alice", "GET", path)).body, "retired_at")
      assert.strictEqual((await call(cloud, "alice", "POST", `${path}/heartbeat`)).status, 404)
      assert.strictEqual((await call(cloud, "alice", "POST", `${path}/state`, away)).status, 404)
      assert.strictEqual((await call(cloud, "alice", "DELETE", path)).status, 204)
      const list = await call(cloud, "alice", "GET", "/runtime-endpoints?as=node_alice")
      assert.deepInclude(list.body, { total: 1 })
      assert.deepInclude((await call(cloud, "bob", "GET", "/runtime-endpoints")).body, { total: 0 })
    })
  )

  it.live("ends a lease that is not renewed; the nonce brings the endpoint back", () =>
    withCloud(
      async (cloud) => {
        const { endpoint_id: id } = await register(cloud, "alice", "n1")
        await soon(150)
        assert.strictEqual((await call(cloud, "alice", "POST", `/runtime-endpoints/${id}/heartbeat`)).status, 404)
        assert.strictEqual((await register(cloud, "alice", "n1")).endpoint_id, id)
        assert.strictEqual((await call(cloud, "alice", "POST", `/runtime-endpoints/${id}/heartbeat`)).status, 200)
        await run(cloud.forget(id))
        assert.strictEqual((await call(cloud, "alice", "GET", `/runtime-endpoints/${id}`)).status, 404)
        assert.notStrictEqual((await register(cloud, "alice", "n1")).endpoint_id, id)
      },
      { leaseMs: 100, heartbeatMs: 50 }
    )
  )

  it.live("shows that the owner retired an endpoint", () =>
    withCloud(async (cloud) => {
      const { endpoint_id: id } = await register(cloud, "alice", "n1")
      await run(cloud.retire(id))
      assert.property((await call(cloud, "alice", "GET", `/runtime-endpoints/${id}`)).body, "retired_at")
      assert.deepInclude((await run(cloud.view("alice"))).endpoints[0], { retired: true, reason: "owner_removed" })
    })
  )

  it.live("keeps the inbox and the presence a broker reports", () =>
    withCloud(async (cloud) => {
      const change = (body: object) =>
        call(cloud, "alice", "POST", "/runtime/undispatched-changed", {
          type: "undispatched_changed",
          version: 1,
          ...body
        })
      assert.strictEqual((await change({ action: "add", undispatched_id: "u1", sender_address: "x" })).status, 204)
      await change({ action: "add", undispatched_id: "u2" })
      await change({ action: "dispatch", undispatched_id: "u1", dispatched_to_endpoint_id: "ep" })
      const presence = { type: "network_presence_changed", version: 1, state: "online", ts: 1, reason: "x" }
      assert.strictEqual(
        (await call(cloud, "alice", "POST", "/runtime/network-presence-changed", presence)).status,
        204
      )
      const view = await run(cloud.view("alice"))
      assert.deepStrictEqual(
        [view.presence, view.undispatched.map(({ undispatched_id }) => undispatched_id)],
        ["online", ["u2"]]
      )
    })
  )

  it.live("refuses bodies that are not of their shape, naming the field, and paths it has not", () =>
    withCloud(async (cloud) => {
      const bad = await call(cloud, "alice", "POST", "/runtime-endpoints", { runtime_kind: "x", endpoint_nonce: 1 })
      assert.strictEqual(bad.status, 422)
      assert.match(bad.body.message, /^endpoint_nonce: /)
      for (const path of [
        "/runtime/undispatched-changed",
        "/runtime/network-presence-changed",
        "/runtime/control-ack"
      ]) {
        assert.strictEqual((await call(cloud, "alice", "POST", path, [])).status, 422)
      }
      assert.strictEqual((await call(cloud, "alice", "POST", "/runtime-endpoints", "{")).status, 400)
      assert.strictEqual(
        (await call(cloud, "alice", "POST", "/runtime-endpoints", `"${"x".repeat(17 * 1024 * 1024)}"`)).status,
        413
      )
      for (const [method, path] of [
        ["GET", "/"],
        ["PUT", "/whoami"],
        ["POST", "/runtime-endpoints/x/unheard-of"],
        ["GET", "/runtime-endpoints/%zz"],
        ["POST", "/runtime/self-claim"]
      ] as const) {
        assert.strictEqual((await call(cloud, "alice", method, path)).status, 404, path)
      }
    })
  )

  it.live("has every call in its journal, in order, with body and answer, and no token", () =>
    withCloud(async (cloud) => {
      await register(cloud, "alice", "n1")
      await call(cloud, "bob", "GET", "/whoami")
      await call(cloud, "alice", "POST", "/runtime-endpoints/none/heartbeat")
      const calls = await run(cloud.happened({ kind: "platform", account: "alice" }))
      assert.deepStrictEqual(
        calls.map((one) => one.kind === "platform" && [one.call, one.method, one.path, one.status]),
        [
          ["register_endpoint", "POST", "/v1/runtime-endpoints", 201],
          ["heartbeat", "POST", "/v1/runtime-endpoints/none/heartbeat", 404]
        ]
      )
      assert.deepInclude(calls[0], { body: registration("n1") })
      assert.notInclude(JSON.stringify(await run(cloud.happened())), "rk_dev_")
      const seen = await run(cloud.awaitHappening((one) => one.kind === "platform" && one.status === 404))
      assert.strictEqual(seen.n, calls[1]!.n)
    })
  )

  it.live("is for this machine, and for no web page", () =>
    withCloud(async (cloud) => {
      const page = await fetch(`${cloud.url}/dev`, { headers: { origin: "https://page.example" } })
      assert.strictEqual(page.status, 403)
      const socket = new WebSocket(accountOf(cloud, "alice").connectorUrl, { origin: "https://page.example" })
      const refused = await new Promise((resolve) => socket.on("error", ({ message }) => resolve(message)))
      assert.match(String(refused), /403/)
    })
  )
})

describe("leases", () => {
  it("last to the millisecond, and come back within their retention only", () => {
    let minted = 0
    const endpoints = new Endpoints({ heartbeatMs: 1, leaseMs: 10, retentionMs: 100 }, () => `ep_${++minted}`)
    const body: RegisterBody = registration("n1")
    const { endpointId } = endpoints.register(body, 0)
    assert.isTrue(endpoints.heartbeat(endpointId, 9))
    assert.isFalse(endpoints.heartbeat(endpointId, 19))
    assert.strictEqual(endpoints.register(body, 119).endpointId, endpointId)
    assert.notStrictEqual(endpoints.register(body, 119 + 10 + 101).endpointId, endpointId)
  })
})

describe("control events", () => {
  const types = (events: ReadonlyArray<{ readonly data: string }>) => events.map(({ data }) => JSON.parse(data).type)

  it.live("reach their subscribers in order, filled in, with ids that count up", () =>
    withCloud(async (cloud) => {
      const one = await Subscriber.open(cloud, "alice")
      const other = await Subscriber.open(cloud, "bob")
      const spawn = { type: "spawn_request", prompt: "p", runtime_kind: "codex", origin: "owner_initiated_spawn" }
      const dispatch = { type: "dispatch_undispatched", undispatched_id: "u", target_endpoint_id: "e" }
      const sent = await run(cloud.control({ account: "alice", event: spawn }))
      await run(cloud.control({ account: "alice", event: { ...dispatch, idempotency_key: "k2" } }))
      await run(
        cloud.control({ account: "alice", event: { type: "force_unregister", emitted_at: null, version: "1" } })
      )
      const events = await one.count(3)
      const [first, second, third] = events.map(({ data }) => JSON.parse(data))
      assert.deepInclude(first, { ...spawn, version: 1, idempotency_key: sent.idempotency_key })
      assert.isNumber(first.emitted_at)
      assert.deepInclude(second, { ...dispatch, idempotency_key: "k2" })
      assert.deepInclude(third, { type: "force_unregister", version: "1" })
      assert.notProperty(third, "emitted_at")
      assert.strictEqual(events[0]!.id, sent.id)
      assert.isAbove(Number(events[1]!.id), Number(events[0]!.id))
      assert.deepStrictEqual(other.events, [])
      one.leave()
      other.leave()
    })
  )

  it.live("are repeated after the id a subscriber has seen, and to a new one as far as nobody acknowledged them", () =>
    withCloud(async (cloud) => {
      const ids: Array<string> = []
      for (const type of ["a", "b", "c"]) {
        ids.push((await run(cloud.control({ account: "alice", event: { type, idempotency_key: type } }))).id)
      }
      const ack = { idempotency_key: "b", status: "applied" }
      assert.strictEqual((await call(cloud, "alice", "POST", "/runtime/control-ack", ack)).status, 204)
      const after = await Subscriber.open(cloud, "alice", ids[0])
      assert.deepStrictEqual(types(await after.count(2)), ["b", "c"])
      const fresh = await Subscriber.open(cloud, "alice")
      assert.deepStrictEqual(types(await fresh.count(2)), ["a", "c"])
      const lost = await Subscriber.open(cloud, "alice", "99999999999999")
      assert.deepStrictEqual(types(await lost.count(2)), ["a", "c"])
      assert.strictEqual((await run(cloud.view("alice"))).control_subscribers, 3)
      for (const one of [after, fresh, lost]) one.leave()
      await soon()
      assert.strictEqual((await run(cloud.view("alice"))).control_subscribers, 0)
    })
  )

  it.live("may be any bytes, in the pieces they are given in", () =>
    withCloud(async (cloud) => {
      const one = await Subscriber.open(cloud, "alice")
      await run(cloud.rawControl({ account: "alice", chunks: ["id: 7\r", "\ndata: {no", " json\r\n\r\n"] }))
      for (let n = 0; n < 100 && !one.text.endsWith("json\r\n\r\n"); n++) await soon(10)
      assert.include(one.text, "id: 7\r\ndata: {no json\r\n\r\n")
      one.leave()
    })
  )

  it.live("are refused to another agent", () =>
    withCloud(async (cloud) => {
      assert.strictEqual((await call(cloud, "alice", "GET", "/runtime/control-events?agent_id=node_bob")).status, 403)
    })
  )
})
