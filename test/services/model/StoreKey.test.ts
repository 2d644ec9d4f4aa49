import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { join, ordered, under } from "../../../src/services/model/StoreKey.js"

const number = fc.maxSafeInteger().filter((n) => n >= 0)
const part = fc.array(fc.constantFrom(..."!-.09AZaz~"), { minLength: 1, maxLength: 4 }).map((all) => all.join(""))
const sign = (a: string | number, b: string | number) => (a < b ? -1 : a > b ? 1 : 0)

describe("numbers in keys", () => {
  it.prop("sort like numbers", [number, number], ([a, b]) => {
    assert.strictEqual(sign(ordered(a), ordered(b)), sign(a, b))
  })
  it.prop("come back, and take 11 characters", [number], ([n]) => {
    assert.strictEqual(Number.parseInt(ordered(n), 36), n)
    assert.strictEqual(ordered(n).length, 11)
  })
  it("reach to the largest whole number", () => {
    assert.strictEqual(ordered(0), "00000000000")
    assert.strictEqual(Number.parseInt(ordered(Number.MAX_SAFE_INTEGER), 36), Number.MAX_SAFE_INTEGER)
  })
})

describe("the keys under a part", () => {
  it.prop("are those that begin with it and a slash, and no others", [part, part, fc.array(part)], ([a, b, rest]) => {
    const { from, until } = under(a)
    const isUnder = (key: string) => key >= from && key < until
    assert.isTrue(isUnder(join(a, ...rest, b)))
    assert.isFalse(isUnder(a))
    if (a !== b) assert.isFalse(isUnder(join(b, ...rest, a)))
  })
})
