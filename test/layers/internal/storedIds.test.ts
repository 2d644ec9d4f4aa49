import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, TestClock } from "effect"
import { makeStoredIds, type StoredIds } from "../../../src/layers/internal/storedIds.js"
import * as StoreMemory from "../../../src/layers/StoreMemory.js"
import { BrokerConfig, defaults, type Settings } from "../../../src/services/BrokerConfig.js"
import { EndpointKey } from "../../../src/services/model/Ids.js"
import { Store, Transaction, table } from "../../../src/services/Store.js"
import { configWith, KeptLog, turns } from "../../kit/ground.js"

const one = EndpointKey(1)
const two = EndpointKey(2)
const log = new KeptLog()
const ground = Layer.provideMerge(StoreMemory.layer, Layer.merge(configWith(), log.layer))

/** Starts over the store as it is, as a broker does that starts again. */
const start = (settings: Partial<Settings> = {}) =>
  Effect.provideService(makeStoredIds("ids", "ids_swept"), BrokerConfig, { ...defaults, ...settings })
const change = (act: (transaction: Transaction) => void) =>
  Effect.flatMap(Store, (store) => {
    const transaction = new Transaction()
    act(transaction)
    return store.commit(transaction)
  })
const add = (ids: StoredIds, endpoint: EndpointKey, id: string) =>
  change((transaction) => ids.unsafeAdd(transaction, endpoint, id))
const keys = Effect.map(Store, (store) =>
  store.unsafeRange(table("ids", 1), { from: " ", until: "\u007f" }).map(([key]) => key)
)
const storedIds = Effect.map(Store, (store) =>
  store
    .unsafeRange(table<{ readonly id: string }>("ids", 1), { from: " ", until: "\u007f" })
    .map(([, { id }]) => id)
    .sort()
)

describe("ids in the store", () => {
  it.scoped("are there again after a start, with the time they were added", () =>
    Effect.gen(function* () {
      const before = yield* start()
      yield* TestClock.setTime(500)
      yield* add(before, one, "a")
      yield* add(before, two, "a")
      const { ids } = yield* start()
      assert.deepStrictEqual(ids.owners("a", 500), [one, two])
      assert.strictEqual(ids.since(one, "a"), 500)
    }).pipe(Effect.provide(ground))
  )
  it.scoped("belong first, after a start too, to the endpoint that had them first", () =>
    Effect.gen(function* () {
      const before = yield* start()
      for (const [time, endpoint] of [[100, one] as const, [200, two] as const, [300, one] as const]) {
        yield* TestClock.setTime(time)
        yield* add(before, endpoint, "a")
      }
      assert.deepStrictEqual(before.ids.owners("a", 300), [one, two])
      const { ids } = yield* start()
      assert.deepStrictEqual(ids.owners("a", 300), [one, two])
    }).pipe(Effect.provide(ground))
  )
  it.scoped("leave it when they are removed, forgotten or pushed out by newer ones, in that same transaction", () =>
    Effect.gen(function* () {
      const ids = yield* start({ correlations: 2 })
      for (const [time, id] of ["a", "b", "c"].entries()) {
        yield* TestClock.setTime(time)
        yield* add(ids, one, id)
      }
      assert.deepStrictEqual(yield* storedIds, ["b", "c"])
      yield* change((transaction) => ids.unsafeRemove(transaction, one, "b"))
      assert.deepStrictEqual(yield* storedIds, ["c"])
      yield* add(ids, two, "d")
      yield* change((transaction) => ids.unsafeForget(transaction, one))
      assert.deepStrictEqual(yield* storedIds, ["d"])
    }).pipe(Effect.provide(ground))
  )
  it.scoped("that are too old leave it at the sweep, not before; the sweep says how many", () =>
    Effect.gen(function* () {
      const ids = yield* start({ correlationMs: 1_000, correlationSweepMs: 600 })
      yield* add(ids, one, "a")
      yield* TestClock.setTime(400)
      yield* add(ids, one, "b")
      yield* TestClock.setTime(1_199)
      yield* turns
      assert.deepStrictEqual(yield* storedIds, ["a", "b"])
      yield* TestClock.setTime(1_200)
      yield* turns
      assert.deepStrictEqual(yield* storedIds, ["b"])
      assert.deepInclude(log.lines.at(-1), { event: "ids_swept", fields: { count: 1 } })
    }).pipe(Effect.provide(ground))
  )
  it.scoped("that are too old at a start leave it then", () =>
    Effect.gen(function* () {
      const before = yield* start({ correlationMs: 1_000 })
      yield* add(before, one, "a")
      yield* TestClock.setTime(400)
      yield* add(before, one, "b")
      yield* TestClock.setTime(1_000)
      yield* start({ correlationMs: 1_000 })
      yield* turns
      assert.deepStrictEqual(yield* storedIds, ["b"])
    }).pipe(Effect.provide(ground))
  )
  it.scoped("that a lower limit leaves out at the start leave the store, too", () =>
    Effect.gen(function* () {
      const before = yield* start({ correlations: 3 })
      for (const [time, id] of ["a", "b", "c"].entries()) {
        yield* TestClock.setTime(time)
        yield* add(before, one, id)
      }
      const { ids } = yield* start({ correlations: 1 })
      assert.strictEqual(ids.count(one), 1)
      yield* (yield* Store).flush
      assert.deepStrictEqual(yield* storedIds, ["c"])
    }).pipe(Effect.provide(ground))
  )
  it.scoped("of any text from outside have a key the store takes, and no two the same", () =>
    Effect.gen(function* () {
      const before = yield* start()
      const texts = ["", "/", "a/b", "a:b", "é", "🙂", "x".repeat(100_000), "a\nb", "A", "a", " ", "~", "~a", "_"]
      for (const text of texts) yield* add(before, one, text)
      const all = yield* keys
      assert.strictEqual(all.length, texts.length)
      for (const key of all) assert.match(key, /^[!-~]{1,512}$/)
      const { ids } = yield* start()
      for (const text of texts) assert.deepStrictEqual(ids.owners(text, 0), [one])
    }).pipe(Effect.provide(ground))
  )
})
