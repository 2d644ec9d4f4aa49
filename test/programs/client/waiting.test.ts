import { assert, describe, it } from "@effect/vitest"
import { Backoff, deadline, orAborted, Places, pause } from "../../../src/programs/client/waiting.js"

const never = new AbortController().signal

describe("waiting", () => {
  it("doubles up to the longest, spread over 75 to 100 %, and begins afresh after a minute of health", () => {
    const backoff = new Backoff(100, 1_000)
    const waits = Array.from({ length: 100 }, () => backoff.next())
    for (const [n, wait] of waits.entries()) {
      const longest = Math.min(1_000, 100 * 2 ** n)
      assert.isAtLeast(wait, 0.75 * longest)
      assert.isAtMost(wait, longest)
    }
    assert.isAbove(new Set(waits).size, 90)
    backoff.worked(59_999)
    assert.isAtLeast(backoff.next(), 750)
    backoff.worked(60_000)
    assert.isAtMost(backoff.next(), 100)
  })

  it("ends with the reason of the signal that came first", async () => {
    const [caller, other] = [new AbortController(), new AbortController()]
    const limit = deadline(60_000, () => new Error("too late"), caller.signal, undefined, other.signal)
    const waits = [pause(60_000, limit.signal), orAborted(new Promise(() => undefined), limit.signal)]
    caller.abort(new Error("given up"))
    for (const wait of waits) {
      await wait.then(
        () => assert.fail("it did not end"),
        ({ message }) => assert.strictEqual(message, "given up")
      )
    }
    assert.strictEqual(deadline(0, () => new Error(), caller.signal).signal.reason.message, "given up")
  })

  it("for a place is in turn, and one that was given to somebody who gave up is given on", async () => {
    const places = new Places(1)
    await places.take(never)
    const leaving = new AbortController()
    const order: Array<string> = []
    const second = places.take(leaving.signal).catch(() => order.push("second left"))
    const third = places.take(never).then(() => order.push("third"))
    // In one turn: it is given the place and does not want it any more.
    places.giveBack()
    leaving.abort()
    await Promise.all([second, third])
    assert.deepStrictEqual(order.toSorted(), ["second left", "third"])
  })
})
