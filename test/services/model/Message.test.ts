import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc, Schema } from "effect"
import { MessageId } from "../../../src/services/model/Ids.js"
import { firstCodePoints, isExpired, Message } from "../../../src/services/model/Message.js"

const message: Message = {
  id: MessageId("gm-10"),
  from: "mstp://acme.example/bob",
  content: "ping",
  contentType: "text",
  metadata: { nested: { any: [1, null] } },
  arrivedAt: 1_930_000_000_000,
  bytes: 120
}

describe("a message", () => {
  it("is expired from its time on, not 1 ms before, and never without one", () => {
    const mortal = { ...message, expiresAt: 1_000 }
    assert.isFalse(isExpired(mortal, 999))
    assert.isTrue(isExpired(mortal, 1_000))
    assert.isFalse(isExpired(message, Number.MAX_SAFE_INTEGER))
  })
  it("survives the store, with and without expiry", () => {
    for (const one of [message, { ...message, expiresAt: 9 }]) {
      const stored = JSON.parse(JSON.stringify(Schema.encodeSync(Message)(one)))
      assert.deepStrictEqual(Schema.decodeUnknownSync(Message)(stored), one)
    }
  })
})

describe("the first code points of a text", () => {
  it("are not cut within a character", () => {
    assert.strictEqual(firstCodePoints("a🙂b🙂", 2), "a🙂")
    assert.strictEqual(firstCodePoints("🙂🙂", 3), "🙂🙂")
  })
  it("are the text itself when it is short", () => assert.strictEqual(firstCodePoints("short", 80), "short"))
  it("are none when none are asked for", () => assert.strictEqual(firstCodePoints("text", 0), ""))
  it.prop(
    "are as many as asked for, from the start",
    [fc.string({ unit: "grapheme" }), fc.nat(20)],
    ([text, count]) => {
      const first = firstCodePoints(text, count)
      assert.isTrue(text.startsWith(first))
      assert.strictEqual(Array.from(first).length, Math.min(count, Array.from(text).length))
    }
  )
})
