import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { refused, usualBroker } from "../../kit/endToEnd.js"

const path = "/v1/initialize"
const hello = { client_protocol_version: "1.1", client_kind: "test", client_version: "3.4.0" }
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

describe("POST /v1/initialize", () => {
  it.scopedLive("says protocol, version, capabilities and presence, and a new session id each time", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const body = { ...hello, capabilities: { endpoint_metadata_v1: true } }
      const first = yield* broker.call("POST", path, body)
      assert.strictEqual(first.status, 200)
      assert.hasAllKeys(first.body, [
        "server_protocol_version",
        "server_version",
        "server_capabilities",
        "network_presence",
        "session_id"
      ])
      assert.strictEqual(first.body.server_protocol_version, "1.1")
      assert.match(first.body.server_version, /^runtime-broker\//)
      assert.strictEqual(first.body.server_capabilities.push_receipt_ack_v1, true)
      assert.strictEqual(first.body.network_presence, "online")
      assert.match(first.body.session_id, uuid)
      const second = yield* broker.call("POST", path, body)
      assert.notStrictEqual(second.body.session_id, first.body.session_id)
      assert.deepStrictEqual((yield* broker.call("GET", "/health")).body.capabilities, first.body.server_capabilities)
    })
  )

  it.scopedLive("takes every minor version of its protocol", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const version of ["1", "1.0", "1.99", "1.1.7"]) {
        const answer = yield* broker.call("POST", path, { ...hello, client_protocol_version: version })
        assert.strictEqual(answer.status, 200, version)
      }
    })
  )

  it.scopedLive("refuses another major version and names both", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const version of ["2.0", "0.9", "11.1", "9"]) {
        const answer = yield* broker.call("POST", path, { ...hello, client_protocol_version: version })
        refused(answer, 400, "protocol_version_mismatch", version.split(".")[0]!, "1")
      }
      const empty = yield* broker.call("POST", path, { ...hello, client_protocol_version: "" })
      refused(empty, 400, "protocol_version_mismatch")
    })
  )

  it.scopedLive(
    "F3: refuses a missing or wrong field and names it, the version before the kind, the kind before a mismatch",
    () =>
      Effect.gen(function* () {
        const broker = yield* usualBroker
        const cases: ReadonlyArray<readonly [string, object]> = [
          ["client_protocol_version", { client_kind: "test" }],
          ["client_protocol_version", { ...hello, client_protocol_version: 1.1 }],
          ["client_protocol_version", { ...hello, client_protocol_version: null }],
          ["client_protocol_version", {}],
          ["client_kind", { client_protocol_version: "1.1" }],
          ["client_kind", { ...hello, client_kind: "" }],
          ["client_kind", { ...hello, client_kind: 7 }],
          ["client_kind", { client_protocol_version: "2.0", client_kind: null }]
        ]
        for (const [field, body] of cases) refused(yield* broker.call("POST", path, body), 400, "bad_request", field)
      })
  )

  it.scopedLive("ignores what a newer client may add, and whatever it says of its capabilities", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const rest of [
        { client_version: null, capabilities: null },
        { capabilities: ["x"], more: { deep: [1] } }
      ]) {
        assert.strictEqual((yield* broker.call("POST", path, { ...hello, ...rest })).status, 200)
      }
    })
  )

  it.scopedLive("wants a token, a POST, and no query", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      refused(yield* broker.call("POST", path, hello, { authorization: "Bearer wrong" }), 401, "unauthorized")
      refused(yield* broker.call("GET", path), 404, "not_found", path)
      assert.strictEqual((yield* broker.call("POST", `${path}?client_kind=other`, hello)).status, 200)
    })
  )
})
