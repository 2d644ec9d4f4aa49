import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { logged, refused, startSession, statusOf, untilState, usualBroker } from "../../kit/endToEnd.js"

const path = (id: string) => `/v1/endpoint/${id}/task-hint`

describe("POST /v1/endpoint/{id}/task-hint", () => {
  const withSession = (capabilities: ReadonlyArray<string> = []) =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const session = yield* startSession(broker, { capabilities })
      const hint = (given: object, headers: Record<string, string> = {}) =>
        session.plugin.call("POST", path(session.id), { plugin_pid: session.plugin.pid, ...given }, headers)
      const seen = Effect.map(statusOf(broker, session.id), (endpoint) => endpoint?.task_hint)
      return { ...session, broker, hint, seen }
    })

  it.scopedLive("sets the hint, and sets it again", () =>
    Effect.gen(function* () {
      const { hint, seen } = yield* withSession()
      const answer = yield* hint({ task_hint: "rewriting the lexer" })
      assert.deepStrictEqual([answer.status, answer.body], [200, { ok: true }])
      assert.strictEqual(yield* seen, "rewriting the lexer")
      yield* hint({ task_hint: "" })
      assert.strictEqual(yield* seen, "")
    })
  )

  it.scopedLive("sets the hint of an endpoint that is reconnecting", () =>
    Effect.gen(function* () {
      const { broker, hint, id, plugin, seen } = yield* withSession()
      yield* plugin.drop
      yield* untilState(broker, id, "reconnecting")
      assert.strictEqual((yield* hint({ task_hint: "away" })).status, 200)
      assert.strictEqual(yield* seen, "away")
    })
  )

  it.scopedLive("keeps 200 code points, and logs the length but not the text", () =>
    Effect.gen(function* () {
      const { broker, hint, id, seen } = yield* withSession()
      assert.strictEqual((yield* hint({ task_hint: "🙂".repeat(201) })).status, 200)
      assert.strictEqual(yield* seen, "🙂".repeat(200))
      const line = yield* logged(broker, "task_hint_updated", { endpoint_id: id })
      assert.deepInclude(line, { level: "info", truncated: true, length: 402, max: 200 })
      assert.notInclude(JSON.stringify(line), "🙂")
      yield* hint({ task_hint: "x".repeat(200) })
      yield* logged(broker, "task_hint_updated", { endpoint_id: id, truncated: false, length: 200 })
    })
  )

  it.scopedLive("F3: refuses a process id that is none and names the field", () =>
    Effect.gen(function* () {
      const { hint, plugin } = yield* withSession()
      for (const plugin_pid of [undefined, null, 0, -1, 1.5, String(plugin.pid), {}]) {
        refused(yield* hint({ plugin_pid, task_hint: "x" }), 400, "plugin_pid_invalid", "plugin_pid")
      }
    })
  )

  it.scopedLive("F3: refuses a hint that is no text by the route's own code, before it looks for the endpoint", () =>
    Effect.gen(function* () {
      const { hint, plugin, seen } = yield* withSession()
      for (const task_hint of [undefined, null, 7, {}, []]) {
        refused(yield* hint({ task_hint }), 400, "task_hint_invalid", "task_hint")
      }
      const nobody = yield* plugin.call("POST", path("ep_nobody"), { plugin_pid: plugin.pid, task_hint: 7 })
      refused(nobody, 400, "task_hint_invalid", "task_hint")
      assert.isUndefined(yield* seen)
    })
  )

  it.scopedLive("F9: an endpoint nobody knows is endpoint_unknown", () =>
    Effect.gen(function* () {
      const { plugin } = yield* withSession()
      const answer = yield* plugin.call("POST", path("ep_nobody"), { plugin_pid: plugin.pid, task_hint: "x" })
      refused(answer, 404, "endpoint_unknown", "ep_nobody")
    })
  )

  it.scopedLive("S7: refuses another process by the route's own code", () =>
    Effect.gen(function* () {
      const { broker, id, seen } = yield* withSession()
      const stranger = yield* startSession(broker)
      const body = { plugin_pid: stranger.plugin.pid, task_hint: "not mine" }
      refused(yield* stranger.plugin.call("POST", path(id), body), 403, "ownership_mismatch", id)
      refused(yield* broker.call("POST", path(id), body), 403, "ownership_mismatch", id)
      assert.isUndefined(yield* seen)
    })
  )

  it.scopedLive("S7: refuses a header that names another process than the body", () =>
    Effect.gen(function* () {
      const { hint, plugin } = yield* withSession()
      const answer = yield* hint({ task_hint: "x" }, { "x-plugin-pid": "1" })
      refused(answer, 403, "plugin_pid_mismatch", String(plugin.pid))
    })
  )

  it.scopedLive("S7: demands the owner token of an endpoint whose channel announced it", () =>
    Effect.gen(function* () {
      const { hint, id, ownerToken } = yield* withSession(["endpoint_owner_token_v1"])
      const set = (headers: Record<string, string>) => hint({ task_hint: "x" }, headers)
      refused(yield* set({}), 403, "endpoint_owner_token_mismatch", "x-endpoint-owner-token")
      refused(yield* set({ "x-endpoint-owner-token": "wrong" }), 403, "endpoint_owner_token_mismatch", id)
      assert.strictEqual((yield* set({ "x-endpoint-owner-token": ownerToken })).status, 200)
    })
  )

  it.scopedLive("wants a token and a POST", () =>
    Effect.gen(function* () {
      const { hint, id, plugin } = yield* withSession()
      refused(yield* hint({ task_hint: "x" }, { authorization: "Bearer wrong" }), 401, "unauthorized")
      refused(yield* plugin.call("GET", path(id)), 404, "not_found")
    })
  )
})
