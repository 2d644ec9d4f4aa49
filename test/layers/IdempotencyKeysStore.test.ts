import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as IdempotencyKeysStore from "../../src/layers/IdempotencyKeysStore.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { IdempotencyKeys } from "../../src/services/IdempotencyKeys.js"
import { EndpointKey } from "../../src/services/model/Ids.js"
import { groundWith, type LogLine } from "../kit/core.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, pass } from "../kit/steps.js"

const [one, two] = [EndpointKey(1), EndpointKey(2)]
const hours = 3_600_000

const layer = (store: FakeStore, settings: Partial<Settings> = {}, log: Array<LogLine> = []) =>
  IdempotencyKeysStore.layer.pipe(Layer.provideMerge(store.layer), Layer.provideMerge(groundWith({ settings, log })))

const put = (endpoint: EndpointKey, ...keys: ReadonlyArray<string>) =>
  Effect.flatMap(IdempotencyKeys, (memory) =>
    commit((transaction) => {
      for (const key of keys) {
        memory.unsafePut(transaction, endpoint, key, { digest: "d", messageId: `m ${key}`, correlationId: "c" })
      }
    })
  )
const known = (endpoint: EndpointKey, ...keys: ReadonlyArray<string>) =>
  Effect.map(IdempotencyKeys, (memory) => keys.filter((key) => memory.unsafeGet(endpoint, key) !== undefined))
const stored = (store: FakeStore) => store.recordsOf<{ readonly key: string }>("idempotency").map(({ key }) => key)

describe("idempotency keys", () => {
  it.scoped("are kept for 24 hours, and swept from memory and store after that", () => {
    const store = new FakeStore()
    const log: Array<LogLine> = []
    return Effect.gen(function* () {
      yield* put(one, "a", "b")
      yield* pass(7 * hours)
      yield* put(one, "b", "c")
      yield* put(two, "d")
      yield* pass(17 * hours - 1)
      assert.deepStrictEqual(yield* known(one, "a", "b", "c"), ["a", "b", "c"])
      assert.deepStrictEqual(stored(store), ["a", "b", "c", "d"])
      yield* pass(1)
      assert.deepStrictEqual(yield* known(one, "a", "b", "c"), ["c"])
      assert.deepStrictEqual(stored(store), ["c", "d"])
      assert.deepStrictEqual(
        log.map(({ event, fields }) => [event, fields]),
        [["idempotency_keys_sweep", { count: 2 }]]
      )
      yield* put(one, "a")
      yield* pass(12 * hours)
      assert.deepStrictEqual(stored(store), ["a"])
    }).pipe(Effect.provide(layer(store, {}, log)))
  })

  it.scoped("are known again after a start, but those whose time is over leave the store", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const before = Effect.gen(function* () {
        yield* put(one, "old")
        yield* pass(hours)
        yield* put(one, "young")
      })
      yield* before.pipe(Effect.provide(layer(store, { correlationSweepMs: 100 * hours })))
      yield* pass(23 * hours)
      const after = Effect.gen(function* () {
        yield* pass(0)
        assert.deepStrictEqual(yield* known(one, "old", "young"), ["young"])
        assert.deepStrictEqual(stored(store), ["young"])
      })
      yield* after.pipe(Effect.provide(layer(store, { correlationSweepMs: 100 * hours })))
    })
  })

  it.scoped("go with their endpoint: one that ended, and after a start all that are not there", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const memory = yield* IdempotencyKeys
      yield* put(one, "a", "b")
      yield* put(two, "a", "c")
      yield* commit((transaction) => memory.unsafeForget(transaction, one))
      assert.deepStrictEqual(yield* known(one, "a", "b"), [])
      assert.deepStrictEqual(stored(store), ["a", "c"])
      yield* put(one, "d")
      yield* commit((transaction) => memory.unsafeForgetOthers(transaction, (endpoint) => endpoint === one))
      assert.deepStrictEqual(yield* known(two, "a", "c"), [])
      assert.deepStrictEqual(stored(store), ["d"])
    }).pipe(Effect.provide(layer(store)))
  })

  it.scoped("are so many of an endpoint at most, the oldest leaves first, also after many were swept", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* put(one, "a", "b", "c")
      assert.deepStrictEqual(yield* known(one, "a", "b", "c"), ["b", "c"])
      yield* pass(24 * hours)
      assert.deepStrictEqual(stored(store), [])
      yield* put(one, "d", "e", "b")
      assert.deepStrictEqual(yield* known(one, "b", "c", "d", "e"), ["b", "e"])
      assert.deepStrictEqual(stored(store), ["b", "e"])
    }).pipe(Effect.provide(layer(store, { idempotencyKeys: 2 })))
  })
})
