/** What every Store owes the broker. A fresh layer per case, on the live clock. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, FastCheck as fc, Layer, type Scope } from "effect"
import { type Key, type KeySummary, Store, type Table, Transaction, table } from "../Store.js"

export interface StoreAbilities<E> {
  /** A place of its own for each run; its layer may be built several times, one after the other, and keeps its records. */
  readonly reopened?: Effect.Effect<Layer.Layer<Store, E>, never, Scope.Scope>
  /** A store with less room than its limit, for as long as it lives. */
  readonly cramped?: Effect.Effect<Layer.Layer<Store, E>, never, Scope.Scope>
}

const things = table<unknown>("things", 1)
const others = table<unknown>("others", 1)
const all = { from: "!", until: "\u007f" }

type Change = readonly [key: Key, value?: unknown]
const keysOf = ({ name }: Table<unknown>): KeySummary<Array<Key>> => ({
  table: name,
  empty: () => [],
  add: (keys, bytes, start, end) => keys.push(Buffer.from(bytes.subarray(start, end)).toString("latin1"))
})

/** Puts each key with its value; without a value deletes it. */
const transactionOf = (changes: ReadonlyArray<Change>, of: Table<unknown> = things) => {
  const transaction = new Transaction()
  for (const [key, ...value] of changes) {
    if (value.length === 0) transaction.delete(of, key)
    else transaction.put(of, key, value[0])
  }
  return transaction
}
const commit = (...changes: ReadonlyArray<Change>) =>
  Effect.flatMap(Store, (store) => store.commit(transactionOf(changes)))

export const storeContract = <E>(
  name: string,
  layer: Layer.Layer<Store, E>,
  { cramped, reopened }: StoreAbilities<E> = {}
) => {
  const check = (behaviour: string, test: (store: Store["Type"]) => Effect.Effect<void, never, Store>) =>
    it.scopedLive(behaviour, () => Effect.flatMap(Store, test).pipe(Effect.provide(layer)))

  describe(`${name}: records`, () => {
    check("are there once their transaction is durable, and not before", (store) =>
      Effect.gen(function* () {
        const transaction = transactionOf([["a", { n: 1 }]])
        store.unsafeCommit(transaction)
        assert.isUndefined(store.unsafeGet(things, "a"))
        assert.deepStrictEqual(store.unsafeRange(things, all), [])
        yield* store.flush
        assert.deepStrictEqual(store.unsafeGet(things, "a"), { n: 1 })
      })
    )
    check("are replaced by the latest put and gone after a delete; deleting nothing is fine", (store) =>
      Effect.gen(function* () {
        yield* commit(["a", 1], ["b", 1])
        yield* commit(["a", 2], ["b"], ["c"])
        assert.deepStrictEqual(store.unsafeRange(things, all), [["a", 2]])
        assert.isUndefined(store.unsafeGet(things, "b"))
      })
    )
    check("are what the last operation on their key left, also within one transaction", (store) =>
      Effect.gen(function* () {
        yield* commit(["a", 1], ["a", 2], ["b", 1], ["b"], ["c"], ["c", 3])
        assert.deepStrictEqual(store.unsafeRange(things, all), [
          ["a", 2],
          ["c", 3]
        ])
      })
    )
    check("of two tables have nothing to do with each other", (store) =>
      Effect.gen(function* () {
        const transaction = transactionOf([["a", "thing"]])
        transaction.put(others, "a", "other")
        transaction.put(others, "b", "other")
        yield* store.commit(transaction)
        assert.strictEqual(store.unsafeGet(things, "a"), "thing")
        assert.strictEqual(store.unsafeGet(others, "a"), "other")
        yield* store.commit(transactionOf([["a"]], others))
        assert.deepStrictEqual(store.unsafeRange(things, all), [["a", "thing"]])
        assert.deepStrictEqual(store.unsafeRange(others, all), [["b", "other"]])
      })
    )
    check("hold any JSON", (store) =>
      Effect.gen(function* () {
        const values = [
          null,
          false,
          0,
          -1.5,
          2 ** 53 - 1,
          "",
          "é🙂\u0000\n",
          [],
          {},
          [[{ a: [null] }]],
          "x".repeat(300_000)
        ]
        yield* commit(...values.map((value, n): Change => [`k${n}`, value]))
        for (const [n, value] of values.entries()) assert.deepStrictEqual(store.unsafeGet(things, `k${n}`), value)
      })
    )
    check("have keys of up to 512 characters", (store) =>
      Effect.gen(function* () {
        const long = "k".repeat(511)
        yield* commit([`${long}a`, 1], [`${long}b`, 2], ["k", 0])
        assert.strictEqual(store.unsafeGet(things, `${long}b`), 2)
        assert.deepStrictEqual(store.unsafeRange(things, { after: `${long}a`, until: "l" }), [[`${long}b`, 2]])
      })
    )
  })

  describe(`${name}: a range`, () => {
    const keys = ["a", "a/1", "a/2", "a0", "b"]
    const rangeOf = (range: Parameters<Store["Type"]["unsafeRange"]>[1]) =>
      Effect.flatMap(Store, (store) =>
        Effect.map(commit(...keys.map((key): Change => [key, key])), () =>
          store.unsafeRange(things, range).map(([key]) => key)
        )
      )
    const cases: ReadonlyArray<readonly [string, Parameters<typeof rangeOf>[0], ReadonlyArray<Key>]> = [
      ["begins with `from`", { from: "a/1", until: "z" }, ["a/1", "a/2", "a0", "b"]],
      ["begins behind `from` where there is no such key", { from: "a/11", until: "z" }, ["a/2", "a0", "b"]],
      ["begins behind `after`", { after: "a/1", until: "z" }, ["a/2", "a0", "b"]],
      ["begins behind `after` where there is no such key", { after: "a/11", until: "z" }, ["a/2", "a0", "b"]],
      ["ends before `until`", { from: "a", until: "a0" }, ["a", "a/1", "a/2"]],
      ["ends before `until` where there is no such key", { from: "a", until: "a/9" }, ["a", "a/1", "a/2"]],
      ["holds at most `limit` records, the first", { from: "a", until: "z", limit: 2 }, ["a", "a/1"]],
      [
        "with a limit begins behind `after`, to read page by page",
        { after: "a/1", until: "z", limit: 2 },
        ["a/2", "a0"]
      ],
      ["is shorter than `limit` when there is no more", { after: "a0", until: "z", limit: 9 }, ["b"]],
      ["with neither `from` nor `after` begins with the first key", { until: "a0" }, ["a", "a/1", "a/2"]],
      ["is empty when nothing lies in it", { from: "c", until: "z" }, []],
      ["is empty when it ends before it begins", { from: "b", until: "a" }, []]
    ]
    for (const [behaviour, range, expected] of cases) {
      check(behaviour, () => Effect.map(rangeOf(range), (found) => assert.deepStrictEqual(found, expected)))
    }
    check("holds at most `bytes` of records, but the first whatever its size", (store) =>
      Effect.gen(function* () {
        const sizes = { a: 100_000, b: 20_000, c: 20_000, d: 20_000, e: 20_000 }
        yield* commit(...Object.entries(sizes).map(([key, size]): Change => [key, "x".repeat(size)]))
        const found = (range: Parameters<Store["Type"]["unsafeRange"]>[1]) =>
          store.unsafeRange(things, range).map(([key]) => key)
        assert.deepStrictEqual(found({ from: "a", until: "z", bytes: 1 }), ["a"])
        assert.deepStrictEqual(found({ from: "a", until: "z", bytes: 130_000 }), ["a", "b"])
        assert.deepStrictEqual(found({ after: "a", until: "z", bytes: 70_000 }), ["b", "c", "d"])
        assert.deepStrictEqual(found({ after: "a", until: "z", bytes: 70_000, limit: 2 }), ["b", "c"])
        assert.deepStrictEqual(found({ after: "a", until: "z", bytes: 1_000_000 }), ["b", "c", "d", "e"])
      })
    )
    check("is counted without being read", (store) =>
      Effect.gen(function* () {
        yield* commit(["a", 1], ["b", 1], ["b/1", 1], ["b/2", 1], ["c", 1])
        for (const [from, until] of [
          ["!", "\u007f"],
          ["b", "c"],
          ["b/", "b/\u007f"],
          ["b/1", "b/2"],
          ["d", "e"]
        ] as const) {
          assert.strictEqual(
            store.unsafeCount(things, { from, until }),
            store.unsafeRange(things, { from, until }).length
          )
        }
        assert.strictEqual(store.unsafeCount(others, all), 0)
      })
    )
    check("is ordered by character code", (store) =>
      Effect.gen(function* () {
        const order = ["!", "-", ".", "/", "0", "00", "9", "A", "Z", "_", "a", "aa", "z", "~"]
        yield* commit(...[...order].reverse().map((key): Change => [key, key]))
        assert.deepStrictEqual(
          store.unsafeRange(things, all).map(([key]) => key),
          order
        )
      })
    )
  })

  describe(`${name}: transactions`, () => {
    check("are durable whole: none of their records is seen without the others", (store) =>
      Effect.gen(function* () {
        const seen: Array<readonly [unknown, unknown, number]> = []
        for (let n = 1; n <= 50; n++) {
          const transaction = transactionOf([["left", n], [`old${n - 1}`], [`old${n}`, n], ["right", n]])
          transaction.onDurable(() => {
            const old = store.unsafeRange(things, { from: "old", until: "ole" }).length
            seen.push([store.unsafeGet(things, "left"), store.unsafeGet(things, "right"), old])
          })
          store.unsafeCommit(transaction)
          if (n % 7 === 0) yield* store.flush
        }
        yield* store.flush
        for (const [left, right, old] of seen) assert.deepStrictEqual([right, old], [left, 1])
        assert.strictEqual(seen.length, 50)
      })
    )
    check("are durable in the order of their commits, and their effects run in it", (store) =>
      Effect.gen(function* () {
        const told: Array<string> = []
        for (let n = 1; n <= 100; n++) {
          const transaction = transactionOf([["latest", n]])
          transaction.onDurable(() => {
            assert.isAtLeast(store.unsafeGet(things, "latest") as number, n)
            told.push(`${n}a`)
          })
          transaction.onDurable(() => told.push(`${n}b`))
          store.unsafeCommit(transaction)
          if (n % 10 === 0) yield* Effect.yieldNow()
        }
        yield* store.flush
        assert.deepStrictEqual(
          told,
          Array.from({ length: 200 }, (_, n) => `${Math.floor(n / 2) + 1}${n % 2 === 0 ? "a" : "b"}`)
        )
        assert.strictEqual(store.unsafeGet(things, "latest"), 100)
      })
    )
    check("run their effects after the call that commits, never within it", (store) =>
      Effect.gen(function* () {
        let isTold = false
        const transaction = transactionOf([["a", 1]])
        transaction.onDurable(() => {
          isTold = true
        })
        store.unsafeCommit(transaction)
        assert.isFalse(isTold)
        yield* store.flush
        assert.isTrue(isTold)
      })
    )
    check("may be committed by an effect, and follow", (store) =>
      Effect.gen(function* () {
        const done = yield* Deferred.make<void>()
        const second = transactionOf([["b", 2]])
        second.onDurable(() => Deferred.unsafeDone(done, Effect.void))
        const first = transactionOf([["a", 1]])
        first.onDurable(() => store.unsafeCommit(second))
        store.unsafeCommit(first)
        yield* Deferred.await(done)
        assert.deepStrictEqual([store.unsafeGet(things, "a"), store.unsafeGet(things, "b")], [1, 2])
      })
    )
    check("without records run their effects at once", (store) =>
      Effect.sync(() => {
        let isTold = false
        const transaction = new Transaction()
        transaction.onDurable(() => {
          isTold = true
        })
        store.unsafeCommit(transaction)
        assert.isTrue(isTold)
      })
    )
    check("go on when an effect throws: its neighbours and successors run", (store) =>
      Effect.gen(function* () {
        const told: Array<string> = []
        const first = transactionOf([["a", 1]])
        first.onDurable(() => {
          throw new Error("a fault")
        })
        first.onDurable(() => told.push("same"))
        const second = transactionOf([["b", 1]])
        second.onDurable(() => told.push("next"))
        store.unsafeCommit(first)
        store.unsafeCommit(second)
        yield* store.flush
        assert.deepStrictEqual(told, ["same", "next"])
      })
    )
  })

  describe(`${name}: waiting`, () => {
    check("commit is done when the records are there; an empty one is done as well", (store) =>
      Effect.gen(function* () {
        yield* store.commit(transactionOf([["a", 1]]))
        assert.strictEqual(store.unsafeGet(things, "a"), 1)
        yield* store.commit(new Transaction())
      })
    )
    check("who waits for a commit is answered when the records are there", (store) =>
      Effect.gen(function* () {
        const waiting = store.unsafeCommitWithin(transactionOf([["a", 1]]))
        yield* Effect.orDie(waiting)
        assert.strictEqual(store.unsafeGet(things, "a"), 1)
        yield* Effect.orDie(waiting)
        yield* Effect.orDie(store.unsafeCommitWithin(new Transaction()))
      })
    )
    check("flush is done when everything handed over is there", (store) =>
      Effect.gen(function* () {
        for (let n = 0; n < 500; n++) store.unsafeCommit(transactionOf([[`k${n}`, n]]))
        yield* store.flush
        assert.strictEqual(store.unsafeRange(things, all).length, 500)
        yield* store.flush
      })
    )
    check("a summary takes in every key in order, however many there are, and none where there are none", (store) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(store.unsafeSummary(keysOf(others)), [])
        const keys = Array.from({ length: 2_500 }, (_, n) => `k${String(n).padStart(5, "0")}`)
        yield* store.commit(transactionOf(keys.map((key, n) => [key, n])))
        assert.deepStrictEqual(store.unsafeSummary(keysOf(things)), keys)
      })
    )
    check("the store is healthy while its writes work", (store) =>
      Effect.gen(function* () {
        yield* commit(["a", 1])
        assert.deepStrictEqual(store.unsafeHealth(), { _tag: "Healthy" })
      })
    )
  })

  const key = fc.constantFrom("a", "a/1", "a/2", "a0", "b", "Z", "~")
  const script = fc.array(fc.array(fc.oneof(fc.tuple(key, fc.nat(9)), fc.tuple(key))))
  it.live.prop(`${name}: any transactions leave what a sorted map would hold`, [script], ([transactions]) =>
    Effect.gen(function* () {
      const store = yield* Store
      const model = new Map<Key, unknown>()
      for (const changes of transactions) {
        store.unsafeCommit(transactionOf(changes))
        for (const [key, ...value] of changes) {
          if (value.length === 0) model.delete(key)
          else model.set(key, value[0])
        }
      }
      yield* store.flush
      assert.deepStrictEqual(
        store.unsafeRange(things, all),
        [...model].sort(([a], [b]) => (a < b ? -1 : 1))
      )
    }).pipe(Effect.provide(layer))
  )

  if (cramped !== undefined) {
    it.scopedLive(`${name}: with too little room it is full, says with figures why, and commits as ever`, () =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* commit(["a", 1], ["b", 1])
        yield* commit(["a"], ["b", 2])
        assert.deepStrictEqual(store.unsafeRange(things, all), [["b", 2]])
        const health = store.unsafeHealth()
        assert.strictEqual(health._tag, "Full")
        assert.match(health._tag === "Full" ? health.reason : "", /\d/)
      }).pipe(Effect.provide(Layer.unwrapScoped(cramped)))
    )
  }

  if (reopened === undefined) return
  describe(`${name}: opened again`, () => {
    const inTurn = (...runs: ReadonlyArray<(store: Store["Type"]) => Effect.Effect<void>>) =>
      Effect.gen(function* () {
        const place = yield* reopened
        for (const run of runs) yield* Effect.flatMap(Store, run).pipe(Effect.provide(place))
      })
    it.scopedLive("it holds what was durable, in all tables", () =>
      inTurn(
        (store) =>
          Effect.zip(
            store.commit(
              transactionOf([
                ["a", 1],
                ["b", 2]
              ])
            ),
            store.commit(transactionOf([["a", 3]], others))
          ),
        (store) => store.commit(transactionOf([["a"]])),
        (store) =>
          Effect.sync(() => {
            assert.deepStrictEqual(store.unsafeSummary(keysOf(things)), ["b"])
            assert.deepStrictEqual(store.unsafeSummary(keysOf(others)), ["a"])
            assert.deepStrictEqual(store.unsafeRange(things, all), [["b", 2]])
            assert.deepStrictEqual(store.unsafeRange(others, all), [["a", 3]])
          })
      )
    )
  })
}
