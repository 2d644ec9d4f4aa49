import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { type CursorLimits, type CursorRecord, DeliveryCursor } from "../../../src/services/model/DeliveryCursor.js"

const limits: CursorLimits = {
  order: { waitMs: 5_000, messages: 10_000, bytes: 64 * 1024 * 1024 },
  gapRetryMs: 5_000,
  gapRetryMaxMs: 60_000,
  rememberedIds: 65_536
}
const longest = 1

/** A cursor, and what the connector does with it. */
const start = (given: Partial<CursorLimits> = {}, record?: CursorRecord, ids: ReadonlyArray<string> = []) => {
  const cursor = new DeliveryCursor<string>({ ...limits, ...given }, record, () => ids)
  const named = (sequence: number | undefined, id: string | undefined) => ({ sequence, id })
  return {
    cursor,
    /** A message comes; what goes to the broker. */
    come: (sequence: number | undefined, id: string | undefined = `m${sequence}`, now = 0) => {
      cursor.arrive(named(sequence, id), id ?? `no id ${sequence}`, 10, now)
      return cursor.take(now)
    },
    accept: (sequence: number | undefined, id: string | undefined = `m${sequence}`) =>
      cursor.accept(named(sequence, id)),
    release: (sequence: number, id: string | undefined = `m${sequence}`) => cursor.release(named(sequence, id)),
    skip: (sequence: number) => cursor.accept(named(sequence, undefined)),
    /** Asks if it is time to; after which number. */
    ask: (now = 0) => {
      const since = cursor.gapRequest(now)
      if (since !== undefined) cursor.requested(now, longest)
      return since
    }
  }
}

describe("the examples of the protocol", () => {
  it("hold, one after the other", () => {
    const { accept, ask, come, cursor, skip } = start()
    come(1)
    accept(1)
    assert.strictEqual(cursor.cursor, 1)
    come(3)
    assert.strictEqual(ask(), 1)
    come(2)
    accept(2)
    accept(3)
    assert.strictEqual(cursor.cursor, 3)
    assert.isUndefined(ask())
    come(5)
    assert.strictEqual(ask(), 3)
    skip(4)
    accept(5)
    assert.strictEqual(cursor.cursor, 5)
    cursor.advanceTo(7)
    cursor.exists(9)
    assert.strictEqual(ask(), 7)
    cursor.advanceTo(2)
    assert.strictEqual(cursor.cursor, 7)
  })
})

describe("a message", () => {
  it("is handed over once, however often and under whatever number it comes", () => {
    const { accept, come, cursor } = start()
    assert.deepStrictEqual(come(1, "a"), ["a"])
    assert.deepStrictEqual(come(1, "a"), [])
    assert.deepStrictEqual(come(2, "a"), [], "in the broker's hands")
    assert.deepStrictEqual(come(undefined, "a"), [])
    accept(1, "a")
    assert.strictEqual(cursor.cursor, 2, "both numbers are done with")
    assert.deepStrictEqual(come(1, "a"), [])
    assert.deepStrictEqual(come(3, "a"), [], "D18: accepted before")
    assert.strictEqual(cursor.cursor, 3)
    assert.deepStrictEqual(come(undefined, "a"), [])
  })
  it("without an id is told apart by its number, without a number by its id, without both not at all", () => {
    const { accept, come } = start()
    assert.lengthOf(come(1, undefined), 0 + 1)
    assert.lengthOf(come(1, undefined), 1 - 1)
    assert.lengthOf(come(undefined, "a"), 1)
    assert.lengthOf(come(undefined, "a"), 0, "in the broker's hands")
    accept(undefined, "a")
    assert.lengthOf(come(undefined, "a"), 0, "safe")
  })
  it("that came early waits, counts as outstanding, and goes in order", () => {
    const { come, cursor } = start()
    assert.deepStrictEqual(come(3), [])
    assert.deepStrictEqual(come(2), [])
    assert.strictEqual(cursor.outstanding, 2)
    assert.deepStrictEqual(cursor.waiting, { messages: 2, bytes: 20 })
    assert.deepStrictEqual(come(1), ["m1", "m2", "m3"])
    assert.strictEqual(cursor.outstanding, 3)
  })
  it("that waited long enough goes without those before it; its number alone does not move the cursor", () => {
    const { accept, come, cursor } = start()
    come(2, "m2", 0)
    assert.strictEqual(cursor.nextExpiry(), 5_000)
    assert.deepStrictEqual(cursor.take(4_999), [])
    assert.deepStrictEqual(cursor.take(5_000), ["m2"])
    accept(2)
    assert.strictEqual(cursor.cursor, 0)
    assert.deepStrictEqual(come(1), ["m1"])
    accept(1)
    assert.strictEqual(cursor.cursor, 2)
  })
  it("that the broker let go makes no new one wait, and comes again", () => {
    const { come, release } = start()
    come(1)
    release(1)
    assert.deepStrictEqual(come(2), ["m2"])
    assert.deepStrictEqual(come(1), ["m1"])
  })
  it("of a number the network calls delivered goes to the broker when it waits", () => {
    const { accept, come, cursor } = start()
    come(3)
    cursor.advanceTo(5)
    assert.deepStrictEqual(cursor.take(0), ["m3"])
    accept(3)
    assert.deepStrictEqual(come(6, "m3"), [], "and is known")
    assert.strictEqual(cursor.cursor, 6)
  })
  it("that the network dismissed is not waited for, and does not go when it waits", () => {
    const { come, cursor, skip } = start()
    come(2)
    come(3)
    skip(2)
    assert.deepStrictEqual(come(1), ["m1", "m3"])
    assert.strictEqual(cursor.outstanding, 3)
  })
  it("is accepted also when the broker let it go before", () => {
    const { accept, ask, come, cursor, release } = start()
    come(1)
    release(1)
    accept(1)
    assert.strictEqual(cursor.cursor, 1)
    assert.isUndefined(ask())
  })
})

describe("the cursor", () => {
  it("takes no notice of numbers that are none", () => {
    const { accept, cursor, skip } = start({}, { sequence: 5, beyond: [] })
    accept(0)
    accept(5)
    skip(3)
    assert.strictEqual(cursor.cursor, 5)
  })
  it("keeps what is accepted beyond it over a restart", () => {
    const before = start()
    for (const sequence of [1, 2, 3, 4]) before.come(sequence, undefined)
    for (const sequence of [1, 3, 4]) before.accept(sequence, undefined)
    const record = before.cursor.record(10)
    assert.deepStrictEqual(record, { sequence: 1, beyond: [[3, 4]] })
    const after = start({}, record)
    assert.deepStrictEqual(after.come(3, undefined), [])
    assert.strictEqual(after.ask(), 1, "what lies between is missing")
    assert.lengthOf(after.come(2, undefined), 1)
    after.accept(2, undefined)
    assert.strictEqual(after.cursor.cursor, 4)
    assert.deepStrictEqual(start().cursor.record(0), { sequence: 0, beyond: [] })
  })
  it("keeps ids over a restart, and forgets the oldest", () => {
    const { accept, come, cursor } = start({ rememberedIds: 2 }, undefined, ["a", "b"])
    assert.deepStrictEqual(cursor.takeUnsaved(), [])
    assert.deepStrictEqual(come(undefined, "a"), [])
    come(undefined, "c")
    accept(undefined, "c")
    assert.deepStrictEqual(cursor.takeUnsaved(), ["c"])
    assert.deepStrictEqual(cursor.takeUnsaved(), [])
    assert.deepStrictEqual(come(undefined, "b"), [])
    assert.deepStrictEqual(come(undefined, "a"), ["a"])
  })
  it("keeps no more unsaved ids than it remembers twice", () => {
    const { accept, cursor } = start({ rememberedIds: 10 })
    for (let n = 0; n < 100; n++) accept(undefined, `m${n}`)
    const unsaved = cursor.takeUnsaved()
    assert.isAtMost(unsaved.length, 20)
    assert.strictEqual(unsaved.at(-1), "m99")
  })
})

describe("the network is asked", () => {
  it("D19: once for a burst behind a gap", () => {
    const { ask, come } = start()
    const asked = Array.from({ length: 100 }, (_, index) => {
      come(index + 2)
      return ask(index)
    })
    assert.deepStrictEqual(
      asked.filter((since) => since !== undefined),
      [0]
    )
  })
  it("D19: once while what came before the gap is accepted bit by bit", () => {
    const { accept, ask, come } = start()
    for (const sequence of [1, 2, 3, 5]) come(sequence)
    assert.strictEqual(ask(), 0)
    for (const sequence of [1, 2, 3]) {
      accept(sequence)
      assert.isUndefined(ask(10))
    }
  })
  it("D17: again after 5 s, doubling to 60 s, until nothing is missing", () => {
    const { ask, come, cursor } = start()
    come(2)
    let now = 0
    assert.strictEqual(ask(now), 0)
    for (const wait of [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]) {
      assert.strictEqual(cursor.nextRequestAt(), now + wait)
      assert.isUndefined(ask(now + wait - 1))
      now += wait
      assert.strictEqual(ask(now), 0)
    }
    come(1)
    assert.isUndefined(cursor.nextRequestAt())
    assert.isUndefined(ask(now + 1e6))
    come(4, "m4", now)
    assert.strictEqual(ask(now), 0, "a new gap is a new matter")
    assert.isUndefined(ask(now + 4_999))
    assert.strictEqual(ask(now + 5_000), 0)
  })
  it("with waits that lie between 75 and 100 % of that", () => {
    const { come, cursor } = start()
    come(2)
    cursor.requested(0, 0)
    assert.strictEqual(cursor.nextRequestAt(), 3_750)
  })
  it("soon, but not at once, for a gap that opens while another is asked for", () => {
    const { ask, come } = start()
    come(2)
    assert.strictEqual(ask(0), 0)
    come(4, "m4", 1)
    assert.isUndefined(ask(499))
    assert.strictEqual(ask(500), 0)
  })
  it("for numbers it says exist, and when it invites to", () => {
    const { ask, come, cursor } = start()
    cursor.exists(3)
    assert.strictEqual(ask(0), 0)
    cursor.invite()
    assert.strictEqual(ask(500), 0)
    for (const sequence of [1, 2, 3]) come(sequence)
    cursor.exists(3)
    cursor.invite()
    assert.isUndefined(ask(1_000), "everything is here")
  })
  it("for what the broker let go only when the broker wants it", () => {
    const { accept, ask, come, cursor, release } = start()
    cursor.askAgain()
    for (const sequence of [1, 2]) come(sequence)
    release(1)
    come(3)
    assert.isUndefined(ask(0))
    assert.isUndefined(cursor.nextRequestAt())
    cursor.askAgain()
    assert.strictEqual(ask(0), 0)
    assert.isUndefined(ask(1e6), "once")
    cursor.askAgain()
    accept(1)
    assert.isUndefined(ask(0), "nothing is left of it")
    come(4)
    release(4)
    assert.isUndefined(ask(0))
  })
  it("not right after a new link, over which it sends what is missing by itself; later, if it does not", () => {
    const { ask, come, cursor } = start()
    come(2)
    assert.strictEqual(ask(0), 0)
    cursor.reconnected(2_000, longest)
    assert.isUndefined(ask(6_999))
    assert.strictEqual(ask(7_000), 0)
    cursor.reconnected(8_000, longest)
    come(4, "m4", 8_001)
    assert.strictEqual(ask(8_001), 0, "a gap on the new link")
  })
  it("what was asked for again comes in order", () => {
    const { come, cursor, release } = start()
    for (const sequence of [1, 2, 3]) come(sequence)
    for (const sequence of [3, 1]) release(sequence)
    cursor.askAgain()
    assert.deepStrictEqual(come(3), [])
    assert.deepStrictEqual(come(4), ["m4"])
    assert.deepStrictEqual(come(1), ["m1", "m3"])
  })
})

// -- against a naive model ---------------------------------------------------------------------------------------------

it("agrees with a model that looks at every number", () => {
  const n = fc.integer({ min: 1, max: 12 })
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ op: fc.constant("come" as const), n, id: fc.integer({ min: 1, max: 12 }) }) },
    { weight: 5, arbitrary: fc.record({ op: fc.constant("accept" as const), n }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant("release" as const), n }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("skip" as const), n }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("advance" as const), n }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("pass" as const), n: fc.integer({ min: 1, max: 6_000 }) }) }
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const { cursor } = start()
      const safe = new Set<number>()
      const safeIds = new Set<string>()
      /** Which message a number names: the network never says otherwise. */
      const idOf = new Map<number, string>()
      /** Numbers whose message is here. */
      const here = new Set<number>()
      /** The deliveries in the broker's hands: under which number each was handed over. */
      const inHands = new Map<string, number>()
      let now = 0
      const accept = (id: string) => {
        safeIds.add(id)
        inHands.delete(id)
        for (const number of here) if (idOf.get(number) === id) safe.add(number)
        for (const number of safe) here.delete(number)
      }
      for (const { n, op, ...rest } of steps) {
        const [id, sequence] = [...inHands][n % (inHands.size || 1)] ?? ["", 0]
        if (op === "come") {
          const named = idOf.get(n) ?? `id${"id" in rest ? rest.id : 0}`
          idOf.set(n, named)
          cursor.arrive({ sequence: n, id: named }, `${n} ${named}`, 1, now)
          if (safeIds.has(named)) safe.add(n)
          else if (!safe.has(n)) here.add(n)
        } else if (op === "accept" && id !== "") {
          cursor.accept({ sequence, id })
          safe.add(sequence)
          accept(id)
        } else if (op === "release" && id !== "") {
          cursor.release({ sequence, id })
          inHands.delete(id)
          for (const number of here) if (idOf.get(number) === id) here.delete(number)
        } else if (op === "skip") {
          cursor.accept({ sequence: n, id: undefined })
          if (here.has(n)) accept(idOf.get(n)!)
          safe.add(n)
        } else if (op === "advance") {
          cursor.advanceTo(n)
          for (let number = 1; number <= n; number++) safe.add(number)
          for (const number of safe) here.delete(number)
        } else if (op === "pass") now += n
        for (const text of cursor.take(now)) {
          const [number, name] = text.split(" ")
          assert.isFalse(inHands.has(name!) || safeIds.has(name!), "nothing the broker has comes again")
          inHands.set(name!, Number(number))
        }
        let contiguous = 0
        while (safe.has(contiguous + 1)) contiguous++
        assert.strictEqual(cursor.cursor, contiguous)
        assert.strictEqual(cursor.outstanding, here.size + [...safe].filter((number) => number > contiguous).length)
      }
    }),
    { numRuns: 500 }
  )
})
