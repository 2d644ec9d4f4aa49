import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { EventPosition } from "../../../src/services/model/EventPosition.js"

describe("the position of a stream", () => {
  it("F7: moves when an event and all before it are handled", () => {
    const position = new EventPosition("1")
    const [a, b, c] = [position.begin("2"), position.begin("3"), position.begin("4")]
    assert.isFalse(b())
    assert.strictEqual(position.id, "1")
    assert.isTrue(a())
    assert.strictEqual(position.id, "3")
    assert.strictEqual(position.pending, 1)
    assert.isTrue(c())
    assert.strictEqual(position.id, "4")
  })

  it("stays for events without id, which still hold up those behind them", () => {
    const position = new EventPosition(undefined)
    const [a, b] = [position.begin(undefined), position.begin("7")]
    assert.isFalse(b())
    assert.isUndefined(position.id)
    assert.isTrue(a())
    assert.strictEqual(position.id, "7")
    assert.isFalse(position.begin(undefined)())
    assert.strictEqual(position.id, "7")
  })

  it("is, in whatever order events end, that of the longest beginning that ended", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }).chain((count) => fc.shuffledSubarray([...Array(count).keys()])),
        (order) => {
          const position = new EventPosition("none")
          const dones = Array.from({ length: 20 }, (_, index) => position.begin(String(index)))
          const ended = new Set<number>()
          for (const index of order) {
            dones[index]!()
            ended.add(index)
            let first = 0
            while (ended.has(first)) first++
            assert.strictEqual(position.id, first === 0 ? "none" : String(first - 1))
            assert.strictEqual(position.pending, 20 - first)
          }
        }
      )
    )
  })
})
