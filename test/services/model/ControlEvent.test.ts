import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { type ControlReading, failed, readControlEvent, subjectsOf } from "../../../src/services/model/ControlEvent.js"

const read = (value: unknown): ControlReading =>
  readControlEvent(typeof value === "string" ? value : JSON.stringify(value), 64)
const common = { version: 1, idempotency_key: "cmd-1", emitted_at: 1_930_000_000_000 }
const dispatch = { ...common, type: "dispatch_undispatched", undispatched_id: "m-1", target_endpoint_id: "ep_31" }
const spawn = { ...common, type: "spawn_request", prompt: "Summarise", runtime_kind: "claude-code" }
const unregister = { ...common, type: "force_unregister", endpoint_id: "ep_31", reason: "owner_removed" }
const without = (event: object, field: string) =>
  Object.fromEntries(Object.entries(event).filter(([name]) => name !== field))

const answered = (status: "applied" | "failed", detail: string): ControlReading => ({
  _tag: "Answer",
  key: "cmd-1",
  outcome: { status, detail }
})
const invalid = (field: string) => answered("failed", `invalid_event: ${field}`)

describe("a control event", () => {
  it("of each type of the specification's example is read", () => {
    const event = (value: object) => {
      const reading = read(value)
      assert.strictEqual(reading._tag, "Event")
      return (reading as { readonly event: unknown }).event
    }
    const key = "cmd-1"
    assert.deepStrictEqual(event(dispatch), {
      _tag: "DispatchUndispatched",
      key,
      undispatchedId: "m-1",
      targetEndpointId: "ep_31"
    })
    assert.deepStrictEqual(event({ ...spawn, origin: "owner_initiated_spawn" }), {
      _tag: "SpawnRequest",
      key,
      prompt: "Summarise",
      runtimeKind: "claude-code"
    })
    assert.deepStrictEqual(event(unregister), {
      _tag: "ForceUnregister",
      key,
      endpointId: "ep_31",
      reason: "owner_removed"
    })
    assert.deepStrictEqual(event({ ...common, type: "dispatch_nudge" }), { _tag: "DispatchNudge", key })
  })

  it("may name its target by target_ref; target_endpoint_id comes first, and other later fields are ignored", () => {
    const targetOf = (value: object) => {
      const reading = read(value)
      return reading._tag === "Event" && reading.event._tag === "DispatchUndispatched"
        ? reading.event.targetEndpointId
        : reading
    }
    const later = {
      source_message_id: "m-1",
      delivery_intent: "external_handoff",
      broker_projection_token: "t",
      target_ref: { projection_endpoint_id: "ep_7", more: 1 }
    }
    assert.strictEqual(targetOf({ ...without(dispatch, "target_endpoint_id"), ...later }), "ep_7")
    assert.strictEqual(targetOf({ ...dispatch, target_endpoint_id: null, ...later }), "ep_7")
    assert.strictEqual(targetOf({ ...dispatch, ...later }), "ep_31")
    assert.strictEqual(targetOf({ ...dispatch, target_ref: "nonsense" }), "ep_31")
  })

  it("without a target, a message, a prompt, a kind, an endpoint or a time is refused, naming the field: F5", () => {
    const bare = without(dispatch, "target_endpoint_id")
    assert.deepStrictEqual(read(bare), invalid("target_endpoint_id"))
    assert.deepStrictEqual(read({ ...bare, target_ref: null }), invalid("target_endpoint_id"))
    for (const target_ref of [{}, { projection_endpoint_id: "" }, { projection_endpoint_id: 7 }]) {
      assert.deepStrictEqual(read({ ...bare, target_ref }), invalid("target_ref.projection_endpoint_id"))
    }
    for (const target_ref of ["ep_1", 7, []]) {
      const reading = read({ ...bare, target_ref })
      assert.match(JSON.stringify(reading), /invalid_event: target_ref/)
    }
    const needed: ReadonlyArray<readonly [event: object, field: string]> = [
      [dispatch, "undispatched_id"],
      [spawn, "prompt"],
      [spawn, "runtime_kind"],
      [unregister, "endpoint_id"]
    ]
    for (const [event, field] of needed) {
      assert.deepStrictEqual(read(without(event, field)), invalid(field))
      for (const wrong of [7, "", null, {}, []])
        assert.deepStrictEqual(read({ ...event, [field]: wrong }), invalid(field))
    }
    assert.deepStrictEqual(read({ ...dispatch, target_endpoint_id: 7 }), invalid("target_endpoint_id"))
    assert.deepStrictEqual(read({ ...spawn, undispatched_id: 7 }), invalid("undispatched_id"))
  })

  it("of a known type needs a time and version 1: F5", () => {
    const types = [dispatch, spawn, unregister, { ...common, type: "dispatch_nudge" }]
    for (const event of [...types, { ...common, type: "owner_session_delivery" }]) {
      assert.deepStrictEqual(read(without(event, "emitted_at")), invalid("emitted_at"))
      assert.deepStrictEqual(read({ ...event, emitted_at: "now" }), invalid("emitted_at"))
      assert.deepStrictEqual(read(JSON.stringify(event).replace("1930000000000", "1e999")), invalid("emitted_at"))
      assert.deepStrictEqual(read(without(event, "version")), invalid("version"))
      assert.deepStrictEqual(read({ ...event, version: "1" }), invalid("version"))
    }
  })

  it("an owner's removal does not fail for its reason", () => {
    for (const reason of [undefined, null, 7]) {
      const reading = read({ ...unregister, reason })
      assert.deepInclude(reading, { _tag: "Event" })
    }
  })

  it("of another version is refused, whatever else is in it", () => {
    for (const version of [0, 2, 1.5, -1]) {
      for (const event of [dispatch, { idempotency_key: "cmd-1" }, { ...common, type: "new" }]) {
        assert.deepStrictEqual(read({ ...event, version }), answered("failed", "unsupported_protocol_version"))
      }
    }
  })

  it("of an unknown type is acknowledged and dropped", () => {
    const dropped = answered("applied", "unknown_variant_dropped")
    for (const type of ["dance", "", undefined, null, 7, "__proto__", "constructor", "toString"]) {
      assert.deepStrictEqual(read({ ...common, type }), dropped)
      assert.deepStrictEqual(read({ idempotency_key: "cmd-1", type }), dropped)
    }
  })

  it("that only a later broker can do is refused", () => {
    const reading = read({ ...common, type: "owner_session_delivery", text: "hello" })
    assert.deepStrictEqual(reading, answered("failed", "no_handler:owner_session_delivery"))
  })

  it("without a key cannot be answered", () => {
    for (const key of [undefined, null, 7, "", {}]) {
      assert.deepStrictEqual(read({ ...dispatch, idempotency_key: key }), { _tag: "Nothing", because: "no_key" })
    }
    for (const value of [null, 7, "text", true, [dispatch]]) {
      assert.deepStrictEqual(read(JSON.stringify(value)), { _tag: "Nothing", because: "no_key" })
    }
    const key = "k".repeat(513)
    assert.deepInclude(read({ ...dispatch, idempotency_key: key }), {
      _tag: "Answer",
      outcome: failed("invalid_event: idempotency_key")
    })
  })

  it("that is no JSON, or too deep, is none", () => {
    const deep = `${"[".repeat(65)}${"]".repeat(65)}`
    for (const text of ["", "{", "x", '{"a":1}{', `{"idempotency_key":"k","a":${deep}}`, "[".repeat(500_000)]) {
      assert.deepStrictEqual(read(text), { _tag: "Nothing", because: "no_json" })
    }
  })

  it("can be anything without a throw, and its answer's detail is short", () => {
    const field = fc.oneof(fc.jsonValue(), fc.constantFrom(...Object.values(dispatch), ...Object.values(spawn)))
    const names = [...Object.keys({ ...dispatch, ...spawn, ...unregister }), "target_ref"]
    const event = fc.dictionary(fc.constantFrom(...names), field)
    fc.assert(
      fc.property(fc.oneof(event, fc.jsonValue()), (value) => {
        const reading = read(JSON.stringify(value))
        if (reading._tag === "Answer") assert.isAtMost(reading.outcome.detail?.length ?? 0, 500)
      }),
      { numRuns: 1_000 }
    )
    fc.assert(fc.property(fc.string(), (text) => void readControlEvent(text, 64)))
    assert.strictEqual(failed("x".repeat(10_000)).detail?.length, 500)
  })

  it("is about a message and an endpoint, an endpoint, or nothing", () => {
    const about = (value: object) => {
      const reading = read(value)
      return reading._tag === "Event" ? subjectsOf(reading.event) : undefined
    }
    assert.deepStrictEqual(about(dispatch), ["undispatched:m-1", "endpoint:ep_31"])
    assert.deepStrictEqual(about(unregister), ["endpoint:ep_31"])
    assert.deepStrictEqual(about(spawn), [])
    assert.deepStrictEqual(about({ ...common, type: "dispatch_nudge" }), [])
  })
})
