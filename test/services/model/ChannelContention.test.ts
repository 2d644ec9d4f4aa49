import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { ChannelContention, type ContentionLimits } from "../../../src/services/model/ChannelContention.js"

const limits: ContentionLimits = { count: 3, withinMs: 100, restMs: 1_000 }
const make = () => new ChannelContention(limits)

describe("E3: clients of one process that displace each other", () => {
  it("may do so twice in the time; the third time the current channel has its rest", () => {
    const contention = make()
    assert.isFalse(contention.displaced(11, 0))
    assert.isFalse(contention.displaced(11, 50))
    assert.isUndefined(contention.wait(11, 50))
    assert.isTrue(contention.displaced(11, 99))
    assert.strictEqual(contention.wait(11, 99), 1_000)
    assert.deepStrictEqual(contention.resting(99), [11])
    assert.isUndefined(contention.wait(12, 99), "another process")
  })

  it("slowly enough are never stopped", () => {
    const contention = make()
    for (let now = 0; now < 1_000; now += 50) assert.isFalse(contention.displaced(11, now), String(now))
  })

  it("may go on after the rest; the next time begins another at once", () => {
    const contention = make()
    for (const now of [0, 1, 2]) contention.displaced(11, now)
    assert.strictEqual(contention.wait(11, 1_001), 1)
    assert.isUndefined(contention.wait(11, 1_002))
    assert.deepStrictEqual(contention.resting(1_002), [])
    assert.isTrue(contention.displaced(11, 2_001))
    assert.strictEqual(contention.wait(11, 2_001), 1_000)
  })

  it("are counted afresh when the peace outlasted the rest", () => {
    const contention = make()
    for (const now of [0, 1, 2]) contention.displaced(11, now)
    assert.isFalse(contention.displaced(11, 2_002))
    assert.isUndefined(contention.wait(11, 2_002))
  })

  it("need not wait when the current channel ended", () => {
    const contention = make()
    for (const now of [0, 1, 2]) contention.displaced(11, now)
    contention.ended(11)
    assert.isUndefined(contention.wait(11, 3))
    assert.isFalse(contention.displaced(11, 3))
  })
})

/**
 * Clients of one process: one comes, whoever is there; the channel that is displaced is alive or dead; the current one ends.
 * `after` milliseconds pass before.
 */
const happening = fc.record({
  what: fc.constantFrom("comes", "comes, the old one is dead", "ends"),
  after: fc.oneof(fc.nat(40), fc.nat(1_500))
} as const)

it.prop(
  "E3: whatever clients do, few are displaced in the time, none waits longer than a rest, and none without one alive",
  [fc.array(happening, { maxLength: 200 })],
  ([happenings]) => {
    const contention = make()
    const displaced: Array<number> = []
    let isOpen = false
    let now = 0
    for (const { after, what } of happenings) {
      now += after
      if (what === "ends") {
        isOpen = false
        displaced.length = 0
        contention.ended(11)
        continue
      }
      const wait = contention.wait(11, now)
      if (wait !== undefined) {
        assert.isTrue(isOpen, "somebody is there to wait for")
        assert.isAtLeast(displaced.length, limits.count)
        assert.isAtMost(now + wait, displaced.at(-1)! + limits.restMs)
        continue
      }
      if (isOpen && what === "comes") {
        displaced.push(now)
        contention.displaced(11, now)
        const lately = displaced.filter((at) => now - at < limits.withinMs)
        assert.isAtMost(lately.length, limits.count)
      }
      isOpen = true
    }
  }
)

it.prop(
  "E3: a plugin that reconnects at any pace, its old channel closed or dead, never waits",
  [fc.array(fc.record({ after: fc.nat(20), isClosed: fc.boolean() }))],
  ([times]) => {
    const contention = make()
    let now = 0
    for (const { after, isClosed } of times) {
      now += after
      if (isClosed) contention.ended(11)
      assert.isUndefined(contention.wait(11, now))
    }
  }
)
