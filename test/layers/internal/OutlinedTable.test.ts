import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { OutlinedTable } from "../../../src/layers/internal/OutlinedTable.js"
import { ordered } from "../../../src/services/model/StoreKey.js"
import { Store, Transaction, table } from "../../../src/services/Store.js"
import { groundWith } from "../../kit/core.js"
import { FakeStore } from "../../kit/FakeStore.js"
import { commit } from "../../kit/steps.js"

interface Thing {
  readonly n: number
  readonly content: string
}
const things = table<Thing>("things", 1)
const thing = (n: number): Thing => ({ n, content: `content of ${n}` })
const keyOf = (n: number) => ordered(n)

/** Opens the table over the store as it is. */
const open = (order?: (a: number, b: number) => number) =>
  Effect.map(Store, (store) => new OutlinedTable(things, store, { outlineOf: ({ n }) => n, ...(order && { order }) }))
const outlines = (opened: OutlinedTable<Thing, number>) => Array.from(opened.outlines(), ([, n]) => n)
const over = (store: FakeStore) => Layer.provide(store.layer, groundWith({}))

describe("a table of which memory holds outlines", () => {
  it.scoped("has those that were there in key order or another, however many, and behind them what is added", () => {
    const numbers = Array.from({ length: 100 }, (_, n) => n)
    return Effect.gen(function* () {
      yield* commit((transaction) => {
        for (const n of numbers.toReversed()) transaction.put(things, keyOf(n), thing(n))
      })
      assert.deepStrictEqual(outlines(yield* open()), numbers)
      const opened = yield* open((a, b) => b - a)
      yield* commit((transaction) => opened.add(transaction, keyOf(100), thing(100)))
      assert.deepStrictEqual(outlines(opened), [...numbers.toReversed(), 100])
      assert.deepStrictEqual(opened.get(keyOf(7)), thing(7))
      assert.strictEqual(opened.size, 101)
    }).pipe(Effect.provide(over(new FakeStore())))
  })

  it.scoped("has a record itself only until it is durable, and reads it from the store from then on", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const opened = yield* open()
      const added = thing(1)
      store.hold()
      const transaction = new Transaction()
      assert.strictEqual(opened.add(transaction, keyOf(1), added), 1)
      const committed = yield* Effect.fork((yield* Store).commit(transaction))
      yield* Effect.yieldNow()
      assert.strictEqual(opened.get(keyOf(1)), added)
      store.release()
      yield* committed.await
      assert.notStrictEqual(opened.get(keyOf(1)), added)
      assert.deepStrictEqual(opened.get(keyOf(1)), added)
      assert.deepStrictEqual((yield* open()).get(keyOf(1)), added)
    }).pipe(Effect.provide(over(store)))
  })

  it.scoped("gives up what is removed, also before it is durable", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const opened = yield* open()
      yield* commit((transaction) => {
        for (const n of [1, 2]) opened.add(transaction, keyOf(n), thing(n))
        assert.strictEqual(opened.remove(transaction, keyOf(1)), 1)
      })
      assert.strictEqual(yield* commit((transaction) => opened.remove(transaction, keyOf(2))), 2)
      assert.isUndefined(yield* commit((transaction) => opened.remove(transaction, keyOf(2))))
      assert.isUndefined(opened.get(keyOf(2)))
      assert.deepStrictEqual([opened.size, store.recordsOf("things")], [0, []])
    }).pipe(Effect.provide(over(store)))
  })

  it.scoped("reads no record of which the key tells enough when it is opened", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* commit((transaction) => {
        for (const n of [1, 2, 3, 4]) transaction.put(things, keyOf(n), thing(n))
      })
      store.damage("things", keyOf(4))
      const numberOf = (key: string) => (key === keyOf(1) ? 1 : key === keyOf(3) ? 3 : undefined)
      const opened = new OutlinedTable(things, yield* Store, { outlineOf: ({ n }) => -n, outlineOfKey: numberOf })
      assert.deepStrictEqual(outlines(opened), [1, -2, 3])
      assert.strictEqual(store.read, 2, "of the second and the damaged one")
    }).pipe(Effect.provide(over(store)))
  })
})
