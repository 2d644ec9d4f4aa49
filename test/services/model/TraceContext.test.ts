import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { ensureTrace, parseTrace, traceFrom } from "../../../src/services/model/TraceContext.js"

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const spanId = "00f067aa0ba902b7"
const valid = `00-${traceId}-${spanId}-01`
const none = () => assert.fail("nothing is to be minted")

describe("a traceparent", () => {
  it("is kept when it is one", () => assert.strictEqual(parseTrace(valid), valid))
  it("is trimmed and lower-cased", () => assert.strictEqual(parseTrace(`  ${valid.toUpperCase()}\n`), valid))
  it("of any version is rewritten to version 00 and keeps the rest", () => {
    assert.strictEqual(parseTrace(`cc-${traceId}-${spanId}-a0`), `00-${traceId}-${spanId}-a0`)
    assert.strictEqual(parseTrace(`ff-${traceId}-${spanId}-00`), `00-${traceId}-${spanId}-00`)
  })
  it("with a zero trace or span id, of other lengths or other groups is none", () => {
    for (const other of [
      `00-${"0".repeat(32)}-${spanId}-01`,
      `00-${traceId}-${"0".repeat(16)}-01`,
      `00-${traceId.slice(1)}-${spanId}-01`,
      `00-${traceId}-${spanId}0-01`,
      `00-${traceId}-${spanId}`,
      `00-${traceId}-${spanId}-01-more`,
      `0g-${traceId}-${spanId}-01`,
      `${traceId}`,
      "",
      " "
    ]) {
      assert.isUndefined(parseTrace(other), other)
    }
  })
  it("is a string", () => {
    for (const other of [undefined, null, 7, {}, [valid]]) assert.isUndefined(parseTrace(other))
  })
})

const hex = (digits: number) =>
  fc.array(fc.constantFrom(..."0123456789abcdef"), { minLength: digits, maxLength: digits }).map((all) => all.join(""))

it.prop("a trace minted from random bytes is valid, and sampled", [hex(32), hex(16)], ([trace, span]) => {
  fc.pre(!/^0+$/.test(trace) && !/^0+$/.test(span))
  assert.strictEqual(traceFrom(trace + span), `00-${trace}-${span}-01`)
  assert.strictEqual(parseTrace(traceFrom(trace + span)), traceFrom(trace + span))
})

it.prop(
  "parsing twice changes nothing, and nothing makes it throw",
  [fc.oneof(fc.anything(), fc.string())],
  ([any]) => {
    const once = parseTrace(any)
    assert.strictEqual(parseTrace(once), once)
  }
)

describe("metadata with a trace", () => {
  it("stays the object it is when its trace is canonical", () => {
    const metadata = { traceparent: valid, other: 1 }
    assert.strictEqual(ensureTrace(metadata, none), metadata)
  })
  it("gets the canonical form of the one it has", () => {
    assert.deepStrictEqual(ensureTrace({ traceparent: valid.toUpperCase(), other: 1 }, none), {
      traceparent: valid,
      other: 1
    })
  })
  it("gets a minted one when it has none, or one that is not valid", () => {
    for (const metadata of [{}, { traceparent: null }, { traceparent: " " }, { traceparent: "rubbish" }]) {
      assert.deepStrictEqual(
        ensureTrace(metadata, () => valid),
        { traceparent: valid }
      )
    }
  })
})
