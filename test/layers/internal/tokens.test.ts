import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { mintToken, tokenMatcher } from "../../../src/layers/internal/tokens.js"

describe("tokens", () => {
  it("are 32 random bytes as 43 characters of base64url, never the same", () => {
    const tokens = Array.from({ length: 100 }, mintToken)
    for (const token of tokens) {
      assert.match(token, /^[A-Za-z0-9_-]{43}$/)
      assert.strictEqual(Buffer.from(token, "base64url").length, 32)
    }
    assert.strictEqual(new Set(tokens).size, tokens.length)
  })
  it("match themselves only, whatever length the other text has", () => {
    const token = mintToken()
    const matches = tokenMatcher(token)
    assert.isTrue(matches(token))
    for (const other of ["", token.slice(1), `${token}x`, ` ${token}`, token.toUpperCase(), mintToken(), "é"]) {
      assert.isFalse(matches(other), other)
    }
  })
  it.prop("match when they are equal", [fc.fullUnicodeString(), fc.fullUnicodeString()], ([a, b]) => {
    assert.strictEqual(tokenMatcher(a)(b), a === b)
  })
})
