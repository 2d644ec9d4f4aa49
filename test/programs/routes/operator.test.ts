import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Status } from "../../../src/services/ipc/OperatorGroup.js"
import { eventually, startBroker } from "../../kit/broker.js"
import { refused, sharedBroker, startSession, statusOf, untilState } from "../../kit/endToEnd.js"

describe("the operator's routes", () => {
  const shared = sharedBroker({ settings: { accountId: "acme" } })
  const operatorToken = Effect.map(shared, ({ operatorToken }) => ({ authorization: `Bearer ${operatorToken}` }))

  it.scopedLive("GET /v1/operator/status says everything the broker knows of itself", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { body, status } = yield* broker.operator("GET", "/v1/operator/status")
      assert.strictEqual(status, 200)
      assert.strictEqual((yield* Schema.decodeUnknown(Status)(body)).pid, broker.pid)
      assert.deepInclude(body, {
        account: "acme",
        presence: "online",
        store: { healthy: true },
        held_back: [],
        invalid_expiries: 0,
        dead_letters: 0,
        log_lines_dropped: 0,
        warnings: []
      })
      assert.match(body.version, /^runtime-broker\//)
      assert.deepInclude(body.connector, { name: "loopback", state: "up" })
      assert.isBelow(Math.abs(Date.now() - Date.parse(body.started_at)), 60_000)
      assert.strictEqual(body.books.unaccounted, 0)
    })
  )

  it.scopedLive("status follows an endpoint, its mail and its process", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { address, id, plugin, send } = yield* startSession(broker, { acknowledges: false })
      yield* send(address, "in flight")
      yield* plugin.take(1)
      assert.deepInclude(yield* statusOf(broker, id), { state: "active", undelivered: 1, in_flight: 1 })
      yield* plugin.drop
      const away = yield* untilState(broker, id, "reconnecting")
      assert.deepInclude(away, { plugin_pid: plugin.pid, undelivered: 1, in_flight: 0 })
      assert.isAbove(away!.stored_bytes, 0)
      assert.isAbove(Date.parse(away!.grace_deadline!), Date.now())
    })
  )

  it.scopedLive("D11: the books balance", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const { address, agent, plugin, send } = yield* startSession(broker)
      yield* send(address, "delivered")
      yield* plugin.take(1)
      yield* send(`local:${agent}`, "in the inbox")
      yield* plugin.drop
      yield* eventually(broker.status, ({ channels }) => channels.open === 0)
      const other = yield* startSession(broker)
      yield* other.send(address, "held")
      const { books } = yield* eventually(broker.status, ({ books }) => books.accepted === 3)
      assert.deepStrictEqual(books, {
        accepted: 3,
        delivered: 1,
        held: 1,
        inbox: 1,
        expired: 0,
        dead: 0,
        unaccounted: 0
      })
    })
  )

  it.scopedLive("POST /v1/operator/stop answers, and then the broker leaves", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const answer = yield* broker.operator("POST", "/v1/operator/stop")
      assert.deepStrictEqual([answer.status, answer.body], [200, { ok: true }])
      assert.strictEqual((yield* broker.exited).code, 0)
    })
  )

  it.scopedLive("POST /v1/operator/drain answers, and then the broker leaves, whether or not another follows", () =>
    Effect.gen(function* () {
      for (const [body, reason] of [
        ["{}", "operator"],
        ['{"restart":true}', "restart"]
      ] as const) {
        const broker = yield* startBroker()
        const headers = { authorization: `Bearer ${broker.operatorToken}` }
        refused(
          yield* broker.call("POST", "/v1/operator/drain", '{"restart":1}', headers),
          400,
          "bad_request",
          "restart"
        )
        const answer = yield* broker.call("POST", "/v1/operator/drain", body, headers)
        assert.deepStrictEqual([answer.status, answer.body], [200, { ok: true }])
        const { code, stdout } = yield* broker.exited
        assert.strictEqual(code, 0)
        assert.include(stdout, `"reason":"${reason}"`)
      }
    })
  )

  it.scopedLive("S8: refuses the plugin token", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      for (const [method, path] of [
        ["GET", "/v1/operator/status"],
        ["GET", "/v1/operator/status?x=1"],
        ["POST", "/v1/operator/stop"],
        ["POST", "/v1/operator/drain"]
      ] as const) {
        refused(yield* broker.call(method, path), 403, "operator_only", "operator.json")
      }
      assert.strictEqual((yield* broker.operator("GET", "/v1/operator/status")).status, 200)
    })
  )

  it.scopedLive("refuses no token and a wrong one first", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      for (const authorization of ["", "Bearer wrong"]) {
        const answer = yield* broker.call("GET", "/v1/operator/status", undefined, { authorization })
        refused(answer, 401, "unauthorized")
      }
    })
  )

  it.scopedLive("another path or method is 404 with the operator token", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const headers = yield* operatorToken
      for (const [method, path] of [
        ["GET", "/v1/operator"],
        ["GET", "/v1/operator/"],
        ["GET", "/v1/operator/nothing"],
        ["POST", "/v1/operator/status"],
        ["GET", "/v1/operator/stop"]
      ] as const) {
        refused(yield* broker.call(method, path, undefined, headers), 404, "not_found", path)
      }
    })
  )

  it.scopedLive("F13: a query string makes no difference", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      assert.strictEqual((yield* broker.operator("GET", "/v1/operator/status?x=%zz")).status, 200)
    })
  )
})
