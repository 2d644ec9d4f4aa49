import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { RecentIds } from "../../../src/layers/internal/RecentIds.js"
import { EndpointKey } from "../../../src/services/model/Ids.js"

const one = EndpointKey(1)
const two = EndpointKey(2)

const make = (count = 3, ageMs = 100) => {
  const removed: Array<string> = []
  const ids = new RecentIds({ count, ageMs }, (endpoint, id) => removed.push(`${endpoint}/${id}`))
  return { ids, removed }
}

describe("the ids of an endpoint", () => {
  it("are its latest, up to the limit; the oldest goes", () => {
    const { ids, removed } = make()
    for (const [now, id] of ["a", "b", "c", "d"].entries()) ids.add(one, id, now)
    assert.strictEqual(ids.count(one), 3)
    assert.deepStrictEqual(removed, ["1/a"])
    assert.isUndefined(ids.since(one, "a"))
    assert.strictEqual(ids.since(one, "d"), 3)
  })
  it("added again are the newest, and their time counts from there", () => {
    const { ids, removed } = make()
    for (const [now, id] of ["a", "b", "c", "a", "d"].entries()) ids.add(one, id, now)
    assert.deepStrictEqual(removed, ["1/b"])
    assert.strictEqual(ids.since(one, "a"), 3)
  })
  it("do not count against another endpoint's", () => {
    const { ids, removed } = make(1)
    ids.add(one, "a", 0)
    ids.add(two, "b", 0)
    assert.deepStrictEqual(removed, [])
  })
  it("are forgotten with it, and no other's", () => {
    const { ids, removed } = make()
    ids.add(one, "a", 0)
    ids.add(one, "b", 0)
    ids.add(two, "a", 0)
    ids.forget(one)
    assert.strictEqual(ids.count(one), 0)
    assert.deepStrictEqual(removed, ["1/a", "1/b"])
    assert.deepStrictEqual(ids.owners("a", 0), [two])
    assert.isFalse(ids.has("b"))
  })
  it("that are not there are removed without a word", () => {
    const { ids, removed } = make()
    ids.remove(one, "a")
    ids.forget(one)
    assert.deepStrictEqual(removed, [])
  })
})

describe("the owners of an id", () => {
  it("come in the order in which they first had it", () => {
    const { ids } = make()
    ids.add(two, "a", 0)
    ids.add(one, "a", 1)
    ids.add(two, "a", 2)
    assert.deepStrictEqual(ids.owners("a", 2), [two, one])
  })
  it("are those for whom it is not too old: younger than the limit, not as old", () => {
    const { ids } = make(3, 100)
    ids.add(one, "a", 0)
    ids.add(two, "a", 1)
    assert.deepStrictEqual(ids.owners("a", 99), [one, two])
    assert.deepStrictEqual(ids.owners("a", 100), [two])
    assert.deepStrictEqual(ids.owners("a", 101), [])
  })
  it("of an id nobody has are none", () => assert.deepStrictEqual(make().ids.owners("a", 0), []))
})

it("what is restored has its order, its times and its limit", () => {
  const before = make(10).ids
  const known = [before.add(two, "a", 0), before.add(one, "a", 0), before.add(two, "b", 1), before.add(two, "c", 2)]
  known[0] = before.add(two, "a", 3)
  const { ids, removed } = make(2)
  ids.restore(known.toReversed())
  assert.deepStrictEqual(ids.owners("a", 3), [two, one])
  assert.strictEqual(ids.since(two, "a"), 3)
  assert.deepStrictEqual(removed, ["2/b"])
  ids.add(one, "c", 4)
  assert.deepStrictEqual(ids.owners("c", 4), [two, one])
})

it("a sweep removes what is too old, tells how much, and leaves the rest", () => {
  const { ids, removed } = make(10, 100)
  ids.add(one, "a", 0)
  ids.add(one, "b", 1)
  ids.add(two, "a", 0)
  ids.add(two, "c", 50)
  assert.strictEqual(ids.sweep(99), 0)
  assert.strictEqual(ids.sweep(100), 2)
  assert.deepStrictEqual(removed, ["1/a", "2/a"])
  assert.isFalse(ids.has("a"))
  assert.strictEqual(ids.count(one) + ids.count(two), 2)
})

const endpoint = fc.constantFrom(one, two, EndpointKey(3))
const id = fc.constantFrom("a", "b", "c", "d", "e")
const operation = fc.record({
  do: fc.constantFrom("add", "add", "add", "remove", "forget", "sweep"),
  endpoint,
  id,
  pause: fc.nat(30)
})

it.prop("any operations leave what a plain list of pairs would hold", [fc.array(operation)], ([operations]) => {
  const limits = { count: 3, ageMs: 100 }
  const removed: Array<readonly [EndpointKey, string]> = []
  const ids = new RecentIds(limits, (endpoint, id) => removed.push([endpoint, id]))
  // Each endpoint's newest last; `first` keeps the order of ownership.
  let pairs: Array<{ endpoint: EndpointKey; id: string; at: number; first: number }> = []
  let gone = 0
  let now = 0
  const keep = (which: (pair: (typeof pairs)[number]) => boolean) => {
    const kept = pairs.filter(which)
    gone += pairs.length - kept.length
    pairs = kept
  }
  for (const [turn, { do: what, endpoint, id, pause }] of operations.entries()) {
    now += pause
    const isIt = (pair: (typeof pairs)[number]) => pair.endpoint === endpoint && pair.id === id
    if (what === "add") {
      const first = pairs.find(isIt)?.first ?? turn
      pairs = [...pairs.filter((pair) => !isIt(pair)), { endpoint, id, at: now, first }]
      const own = pairs.filter((pair) => pair.endpoint === endpoint)
      if (own.length > limits.count) keep((pair) => pair !== own[0])
      ids.add(endpoint, id, now)
    } else if (what === "remove") {
      keep((pair) => !isIt(pair))
      ids.remove(endpoint, id)
    } else if (what === "forget") {
      keep((pair) => pair.endpoint !== endpoint)
      ids.forget(endpoint)
    } else {
      const before = pairs.length
      keep(({ at }) => now - at < limits.ageMs)
      assert.strictEqual(ids.sweep(now), before - pairs.length)
    }
    for (const id of ["a", "b", "c", "d", "e"]) {
      const owners = pairs.filter((pair) => pair.id === id && now - pair.at < limits.ageMs)
      assert.deepStrictEqual(
        ids.owners(id, now),
        owners.sort((x, y) => x.first - y.first).map(({ endpoint }) => endpoint)
      )
    }
    assert.strictEqual(ids.count(endpoint), pairs.filter((pair) => pair.endpoint === endpoint).length)
    assert.strictEqual(removed.length, gone, "every id that leaves is told")
  }
})
