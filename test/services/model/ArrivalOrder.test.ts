import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { ArrivalOrder, type OrderLimits } from "../../../src/services/model/ArrivalOrder.js"

const limits: OrderLimits = { waitMs: 5_000, messages: 10_000, bytes: 1e9 }

const orderOf = (given: Partial<OrderLimits> = {}, through = 0) => {
  const order = new ArrivalOrder<number>({ ...limits, ...given }, through)
  return {
    order,
    /** These come one after the other; what is handed over. */
    come: (numbers: ReadonlyArray<number>, now = 0, bytes = 1) => {
      for (const number of numbers) order.arrive(number, number, bytes, now)
      return order.take()
    },
    later: (now: number) => {
      order.expire(now)
      return order.take()
    }
  }
}

describe("messages", () => {
  it("in order go at once", () => {
    const { come, order } = orderOf()
    assert.deepStrictEqual(come([1, 2]), [1, 2])
    assert.deepStrictEqual(come([3]), [3])
    assert.isUndefined(order.nextExpiry)
  })
  it("that come early wait for those before them", () => {
    const { come, order } = orderOf({}, 10)
    assert.deepStrictEqual(come([13, 12, 15]), [])
    assert.deepStrictEqual(order.waiting, { messages: 3, bytes: 3 })
    assert.deepStrictEqual(come([11]), [11, 12, 13])
    assert.deepStrictEqual(come([14]), [14, 15])
    assert.deepStrictEqual(order.waiting, { messages: 0, bytes: 0 })
  })
  it("wait so long and not a moment longer, each from its own arrival", () => {
    const { come, later, order } = orderOf()
    come([3], 1_000)
    come([5], 2_000)
    assert.strictEqual(order.nextExpiry, 6_000)
    assert.deepStrictEqual(later(5_999), [])
    assert.deepStrictEqual(later(6_000), [3])
    assert.strictEqual(order.nextExpiry, 7_000)
    assert.deepStrictEqual(later(7_000), [5])
    assert.isUndefined(order.nextExpiry)
  })
  it("before one that has waited long enough go with it, and those that follow it without a gap after it", () => {
    const { come, later } = orderOf()
    come([7], 0)
    come([3, 5, 8, 10], 4_000)
    assert.deepStrictEqual(later(5_000), [3, 5, 7, 8])
    assert.deepStrictEqual(later(9_000), [10])
  })
  it("that were given up and come late go at once", () => {
    const { come, later } = orderOf()
    come([3], 0)
    later(5_000)
    assert.deepStrictEqual(come([1, 4, 2], 6_000), [1, 4, 2])
  })
  it("go without those before them when more would wait than may, in number or in bytes", () => {
    const few = orderOf({ messages: 3 })
    assert.deepStrictEqual(few.come([5, 4, 3]), [])
    assert.deepStrictEqual(few.come([7]), [3, 4, 5, 7])
    assert.deepStrictEqual(few.come([8]), [8])
    const small = orderOf({ bytes: 100 })
    assert.deepStrictEqual(small.come([3], 0, 100), [])
    assert.deepStrictEqual(small.come([2], 0, 1), [2, 3])
    assert.deepStrictEqual(small.order.waiting, { messages: 0, bytes: 0 })
  })
})

describe("numbers under which nothing need come", () => {
  it("are not waited for", () => {
    const { come, order } = orderOf()
    come([3, 5])
    order.settle(1)
    assert.deepStrictEqual(order.take(), [])
    order.settle(2)
    assert.deepStrictEqual(order.take(), [3])
    order.settle(7)
    assert.deepStrictEqual(come([4]), [4, 5])
    assert.deepStrictEqual(come([8]), [])
    assert.deepStrictEqual(come([6]), [6, 8])
  })
  it("have their message dropped when it waits", () => {
    const { come, order } = orderOf()
    come([2, 3])
    order.settle(2)
    assert.deepStrictEqual(come([1]), [1, 3])
  })
  it("up to one: what waits there goes to the broker", () => {
    const { come, order } = orderOf()
    come([3, 5, 6, 9])
    order.settleUpTo(5)
    assert.deepStrictEqual(order.take(), [3, 5, 6])
  })
  it("are known from the start", () => {
    const order = new ArrivalOrder<number>(limits, 4, [
      [5, 6],
      [8, 8]
    ])
    order.arrive(7, 7, 1, 0)
    order.arrive(9, 9, 1, 0)
    assert.deepStrictEqual(order.take(), [7, 9])
  })
})

describe("messages that come again", () => {
  it("wait for nothing when nobody asked for them", () => {
    const { come } = orderOf()
    come([1, 2, 3])
    assert.deepStrictEqual(come([3, 1]), [3, 1])
  })
  it("come in their order when they were asked for, and never make a new one wait", () => {
    const { come, order } = orderOf()
    come([1, 2, 3, 4])
    order.ask([1, 2, 4])
    assert.deepStrictEqual(come([4]), [])
    assert.deepStrictEqual(come([5]), [5], "a new one")
    assert.deepStrictEqual(come([2]), [])
    assert.deepStrictEqual(come([1]), [1, 2, 4])
  })
  it("wait no longer than new ones", () => {
    const { come, later, order } = orderOf()
    come([1, 2, 3])
    order.ask([1, 2, 3])
    come([2], 0)
    come([3], 1)
    assert.deepStrictEqual(later(4_999), [])
    assert.deepStrictEqual(later(5_000), [2, 3])
    assert.deepStrictEqual(come([1], 5_000), [1])
  })
  it("are dropped when they are done with while they wait", () => {
    const { come, order } = orderOf()
    come([1, 2, 3])
    order.ask([1, 2])
    assert.deepStrictEqual(come([2, 3]), [])
    order.settle(3)
    assert.deepStrictEqual(come([1]), [1, 2])
  })
  it("and new ones cost the same however many came before", () => {
    const { come, order } = orderOf()
    for (let number = 2; number <= 200_000; number++) {
      come([number], number)
      if (number === 5_000) come([1], number)
      order.expire(number)
    }
    assert.deepStrictEqual(order.waiting, { messages: 0, bytes: 0 })
  })
  it("do not wait for one that is done with", () => {
    const { come, order } = orderOf()
    come([1, 2, 3])
    order.ask([1, 2, 3])
    come([3])
    order.settle(2)
    order.settle(1)
    assert.deepStrictEqual(order.take(), [3])
  })
})

// -- against a naive model ---------------------------------------------------------------------------------------------

/** Says for every number what became of it, and looks at all of them at every step. */
class Model {
  private readonly passed = new Set<number>()
  private readonly waiting = new Map<number, number>()
  private readonly unseen = (below: number) =>
    Array.from({ length: below - 1 }, (_, index) => index + 1).filter(
      (n) => !this.passed.has(n) && !this.waiting.has(n)
    )

  canCome(number: number) {
    return !this.waiting.has(number)
  }
  arrive(number: number, now: number): Array<number> {
    if (this.passed.has(number)) return [number]
    this.waiting.set(number, now)
    return this.go()
  }
  settle(number: number) {
    this.waiting.delete(number)
    this.passed.add(number)
    return this.go()
  }
  expire(now: number) {
    const due = [...this.waiting].filter(([, since]) => now - since >= limits.waitMs).map(([number]) => number)
    const last = Math.max(0, ...due)
    const gone = [...this.waiting.keys()].filter((number) => number <= last).sort((a, b) => a - b)
    for (const number of gone) this.waiting.delete(number)
    for (let number = 1; number <= last; number++) this.passed.add(number)
    return [...gone, ...this.go()]
  }
  private go() {
    const gone = [...this.waiting.keys()].sort((a, b) => a - b).filter((number) => this.unseen(number).length === 0)
    for (const number of gone) {
      this.waiting.delete(number)
      this.passed.add(number)
    }
    return gone
  }
}

it("whatever comes, goes as a model says that looks at every number at every step", () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ op: fc.constant("arrive" as const), n: fc.integer({ min: 1, max: 14 }) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("settle" as const), n: fc.integer({ min: 1, max: 14 }) }) },
    { weight: 3, arbitrary: fc.record({ op: fc.constant("pass" as const), n: fc.integer({ min: 1, max: 4_000 }) }) }
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { order } = orderOf()
      const model = new Model()
      let now = 0
      for (const { n, op } of steps) {
        let expected: ReadonlyArray<number> = []
        if (op === "pass") {
          now += n
          order.expire(now)
          expected = model.expire(now)
          assert.isTrue(order.nextExpiry === undefined || order.nextExpiry > now, "nobody waits too long")
        } else if (op === "settle") {
          order.settle(n)
          expected = model.settle(n)
        } else if (model.canCome(n)) {
          order.arrive(n, n, 1, now)
          expected = model.arrive(n, now)
        }
        assert.deepStrictEqual(order.take(), expected)
      }
    }),
    { numRuns: 500 }
  )
})
