import { assert, describe, it } from "@effect/vitest"
import { LivePushes } from "../../../src/layers/internal/livePushes.js"
import { MessageId } from "../../../src/services/model/Ids.js"
import type { Letter } from "../../../src/services/model/MailboxState.js"

const limits = { receiptMs: 5_000, spillAgeMs: 100, spillAfterAccepted: 3 }
const letter = (id: string, pushedAt: number): Letter => ({
  message: {
    id: MessageId(id),
    from: "peer",
    content: id,
    contentType: "text",
    metadata: {},
    arrivedAt: pushedAt,
    bytes: 1
  },
  place: 1,
  token: id,
  isAccepted: false,
  stored: "live",
  redelivered: false,
  failures: 0,
  pushedAt
})
/** Ids of those due at `at`, with so many messages accepted by then, and when to look again. */
const due = (pushes: LivePushes<string>, at: number, accepted = 0) => {
  const result = pushes.due(at, accepted)
  return [result.due.map(({ letter }) => letter.message.id as string), result.next] as const
}

describe("a live push is to be stored", () => {
  it("after 5 s without a receipt, not 1 ms before", () => {
    const pushes = new LivePushes<string>(limits)
    assert.strictEqual(pushes.add("a", letter("m1", 1_000), 0), 1_100)
    assert.deepStrictEqual(due(pushes, 5_999), [[], 6_000])
    assert.deepStrictEqual(due(pushes, 6_000), [["m1"], undefined])
    assert.deepStrictEqual(due(pushes, 9_000), [[], undefined])
  })
  it("once it is 100 ms old and 3 later messages are accepted", () => {
    const pushes = new LivePushes<string>(limits)
    pushes.add("a", letter("m1", 1_000), 10)
    assert.deepStrictEqual(due(pushes, 1_099, 13), [[], 1_199])
    assert.deepStrictEqual(due(pushes, 1_100, 12), [[], 1_200])
    assert.deepStrictEqual(due(pushes, 1_100, 13), [["m1"], undefined])
  })
  it("counts what was taken before it as earlier, though it was accepted later", () => {
    const pushes = new LivePushes<string>(limits)
    const first = letter("m1", 1_000)
    pushes.add("a", first, 0)
    pushes.add("b", letter("m2", 1_000), 0)
    first.isAccepted = true
    pushes.accepted()
    assert.deepStrictEqual(due(pushes, 1_200, 3)[0], [], "m1 and two later ones are accepted")
    assert.deepStrictEqual(due(pushes, 1_200, 4)[0], ["m2"])
  })
  it("never once it is accepted or stored", () => {
    const pushes = new LivePushes<string>(limits)
    const [accepted, stored] = [letter("m1", 0), letter("m2", 0)]
    pushes.add("a", accepted, 0)
    pushes.add("a", stored, 0)
    accepted.isAccepted = true
    stored.stored = "writing"
    assert.deepStrictEqual(due(pushes, 10_000, 100), [[], undefined])
  })
  it("again and again, first of all, until it could be", () => {
    const pushes = new LivePushes<string>(limits)
    for (const id of ["m1", "m2"]) pushes.add("a", letter(id, 0), 0)
    pushes.putBack(pushes.due(5_000, 0).due)
    pushes.add("a", letter("m3", 1_000), 0)
    assert.deepStrictEqual(due(pushes, 6_000), [["m1", "m2", "m3"], undefined])
  })
})
