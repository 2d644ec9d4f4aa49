import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { startPlugin } from "../../kit/broker.js"
import { refused, startSession, statusOf, untilState, usualBroker } from "../../kit/endToEnd.js"

const path = (id: string) => `/v1/endpoint/${id}/reattach`

describe("POST /v1/endpoint/{id}/reattach", () => {
  /** A session whose stream was cut. */
  const away = (capabilities: ReadonlyArray<string> = ["push_receipt_ack_v1"]) =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const session = yield* startSession(broker, { capabilities })
      yield* session.plugin.drop
      yield* untilState(broker, session.id, "reconnecting")
      const reattach = (body: object = { plugin_pid: session.plugin.pid }, headers: Record<string, string> = {}) =>
        session.plugin.call("POST", path(session.id), body, headers)
      return { ...session, broker, reattach }
    })

  it.scopedLive("brings the endpoint back, says how much mail waits, and delivers it in order", () =>
    Effect.gen(function* () {
      const { address, broker, id, plugin, reattach } = yield* away()
      const sender = yield* startSession(broker)
      const contents = ["one", "two", "three"]
      for (const content of contents) assert.strictEqual((yield* sender.send(address, content)).body.status, "stored")
      yield* plugin.open
      const answer = yield* reattach()
      assert.deepStrictEqual([answer.status, answer.body], [200, { restored: true, reconnecting_buffer_count: 3 }])
      assert.deepStrictEqual(
        (yield* plugin.take(3)).map(({ content }) => content),
        contents
      )
      assert.strictEqual((yield* statusOf(broker, id))!.state, "active")
    })
  )

  it.scopedLive("says 0 when nothing waits", () =>
    Effect.gen(function* () {
      const { plugin, reattach } = yield* away()
      yield* plugin.open
      assert.deepStrictEqual((yield* reattach()).body, { restored: true, reconnecting_buffer_count: 0 })
    })
  )

  it.scopedLive("F3: refuses a process id that is none, before everything else", () =>
    Effect.gen(function* () {
      const { plugin, reattach } = yield* away()
      for (const plugin_pid of [undefined, null, 0, -1, 1.5, String(plugin.pid), {}]) {
        refused(yield* reattach({ plugin_pid }), 400, "plugin_pid_invalid", "plugin_pid")
      }
      refused(yield* plugin.call("POST", path("ep_nobody"), {}), 400, "plugin_pid_invalid", "plugin_pid")
    })
  )

  it.scopedLive("refuses a process without an open stream, before it looks for the endpoint", () =>
    Effect.gen(function* () {
      const { plugin, reattach } = yield* away()
      refused(yield* reattach(), 400, "ipc_channel_missing", String(plugin.pid))
      const nobody = yield* plugin.call("POST", path("ep_nobody"), { plugin_pid: plugin.pid })
      refused(nobody, 400, "ipc_channel_missing")
    })
  )

  it.scopedLive("F9: an endpoint nobody knows is endpoint_unknown", () =>
    Effect.gen(function* () {
      const plugin = yield* startPlugin(yield* usualBroker)
      yield* plugin.open
      const answer = yield* plugin.call("POST", path("ep_nobody"), { plugin_pid: plugin.pid })
      refused(answer, 404, "endpoint_unknown", "ep_nobody")
    })
  )

  it.scopedLive("refuses another process by the route's own code", () =>
    Effect.gen(function* () {
      const { broker, id, plugin } = yield* away()
      const stranger = yield* startPlugin(broker)
      yield* stranger.open
      const answer = yield* stranger.call("POST", path(id), { plugin_pid: stranger.pid })
      refused(answer, 403, "reattach_pid_mismatch", id, String(plugin.pid))
      assert.strictEqual((yield* statusOf(broker, id))!.state, "reconnecting")
    })
  )

  it.scopedLive("S7: refuses a header that names another process than the body", () =>
    Effect.gen(function* () {
      const { plugin, reattach } = yield* away()
      yield* plugin.open
      refused(yield* reattach(undefined, { "x-plugin-pid": "1" }), 403, "plugin_pid_mismatch", String(plugin.pid))
    })
  )

  it.scopedLive("S7: demands the owner token of an endpoint whose channel announced it", () =>
    Effect.gen(function* () {
      const { id, ownerToken, plugin, reattach } = yield* away(["push_receipt_ack_v1", "endpoint_owner_token_v1"])
      yield* plugin.open
      refused(yield* reattach(), 403, "endpoint_owner_token_mismatch", id)
      const wrong = yield* reattach(undefined, { "x-endpoint-owner-token": "wrong" })
      refused(wrong, 403, "endpoint_owner_token_mismatch", id)
      assert.strictEqual((yield* reattach(undefined, { "x-endpoint-owner-token": ownerToken })).status, 200)
    })
  )

  it.scopedLive("refuses an endpoint that is in use", () =>
    Effect.gen(function* () {
      const { id, plugin } = yield* startSession(yield* usualBroker)
      const answer = yield* plugin.call("POST", path(id), { plugin_pid: plugin.pid })
      refused(answer, 409, "endpoint_not_reconnecting", id)
    })
  )

  it.scopedLive("wants a token and a POST", () =>
    Effect.gen(function* () {
      const { id, plugin, reattach } = yield* away()
      refused(yield* reattach(undefined, { authorization: "Bearer wrong" }), 401, "unauthorized")
      refused(yield* plugin.call("GET", path(id)), 404, "not_found")
    })
  )
})
