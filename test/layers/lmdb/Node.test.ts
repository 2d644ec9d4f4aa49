import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Node } from "../../../src/layers/lmdb/Node.js"

/** Few characters, so that many keys begin alike; the last is the greatest that a key's byte can be. */
const keys = fc.string({ unit: fc.constantFrom("a", "b", "/", "\u0001", "\u00ff"), maxLength: 6 })
const lying = (key: string) => new Node(Buffer.from(`xx${key}yy`, "latin1"), 2, 2 + key.length, Buffer.from("value"))

describe("a record's key", () => {
  it("is compared where it lies as its text would be", () => {
    fc.assert(
      fc.property(keys, keys, (one, other) => {
        const node = lying(one)
        assert.strictEqual(node.key, one)
        assert.strictEqual(node.isBefore(other), one < other)
        assert.strictEqual(node.isBehind(lying(other)), one > other)
        assert.strictEqual(node.keyStartsWith(other), one.startsWith(other))
        const { key, size } = node.copy()
        assert.deepStrictEqual([key, size], [one, one.length + 5])
      }),
      { numRuns: 1_000 }
    )
  })
})
