import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { idInKey } from "../../../src/layers/internal/idInKey.js"

/** Any text there is; "binary" strings of the library take a second to be prepared. */
const anyText = fc.uint16Array().map((units) => String.fromCharCode(...units))

describe("an id in a key", () => {
  it("stands as it is when a key can hold it", () => {
    for (const id of ["m1", "0b3c9b6e-8f0e-4a39-9d7c-0e9a4f1c2d3e", "a_b.c:d-e", "x".repeat(128)]) {
      assert.strictEqual(idInKey(id), id)
    }
  })

  it.prop("is a part of a key, and of no other id", [anyText, anyText], ([a, b]) => {
    assert.match(idInKey(a), /^[!-.0-~]{1,128}$/)
    assert.strictEqual(idInKey(a) === idInKey(b), a === b)
  })

  it("tells halves of characters from each other", () => {
    assert.notStrictEqual(idInKey("\ud800"), idInKey("\ud801"))
  })

  it("does not mistake an id for the digest of another", () => {
    assert.notStrictEqual(idInKey(idInKey("a b")), idInKey("a b"))
  })
})
