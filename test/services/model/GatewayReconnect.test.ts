import { assert, describe, it } from "@effect/vitest"
import { defaults } from "../../../src/services/BrokerConfig.js"
import { ConnectionEnd, fresh, next, type ReconnectState } from "../../../src/services/model/GatewayReconnect.js"

const policy = { base: defaults.backoffMs, cap: defaults.backoffMaxMs, alreadyConnectedMs: defaults.alreadyConnectedMs }
const failed = ConnectionEnd.Lost({ reason: "refused", wasRegistered: false })
const lostAfterUse = ConnectionEnd.Lost({ reason: "closed", wasRegistered: true })
const already = ConnectionEnd.AlreadyConnected()

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
