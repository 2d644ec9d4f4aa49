import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { NumberRanges } from "../../../src/services/model/NumberRanges.js"

const runsOf = (numbers: ReadonlySet<number>) => {
  const runs: Array<[number, number]> = []
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last !== undefined && last[1] === number - 1) last[1] = number
    else runs.push([number, number])
  }
  return runs
}

describe("ranges of numbers", () => {
  it("are a set, and tell their runs", () => {
    const operation = fc.oneof(
      fc.record({ op: fc.constant("add" as const), number: fc.integer({ min: 1, max: 30 }) }),
      fc.record({ op: fc.constant("deleteUpTo" as const), number: fc.integer({ min: 0, max: 30 }) })
    )
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const ranges = new NumberRanges()
        const model = new Set<number>()
        for (const { number, op } of operations) {
          ranges[op](number)
          if (op === "add") model.add(number)
          else for (const one of model) if (one <= number) model.delete(one)
          assert.deepStrictEqual(ranges.runs(), runsOf(model))
          assert.strictEqual(ranges.size, model.size)
          for (let one = 0; one <= 31; one++) {
            assert.strictEqual(ranges.has(one), model.has(one), String(one))
            let end = one - 1
            while (model.has(end + 1)) end++
            assert.strictEqual(ranges.endOfRun(one), end)
          }
        }
        assert.deepStrictEqual(new NumberRanges(ranges.runs()), ranges, "and come back from their runs")
      })
    )
  })
  it("take memory per run", () => {
    const ranges = new NumberRanges()
    for (let number = 1; number <= 1_000_000; number++) ranges.add(number)
    assert.deepStrictEqual(ranges.runs(), [[1, 1_000_000]])
  })
})
