import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { inboxOf, refused, startSession, statusOf, untilState, usualBroker } from "../../kit/endToEnd.js"

const path = (id: string) => `/v1/endpoint/${id}`

describe("DELETE /v1/endpoint/{id}", () => {
  it.scopedLive("closes an active endpoint; its stream and its other endpoints stay", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { id, plugin } = yield* startSession(broker)
      const other = yield* plugin.register({ agent_id: "other" })
      const answer = yield* plugin.call("DELETE", path(id))
      assert.deepStrictEqual([answer.status, answer.body], [200, { ok: true }])
      assert.isUndefined(yield* statusOf(broker, id))
      refused(yield* plugin.call("POST", `${path(id)}/heartbeat`), 404, "endpoint_unknown", id)
      assert.strictEqual((yield* statusOf(broker, other))!.state, "active")
      assert.isUndefined(plugin.closed())
    })
  )

  it.scopedLive("closes a reconnecting endpoint, and its mail becomes undispatched", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { address, id, plugin } = yield* startSession(broker)
      const sender = yield* startSession(broker)
      yield* plugin.drop
      yield* untilState(broker, id, "reconnecting")
      yield* sender.send(address, "too late 1")
      yield* sender.send(address, "too late 2")
      assert.strictEqual((yield* plugin.call("DELETE", path(id))).status, 200)
      const items = yield* inboxOf(broker, "too late 1", "too late 2")
      assert.deepStrictEqual(
        items.map(({ content, original_target_endpoint_id, reason }) => [content, original_target_endpoint_id, reason]),
        [
          ["too late 1", id, "closed_session_continuation"],
          ["too late 2", id, "closed_session_continuation"]
        ]
      )
    })
  )

  it.scopedLive("says ok for an endpoint that is not there, as often as it is asked", () =>
    Effect.gen(function* () {
      const { id, plugin } = yield* startSession(yield* usualBroker)
      for (const one of [id, id, "ep_nobody", "register", "%F0%9F%99%82"]) {
        const answer = yield* plugin.call("DELETE", path(one))
        assert.deepStrictEqual([answer.status, answer.body], [200, { ok: true }])
      }
    })
  )

  it.scopedLive("ends no endpoint whose id is only the beginning of the one it names", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { id, plugin } = yield* startSession(broker)
      for (const other of [`${id};x`, `${id}%3Bx`, `${id}%23x`, `${id}%3F`, `${id}%2F`, `${id}%20`]) {
        assert.strictEqual((yield* plugin.call("DELETE", path(other))).status, 200, other)
      }
      assert.strictEqual((yield* statusOf(broker, id))!.state, "active")
    })
  )

  it.scopedLive("S7: refuses another process, and allows one that does not say which it is", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { id, plugin } = yield* startSession(broker)
      const answer = yield* plugin.call("DELETE", path(id), undefined, { "x-plugin-pid": "1" })
      refused(answer, 403, "endpoint_pid_mismatch", id)
      assert.strictEqual((yield* statusOf(broker, id))!.state, "active")
      assert.strictEqual((yield* broker.call("DELETE", path(id))).status, 200)
      assert.isUndefined(yield* statusOf(broker, id))
    })
  )

  it.scopedLive("S7: demands the owner token of an endpoint whose channel announced it", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { id, ownerToken, plugin } = yield* startSession(broker, { capabilities: ["endpoint_owner_token_v1"] })
      const unregister = (headers: Record<string, string>) => plugin.call("DELETE", path(id), undefined, headers)
      refused(yield* unregister({}), 403, "endpoint_owner_token_mismatch", "x-endpoint-owner-token")
      refused(yield* unregister({ "x-endpoint-owner-token": "wrong" }), 403, "endpoint_owner_token_mismatch", id)
      assert.strictEqual((yield* statusOf(broker, id))!.state, "active")
      assert.strictEqual((yield* unregister({ "x-endpoint-owner-token": ownerToken })).status, 200)
    })
  )

  it.scopedLive("wants a token, a DELETE, and an id of one segment", () =>
    Effect.gen(function* () {
      const { id, plugin } = yield* startSession(yield* usualBroker)
      refused(yield* plugin.call("DELETE", path(id), undefined, { authorization: "Bearer x" }), 401, "unauthorized")
      for (const method of ["GET", "POST", "PUT"]) refused(yield* plugin.call(method, path(id)), 404, "not_found")
      refused(yield* plugin.call("DELETE", path("")), 404, "not_found")
      refused(yield* plugin.call("DELETE", path(`${id}/x`)), 404, "not_found")
      refused(yield* plugin.call("DELETE", path("%zz")), 400, "bad_request", "%zz")
    })
  )
})
