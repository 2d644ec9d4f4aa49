import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { isDeeperThan } from "../../../src/services/model/Json.js"

const nested = (depth: number, wrap: (inner: unknown) => unknown) => {
  let value: unknown = "bottom"
  for (let level = 0; level < depth; level++) value = wrap(value)
  return value
}
const depthOf = (value: unknown): number =>
  typeof value === "object" && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0

describe("the depth of JSON", () => {
  it("may reach the limit, not pass it", () => {
    for (const wrap of [(inner: unknown) => [inner], (inner: unknown) => ({ inner })]) {
      assert.isFalse(isDeeperThan(nested(64, wrap), 64))
      assert.isTrue(isDeeperThan(nested(65, wrap), 64))
    }
  })
  it("counts empty containers", () => {
    assert.isFalse(isDeeperThan([[]], 2))
    assert.isTrue(isDeeperThan([[]], 1))
  })
  it("of scalars is none", () => {
    for (const scalar of [null, 1, "text", true, undefined]) assert.isFalse(isDeeperThan(scalar, 0))
  })
  it("is measured without recursion", () => {
    assert.isTrue(
      isDeeperThan(
        nested(200_000, (inner) => [inner]),
        64
      )
    )
    assert.isFalse(
      isDeeperThan(
        nested(200_000, (inner) => [inner]),
        200_000
      )
    )
  })
  it.prop(
    "is what a recursive count says",
    [fc.jsonValue({ maxDepth: 6 }), fc.integer({ min: 0, max: 7 })],
    (given) => {
      const [value, limit] = given
      assert.strictEqual(isDeeperThan(value, limit), depthOf(value) > limit)
    }
  )
})
