import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { RememberedIds } from "../../../src/services/model/RememberedIds.js"

const id = fc.nat(12).map(String)

describe("remembered ids", () => {
  it("are the last so many that were new when they came", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), fc.array(id), fc.array(id), (limit, before, later) => {
        const remembered = new RememberedIds(limit, () => before)
        let model = [...new Set(before)].slice(-limit)
        for (const one of later) {
          const isNew = !model.includes(one)
          if (isNew) model = [...model, one].slice(-limit)
          assert.strictEqual(remembered.add(one), isNew)
          for (let n = 0; n <= 12; n++) assert.strictEqual(remembered.has(String(n)), model.includes(String(n)))
        }
      })
    )
  })
  it("are asked for once, when the first question comes", () => {
    let asked = 0
    const remembered = new RememberedIds(2, () => {
      asked++
      return ["a"]
    })
    assert.strictEqual(asked, 0)
    assert.isTrue(remembered.has("a"))
    assert.isTrue(remembered.add("b"))
    assert.strictEqual(asked, 1)
  })
})
