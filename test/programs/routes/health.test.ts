import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { refused, usualBroker } from "../../kit/endToEnd.js"

const packageVersion: string = JSON.parse(
  readFileSync(new URL("../../../package.json", import.meta.url), "utf8")
).version

const known = [
  "push_receipt_ack_v1",
  "push_nack_v1",
  "endpoint_owner_token_v1",
  "endpoint_resume_v1",
  "send_idempotency_v1",
  "stream_send_v1",
  "drain_notice_v1",
  "structured_workspace_v1",
  "endpoint_metadata_v1",
  "remote_spawn_v1",
  "undispatched_inbox_v1"
]

describe("GET /health", () => {
  const noToken = { authorization: "" }

  it.scopedLive("S4: says ok and no more without a token", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const answer = yield* Effect.promise(() => fetch(`${broker.url}/health`))
      assert.strictEqual(answer.status, 200)
      assert.deepStrictEqual(yield* Effect.promise(() => answer.json()), { ok: true })
      assert.strictEqual(answer.headers.get("content-type"), "application/json; charset=utf-8")
    })
  )

  it.scopedLive("S4: says no more to a wrong token than to none", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const authorization of ["Bearer wrong", "Bearer ", "Basic dTpw", `Bearer ${broker.token}x`]) {
        const answer = yield* broker.call("GET", "/health", undefined, { authorization })
        assert.deepStrictEqual([answer.status, answer.body], [200, { ok: true }], authorization)
      }
    })
  )

  it.scopedLive("says version, protocol and capabilities to the plugin token and to the operator token", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const answer of [yield* broker.call("GET", "/health"), yield* broker.operator("GET", "/health")]) {
        assert.strictEqual(answer.status, 200)
        const { capabilities, ...rest } = answer.body
        assert.deepStrictEqual(rest, {
          ok: true,
          version: `runtime-broker/${packageVersion}`,
          protocol_version: "1.1"
        })
        assert.includeMembers(Object.keys(capabilities), ["push_receipt_ack_v1", "endpoint_resume_v1"])
        assert.strictEqual(capabilities.undispatched_inbox_v1, true)
        for (const name of Object.keys(capabilities)) assert.include(known, name)
      }
    })
  )

  it.scopedLive("names its version so that no published launcher can compare it with its own", () =>
    Effect.gen(function* () {
      const { body } = yield* (yield* usualBroker).call("GET", "/health")
      assert.notMatch(body.version, /^\d+\.\d+\.\d+([-+].*)?$/)
    })
  )

  it.scopedLive("F13: a query string makes no difference", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const path of ["/health?x=1", "/health?", "/health?a=%zz&b"]) {
        const plain = yield* broker.call("GET", path, undefined, noToken)
        assert.deepStrictEqual([plain.status, plain.body], [200, { ok: true }], path)
        const full = yield* broker.call("GET", path)
        assert.strictEqual(full.body.protocol_version, "1.1", path)
      }
    })
  )

  it.scopedLive("another method is 404 with a token", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
        const answer = yield* broker.call(method, "/health")
        refused(answer, 404, "not_found", "/health")
        assert.strictEqual(answer.body.path, "/health")
      }
    })
  )

  it.scopedLive("another method is 401 without a token: only GET /health is open", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const method of ["POST", "PUT", "DELETE"]) {
        refused(yield* broker.call(method, "/health", undefined, noToken), 401, "unauthorized")
      }
    })
  )

  it.scopedLive("paths match exactly: another spelling is another path", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const path of ["/health/", "//health", "/HEALTH", "/health;x", "/health/x", "/healthy"]) {
        refused(yield* broker.call("GET", path), 404, "not_found", path)
        refused(yield* broker.call("GET", path, undefined, noToken), 401, "unauthorized")
      }
    })
  )
})
