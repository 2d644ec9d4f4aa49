import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import {
  admitInbound,
  expiry,
  type Metadata,
  refuseOutbound,
  stampDispatched,
  stampOutbound,
  text
} from "../../../src/services/model/Metadata.js"

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
const mint = () => traceparent

describe("metadata that arrives", () => {
  it("loses the keys only the broker may set", () => {
    const forged = { dispatched_from: "u1", dispatched_by: "passport", delivery_intent: "external_handoff", mine: 1 }
    assert.deepStrictEqual(admitInbound(forged, mint), { mine: 1, traceparent })
  })
  it("keeps what routes and what the sender says", () => {
    const metadata = {
      source_endpoint_id: "a",
      target_endpoint_id: "b",
      correlation_id: "c1",
      in_reply_to: "c0",
      require_live: true,
      nested: { dispatched_by: "not ours to strip" },
      traceparent
    }
    assert.deepStrictEqual(admitInbound(metadata, mint), metadata)
  })
  it("is not changed in the sender's object", () => {
    const metadata = Object.freeze({ dispatched_by: "passport" })
    assert.deepStrictEqual(admitInbound(metadata, mint), { traceparent })
    assert.deepStrictEqual(metadata, { dispatched_by: "passport" })
  })
})

describe("metadata that leaves", () => {
  const stamps = { correlationId: "c1", endpointId: "a", requireLive: true }
  it("carries the broker's stamps over whatever the plugin put there", () => {
    assert.deepStrictEqual(
      stampOutbound({ require_live: false, source_endpoint_id: "x", in_reply_to: "c0", mine: [1] }, stamps, mint),
      { correlation_id: "c1", source_endpoint_id: "a", require_live: true, in_reply_to: "c0", mine: [1], traceparent }
    )
  })
  it("speaks neither for the broker nor for another endpoint", () => {
    const codeFor = (metadata: Metadata) => refuseOutbound(metadata, ["a", "earlier"])?._tag
    for (const value of ["c1", "", null, undefined]) {
      assert.strictEqual(codeFor({ correlation_id: value }), "correlation_id_forbidden")
      assert.strictEqual(codeFor({ target_endpoint_id: value }), "target_endpoint_id_forbidden")
    }
    for (const value of ["b", "", null, 1]) {
      assert.strictEqual(codeFor({ source_endpoint_id: value }), "source_endpoint_id_mismatch")
    }
    for (const value of ["a", "earlier", undefined]) assert.isUndefined(codeFor({ source_endpoint_id: value }))
    assert.isUndefined(codeFor({ in_reply_to: "c0", mine: { correlation_id: "c1" } }))
  })
})

it("a dispatched message says where it comes from and who handed it over, whatever it said before", () => {
  assert.deepStrictEqual(stampDispatched({ dispatched_from: "x", dispatched_by: "y", mine: 1 }, "u1"), {
    dispatched_from: "u1",
    dispatched_by: "passport",
    mine: 1
  })
})

it("texts are strings that are not empty", () => {
  assert.strictEqual(text({ key: "value" }, "key"), "value")
  for (const value of ["", 1, null, undefined, ["value"], {}]) assert.isUndefined(text({ key: value }, "key"))
  assert.isUndefined(text({}, "key"))
})

describe("expires_at", () => {
  it("is epoch milliseconds or an ISO time", () => {
    assert.strictEqual(expiry({ expires_at: 1_930_000_000_000 }), 1_930_000_000_000)
    assert.strictEqual(expiry({ expires_at: "2031-03-04T08:16:02.000Z" }), Date.UTC(2031, 2, 4, 8, 16, 2))
    assert.strictEqual(expiry({ expires_at: "2031-03-04T10:16:02+02:00" }), Date.UTC(2031, 2, 4, 8, 16, 2))
    assert.strictEqual(expiry({ expires_at: "2031-03-04" }), Date.UTC(2031, 2, 4))
  })
  it("is optional", () => {
    assert.isUndefined(expiry({}))
    assert.isUndefined(expiry({ expires_at: null }))
  })
  it("is invalid when it is neither", () => {
    for (const value of ["", "soon", "2031-13-45T00:00:00Z", true, {}, [], Number.NaN, Number.POSITIVE_INFINITY]) {
      assert.strictEqual(expiry({ expires_at: value }), "invalid", String(value))
    }
  })
  it("is invalid when it is a text other than an ISO time, which some would read as a year long ago", () => {
    for (const value of ["5", "30", "in 5", "March 7", "1"]) {
      assert.strictEqual(expiry({ expires_at: value }), "invalid", value)
    }
  })
  it.prop(
    "any time survives as ISO and as number",
    [fc.date({ min: new Date(0), max: new Date("9999-12-31"), noInvalidDate: true })],
    ([date]) => {
      assert.strictEqual(expiry({ expires_at: date.toISOString() }), date.getTime())
      assert.strictEqual(expiry({ expires_at: date.getTime() }), date.getTime())
    }
  )
})
