import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { LaneQueue } from "../../../src/layers/internal/LaneQueue.js"

const takeAll = (queue: LaneQueue<string>, now: number) => {
  const taken: Array<string> = []
  for (let lane = queue.take(now); lane !== undefined; lane = queue.take(now)) taken.push(lane)
  return taken
}

describe("a queue of lanes", () => {
  it("gives the ready ones in the order in which they became it", () => {
    const queue = new LaneQueue<string>()
    for (const lane of ["a", "b", "c"]) queue.add(lane)
    assert.strictEqual(queue.take(0), "a")
    queue.add("a")
    assert.deepStrictEqual(takeAll(queue, 0), ["b", "c", "a"])
    assert.isUndefined(queue.take(0))
  })

  it("gives those that wait once their time has come, not before", () => {
    const queue = new LaneQueue<string>()
    queue.addAt("a", 10)
    assert.strictEqual(queue.nextAt, 10)
    assert.isUndefined(queue.take(9))
    assert.strictEqual(queue.take(10), "a")
    assert.isUndefined(queue.nextAt)
  })

  it("lets those whose time has come stand behind those that were ready", () => {
    const queue = new LaneQueue<string>()
    queue.addAt("late", 5)
    queue.add("early")
    assert.deepStrictEqual(takeAll(queue, 5), ["early", "late"])
  })

  const waits = fc.array(fc.tuple(fc.nat(20), fc.string()), { maxLength: 50 })
  it.prop(
    "gives each that waits once, in the order of their times, then of adding",
    [waits, fc.nat(20)],
    ([all, now]) => {
      const queue = new LaneQueue<string>()
      const named = all.map(([at, name], n) => ({ at, name: `${n} ${name}` }))
      for (const { at, name } of named) queue.addAt(name, at)
      const inTime = [...named].sort((a, b) => a.at - b.at)
      assert.deepStrictEqual(
        takeAll(queue, now),
        inTime.filter(({ at }) => at <= now).map(({ name }) => name)
      )
      assert.strictEqual(queue.nextAt, inTime.find(({ at }) => at > now)?.at)
      assert.deepStrictEqual(
        takeAll(queue, 20),
        inTime.filter(({ at }) => at > now).map(({ name }) => name)
      )
    }
  )
})
