import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { defaults } from "../../../src/services/BrokerConfig.js"
import {
  ConnectionEnd,
  fresh,
  isStuck,
  next,
  type ReconnectState
} from "../../../src/services/model/GatewayReconnect.js"

const { alreadyConnectedMs, backoffMaxMs: cap, backoffMs: base, healthyMs } = defaults
const policy = { base, cap, alreadyConnectedMs, healthyMs }
const failed = ConnectionEnd.Lost({ reason: "refused", wasRegistered: false })
const lostAfterUse = ConnectionEnd.Lost({ reason: "closed", wasRegistered: true })
const already = ConnectionEnd.AlreadyConnected()
const tooLarge = (cursor: number, livedMs = 10) => ConnectionEnd.TooLarge({ limit: 100, cursor, livedMs })

/** The waits after these ends, one after the other. `random` 1 is the longest of each. */
const waits = (ends: ReadonlyArray<ConnectionEnd>, random = 1, from: ReconnectState = fresh) => {
  let state = from
  return ends.map((end) => {
    const decided = next(state, end, policy, random)
    state = decided.state
    return decided.waitMs
  })
}
const times = (count: number, end: ConnectionEnd) => Array.from({ length: count }, () => end)

describe("the wait before the next connection", () => {
  it("doubles from 1 s to 30 s", () => {
    assert.deepStrictEqual(waits(times(8, failed)), [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
  })
  it("F19: is spread over 75 to 100 % of that, at the longest, too", () => {
    assert.deepStrictEqual(waits(times(7, failed), 0), [750, 1_500, 3_000, 6_000, 12_000, 22_500, 22_500])
    assert.deepStrictEqual(waits(times(6, failed), 0.5).at(-1), 26_250)
  })
  it("never ends", () => {
    assert.strictEqual(waits(times(100_000, failed)).at(-1), 30_000)
  })
  it("starts afresh after a registration that worked", () => {
    assert.deepStrictEqual(
      waits([...times(5, failed), lostAfterUse, failed]),
      [1_000, 2_000, 4_000, 8_000, 16_000, 1_000, 2_000]
    )
    assert.deepStrictEqual(waits(times(3, lostAfterUse)), [1_000, 1_000, 1_000])
  })
  it("after Already connected is 2 s, 29 times in a row, without spread; then it backs off once", () => {
    const ends = waits(times(32, already), 0)
    assert.deepStrictEqual(ends.slice(0, 29), Array(29).fill(2_000))
    assert.deepStrictEqual(ends.slice(29), [750, 2_000, 2_000])
    assert.deepStrictEqual(waits(times(60, already), 0).slice(58), [2_000, 1_500], "the next such pause is longer")
  })
  it("after Already connected leaves the other waits as they were", () => {
    assert.deepStrictEqual(waits([failed, failed, already, failed]), [1_000, 2_000, 2_000, 4_000])
  })
  it("F18: after Already connected does not stay at 2 s when the reason changes", () => {
    assert.deepStrictEqual(waits([already, ...times(4, failed)]), [2_000, 1_000, 2_000, 4_000, 8_000])
    const counted = waits([...times(28, already), failed, ...times(29, already)], 0)
    assert.deepStrictEqual(counted.slice(29), Array(29).fill(2_000), "and is counted anew")
  })
})

describe("S9: after a frame too large to be read", () => {
  /** After which of these ends the connection is stuck, in order. */
  const stuck = (ends: ReadonlyArray<ConnectionEnd>) => {
    let state = fresh
    return ends.map((end) => {
      state = next(state, end, policy, 1).state
      return isStuck(state)
    })
  }

  it("the wait doubles, and is the longest from the third time on while the cursor stands still", () => {
    assert.deepStrictEqual(waits(times(6, tooLarge(41))), [1_000, 2_000, 30_000, 30_000, 30_000, 30_000])
    assert.deepStrictEqual(waits(times(4, tooLarge(41)), 0), [750, 1_500, 22_500, 22_500])
    assert.deepStrictEqual(stuck(times(4, tooLarge(41))), [false, false, true, true])
  })
  it("a cursor that moved starts afresh, and so does a connection that was healthy for a minute", () => {
    assert.deepStrictEqual(
      waits([...times(4, tooLarge(41)), tooLarge(42), tooLarge(42)]).slice(3),
      [30_000, 1_000, 2_000]
    )
    const healthy = [...times(3, tooLarge(0)), tooLarge(0, 60_000), tooLarge(0, 59_999)]
    assert.deepStrictEqual(waits(healthy).slice(2), [30_000, 1_000, 2_000])
    assert.deepStrictEqual(stuck(healthy), [false, false, true, false, false])
  })
  it("what else ends connections in between waits as ever, and does not make it another frame", () => {
    const ends = [tooLarge(41), lostAfterUse, tooLarge(41), already, failed, tooLarge(41), lostAfterUse, tooLarge(41)]
    assert.deepStrictEqual(waits(ends), [1_000, 1_000, 2_000, 2_000, 1_000, 30_000, 1_000, 30_000])
  })
  it("the wait follows the model, whatever else happens", () => {
    const anyEnd = fc.oneof(
      fc.constantFrom(failed, lostAfterUse, already),
      fc.tuple(fc.integer({ min: 0, max: 2 }), fc.constantFrom(10, 59_999, 60_000)).map((of) => tooLarge(...of))
    )
    fc.assert(
      fc.property(fc.array(anyEnd, { maxLength: 40 }), fc.double({ min: 0, max: 1, noNaN: true }), (ends, random) => {
        let state = fresh
        let inARow: Array<number> = []
        for (const end of ends) {
          const decided = next(state, end, policy, random)
          state = decided.state
          assert.isAtMost(decided.waitMs, policy.cap)
          assert.isAtLeast(decided.waitMs, 0.75 * policy.base)
          if (end._tag !== "TooLarge") continue
          if (inARow.at(-1) !== end.cursor || end.livedMs >= policy.healthyMs) inARow = []
          inARow.push(end.cursor)
          assert.strictEqual(isStuck(state), inARow.length >= 3)
          assert.strictEqual(decided.waitMs >= 0.75 * policy.cap, isStuck(state))
        }
      })
    )
  })
})
