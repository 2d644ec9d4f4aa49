import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { refused, startSession, untilState, usualBroker } from "../../kit/endToEnd.js"

const path = (id: string) => `/v1/endpoint/${id}/heartbeat`

describe("POST /v1/endpoint/{id}/heartbeat", () => {
  it.scopedLive("says ok for an active endpoint, with or without a body", () =>
    Effect.gen(function* () {
      const { id, plugin } = yield* startSession(yield* usualBroker)
      for (const body of [undefined, {}, { anything: 1 }]) {
        const answer = yield* plugin.call("POST", path(id), body)
        assert.deepStrictEqual([answer.status, answer.body], [200, { ok: true }])
      }
    })
  )

  it.scopedLive("says ok for a reconnecting endpoint", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { id, plugin } = yield* startSession(broker)
      yield* plugin.drop
      yield* untilState(broker, id, "reconnecting")
      assert.strictEqual((yield* plugin.call("POST", path(id))).status, 200)
    })
  )

  it.scopedLive("S7: allows a caller that does not say which process it is", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { id } = yield* startSession(broker)
      assert.strictEqual((yield* broker.call("POST", path(id))).status, 200)
    })
  )

  it.scopedLive("S7: refuses another process", () =>
    Effect.gen(function* () {
      const { id, plugin } = yield* startSession(yield* usualBroker)
      const answer = yield* plugin.call("POST", path(id), undefined, { "x-plugin-pid": "1" })
      refused(answer, 403, "endpoint_pid_mismatch", id)
      refused(
        yield* plugin.call("POST", path(id), undefined, { "x-plugin-pid": "abc" }),
        400,
        "plugin_pid_invalid",
        "x-plugin-pid"
      )
    })
  )

  it.scopedLive("S7: demands the owner token of an endpoint whose channel announced it", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { id, ownerToken, plugin } = yield* startSession(broker, { capabilities: ["endpoint_owner_token_v1"] })
      const withToken = (token: string) => plugin.call("POST", path(id), undefined, { "x-endpoint-owner-token": token })
      refused(yield* plugin.call("POST", path(id)), 403, "endpoint_owner_token_mismatch", "x-endpoint-owner-token")
      const wrong = yield* withToken("wrong")
      refused(wrong, 403, "endpoint_owner_token_mismatch", id)
      assert.notInclude(JSON.stringify(wrong.body), ownerToken)
      assert.strictEqual((yield* withToken(ownerToken)).status, 200)
    })
  )

  it.scopedLive("F9: an endpoint nobody knows is endpoint_unknown", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const id of [
        "ep_nobody",
        "x",
        "a%2Fb",
        "..%2F..",
        "%F0%9F%99%82",
        "a;b",
        "a:b",
        "*",
        "%2541",
        "100%25",
        "%3Fx"
      ]) {
        refused(yield* broker.call("POST", path(id)), 404, "endpoint_unknown", decodeURIComponent(id))
      }
    })
  )

  it.scopedLive("an id may have any length", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const id of ["x".repeat(101), "x".repeat(3_000)]) {
        refused(yield* broker.call("POST", path(id)), 404, "endpoint_unknown", id)
      }
    })
  )

  it.scopedLive("reads the id percent-decoded, and refuses a malformed escape with 400", () =>
    Effect.gen(function* () {
      const { id, plugin } = yield* startSession(yield* usualBroker)
      const encoded = Array.from(id, (c) => `%${c.charCodeAt(0).toString(16)}`).join("")
      assert.strictEqual((yield* plugin.call("POST", path(encoded))).status, 200)
      for (const wrong of ["%", "%zz", "%f0%9f", "ep_%"]) {
        refused(yield* plugin.call("POST", path(wrong)), 400, "bad_request", wrong)
      }
    })
  )

  it.scopedLive("F13: a query string makes no difference", () =>
    Effect.gen(function* () {
      const { id, plugin } = yield* startSession(yield* usualBroker)
      assert.strictEqual((yield* plugin.call("POST", `${path(id)}?x=%zz`)).status, 200)
    })
  )

  it.scopedLive("wants a token, a POST, and an id of one segment", () =>
    Effect.gen(function* () {
      const { id, plugin } = yield* startSession(yield* usualBroker)
      const noToken = { authorization: "Bearer wrong" }
      refused(yield* plugin.call("POST", path(id), undefined, noToken), 401, "unauthorized")
      refused(yield* plugin.call("GET", path(id)), 404, "not_found")
      refused(yield* plugin.call("POST", path("")), 404, "not_found")
      refused(yield* plugin.call("POST", path(`${id}/x`)), 404, "not_found")
    })
  )
})
