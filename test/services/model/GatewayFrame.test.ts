import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import {
  type MessageReceived,
  normalScope,
  parseGatewayFrame,
  withinLimit
} from "../../../src/services/model/GatewayFrame.js"

/** Of each event a frame with everything in it, and the fields it cannot do without. */
const frames: { readonly [event: string]: { readonly full: object; readonly needs: ReadonlyArray<string> } } = {
  REGISTER_ACK: {
    full: {
      status: "ok",
      reason: "none",
      protocolVersion: 4,
      agent: { handle: "builder", name: "Builder" },
      owner: { handle: "ana", displayName: "Ana" },
      deliverySeq: 41,
      deliveryRuntimeSessionId: "session"
    },
    needs: []
  },
  SEND_ACK: { full: { messageId: "b1f7", status: "delivered" }, needs: ["messageId"] },
  MESSAGE_RECEIVED: {
    full: {
      messageId: "gm-10",
      from: "mstp://acme.example/bob",
      content: "hello",
      contentType: "markdown",
      metadata: { correlation_id: "c" },
      seq: 42,
      runtimeSessionId: "session"
    },
    needs: ["from", "content"]
  },
  DELIVERY_PENDING: { full: { count: 3, upTo: "cur-77" }, needs: ["count", "upTo"] },
  DELIVERY_STATUS: { full: { messageId: "b1f7", status: "read" }, needs: ["messageId", "status"] },
  DELIVERY_CURSOR: { full: { deliverySeq: 50, deliveredSeq: 42, runtimeSessionId: "session" }, needs: ["deliverySeq"] },
  DELIVERY_SKIP: {
    full: {
      seq: 43,
      reason: "runtime_mailbox_dismissed",
      messageId: "gm-11",
      deliveredAt: "2031-03-04T08:15:30Z",
      runtimeSessionId: "session"
    },
    needs: ["seq", "reason"]
  },
  ERROR: { full: { code: "recipient_unknown", message: "no such", messageId: "b1f7" }, needs: ["code", "message"] }
}
const parse = (event: string, fields: object = {}) =>
  parseGatewayFrame(JSON.parse(JSON.stringify({ event, ...frames[event]?.full, ...fields })))
const without = (event: string, field: string) => parse(event, { [field]: undefined })
const events = Object.keys(frames)

describe("every frame", () => {
  it("with everything in it is read", () => {
    const { full: ack } = frames.REGISTER_ACK!
    const { status, ...rest } = ack as { status: string }
    assert.strictEqual(status, "ok")
    assert.deepStrictEqual(parse("REGISTER_ACK"), { event: "REGISTER_ACK", isOk: true, ...rest } as any)
    for (const event of events.slice(1)) {
      const { deliveredAt, reason, ...full } = frames[event]!.full as any
      const read = event === "DELIVERY_SKIP" ? { seq: full.seq, runtimeSessionId: full.runtimeSessionId } : full
      assert.deepStrictEqual(parse(event), { event, ...read }, event)
    }
  })
  it("is none without a field it needs, or with another kind of value in it", () => {
    for (const event of events) {
      for (const field of frames[event]!.needs) {
        assert.isUndefined(without(event, field), `${event} without ${field}`)
        for (const wrong of [null, true, {}, []])
          assert.isUndefined(parse(event, { [field]: wrong }), `${event} ${field}`)
      }
    }
  })
  it("may have fields nobody knows, and may lack those it need not have", () => {
    for (const event of events) {
      assert.isDefined(parse(event, { later: { field: [1] } }), event)
      for (const field of Object.keys(frames[event]!.full)) {
        if (!frames[event]!.needs.includes(field)) assert.isDefined(without(event, field), `${event} without ${field}`)
      }
    }
  })
  it("of an unknown event, and what is no object, is none", () => {
    for (const wrong of [null, undefined, 1, "REGISTER_ACK", true, [], [{ event: "SEND_ACK" }], {}, { event: 4 }]) {
      assert.isUndefined(parseGatewayFrame(wrong))
    }
    for (const event of ["", "register_ack", "PRESENCE", "__proto__", "toString", "SEND_MESSAGE"]) {
      assert.isUndefined(parse(event))
    }
  })
})

describe("the session scope", () => {
  it("is trimmed, not empty, at most 256 characters, and not one of the network's own", () => {
    assert.strictEqual(normalScope("  a b "), "a b")
    assert.strictEqual(normalScope("x".repeat(256)), "x".repeat(256))
    assert.strictEqual(normalScope(` ${"x".repeat(256)} `), "x".repeat(256))
    assert.strictEqual(normalScope("_masons_"), "_masons_")
    for (const wrong of ["", "  ", "x".repeat(257), "__masons_", " __masons_x"]) {
      assert.isUndefined(normalScope(wrong), wrong)
    }
  })
  it("makes a frame none when it is no session id", () => {
    for (const wrong of ["", " ", "__masons_x", "x".repeat(257), 7, null]) {
      for (const event of ["MESSAGE_RECEIVED", "DELIVERY_CURSOR", "DELIVERY_SKIP"]) {
        assert.isUndefined(parse(event, { runtimeSessionId: wrong }), event)
      }
      assert.isUndefined(parse("REGISTER_ACK", { deliveryRuntimeSessionId: wrong }))
    }
    assert.deepInclude(parse("MESSAGE_RECEIVED", { runtimeSessionId: " s " }), { runtimeSessionId: "s" })
  })
})

describe("REGISTER_ACK", () => {
  it("is a refusal unless its status is ok", () => {
    for (const status of ["error", "OK", "", 1, null, undefined]) {
      assert.deepInclude(parse("REGISTER_ACK", { status }), { isOk: false }, String(status))
    }
  })
  it("names whom it knows only where there is a handle", () => {
    for (const wrong of [null, "builder", [], {}, { handle: 7 }]) {
      assert.deepInclude(parse("REGISTER_ACK", { agent: wrong, owner: wrong }), { agent: undefined, owner: undefined })
    }
  })
  it("takes other kinds of values for none", () => {
    assert.deepInclude(parse("REGISTER_ACK", { protocolVersion: "4", reason: 7, deliverySeq: 1.5 }), {
      protocolVersion: undefined,
      reason: undefined,
      deliverySeq: undefined
    })
  })
})

describe("MESSAGE_RECEIVED", () => {
  it("F16: has a number only when that is a positive whole one", () => {
    for (const wrong of [4.5, 0, -1, "42", null, 2 ** 53, 1e300]) {
      assert.deepInclude(parse("MESSAGE_RECEIVED", { seq: wrong }), { seq: undefined }, String(wrong))
    }
    assert.deepInclude(parse("MESSAGE_RECEIVED", { seq: 2 ** 53 - 1 }), { seq: 2 ** 53 - 1 })
  })
  it("is text with no metadata unless it says so", () => {
    for (const wrong of [undefined, null, 7, [], "x"]) {
      const read = parse("MESSAGE_RECEIVED", { contentType: Array.isArray(wrong) ? 1 : undefined, metadata: wrong })
      assert.deepInclude(read, { contentType: "text", metadata: {} })
    }
  })
  it("has an id only when that is a text that is not empty", () => {
    assert.deepInclude(parse("MESSAGE_RECEIVED", { messageId: "" }), { messageId: undefined })
    for (const wrong of [7, null, {}]) assert.isUndefined(parse("MESSAGE_RECEIVED", { messageId: wrong }))
  })
})

it("SEND_ACK says delivered or stored", () => {
  for (const status of ["stored", "queued", 7, undefined]) {
    assert.deepInclude(parse("SEND_ACK", { status }), { status: "stored" })
  }
})

it("DELIVERY_CURSOR and DELIVERY_SKIP have whole numbers from 0 up", () => {
  for (const wrong of [-1, 0.5, "7", null, 2 ** 53]) {
    assert.isUndefined(parse("DELIVERY_CURSOR", { deliverySeq: wrong }))
    assert.isUndefined(parse("DELIVERY_CURSOR", { deliveredSeq: wrong }))
    assert.isUndefined(parse("DELIVERY_SKIP", { seq: wrong }))
  }
  assert.isDefined(parse("DELIVERY_CURSOR", { deliverySeq: 0, deliveredSeq: 0 }))
  assert.isDefined(parse("DELIVERY_SKIP", { seq: 0 }))
})

it("DELIVERY_SKIP has one reason, and texts where it has more", () => {
  for (const reason of ["dismissed", "runtime_mailbox_dismissed "]) {
    assert.isUndefined(parse("DELIVERY_SKIP", { reason }))
  }
  assert.isUndefined(parse("DELIVERY_SKIP", { messageId: 7 }))
  assert.isUndefined(parse("DELIVERY_SKIP", { deliveredAt: 7 }))
})

it("ERROR without a message id that is a text concerns no message", () => {
  assert.deepInclude(parse("ERROR", { messageId: 7 }), { messageId: undefined })
})

it("whatever JSON comes, reading it does not fail", () => {
  fc.assert(
    fc.property(
      fc.jsonValue(),
      fc.constantFrom(...events),
      fc.constantFrom("event", "seq", "metadata"),
      (value, event, field) => {
        parseGatewayFrame(value)
        const read = parseGatewayFrame({ event, ...frames[event]!.full, [field]: value })
        assert.isTrue(read === undefined || events.includes(read.event))
      }
    ),
    { numRuns: 1_000 }
  )
})

describe("S9: a frame over the limit", () => {
  const limit = 1_000
  it("within it is what it was, to the byte", () => {
    for (const event of events) {
      const frame = parse(event)!
      assert.strictEqual(withinLimit(frame, limit, limit), frame)
    }
  })
  it("that is no message is ignored", () => {
    for (const event of events) {
      if (event !== "MESSAGE_RECEIVED") assert.isUndefined(withinLimit(parse(event)!, limit + 1, limit), event)
    }
  })
  it("that is a message keeps how it is accepted, whose it is, and the beginning of its content", () => {
    const metadata = {
      correlation_id: "c",
      target_endpoint_id: "ep_1",
      in_reply_to: 5,
      other: "x",
      traceparent: "t".repeat(257)
    }
    const given = parse("MESSAGE_RECEIVED", { content: "😀".repeat(5_000), metadata })!
    assert.deepStrictEqual(withinLimit(given, limit + 1, limit) as object, {
      event: "MESSAGE_RECEIVED",
      messageId: "gm-10",
      from: "mstp://acme.example/bob",
      content: "😀".repeat(1_000),
      contentType: "markdown",
      metadata: { correlation_id: "c", target_endpoint_id: "ep_1" },
      seq: 42,
      runtimeSessionId: "session",
      isOutline: true
    })
  })
  it("whatever part of it is large, what is kept is small, and its number stays", () => {
    const text = fc.nat({ max: 20_000 }).map((length) => "ä".repeat(length))
    const given = fc.record({
      messageId: text,
      from: text,
      content: text,
      contentType: text,
      seq: fc.integer({ min: 1 }),
      metadata: fc.dictionary(fc.constantFrom("correlation_id", "__proto__", "in_reply_to", "traceparent", "x"), text)
    })
    fc.assert(
      fc.property(given, (fields) => {
        const frame = parse("MESSAGE_RECEIVED", fields) as MessageReceived
        const kept = withinLimit(frame, limit + 1, limit) as MessageReceived
        assert.isBelow(JSON.stringify(kept).length, 4_000)
        assert.strictEqual(kept.seq, fields.seq)
        assert.isTrue(kept.messageId === undefined || kept.messageId === frame.messageId, "half an id is none")
        assert.isTrue(frame.content.startsWith(kept.content))
      })
    )
  })
})
