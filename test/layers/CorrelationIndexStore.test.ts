import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as CorrelationIndexStore from "../../src/layers/CorrelationIndexStore.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { CorrelationIndex } from "../../src/services/CorrelationIndex.js"
import { EndpointKey } from "../../src/services/model/Ids.js"
import { groundWith } from "../kit/core.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, pass } from "../kit/steps.js"

const [one, two, three] = [EndpointKey(1), EndpointKey(2), EndpointKey(3)]

const layer = (settings: Partial<Settings> = {}, store = new FakeStore()) =>
  CorrelationIndexStore.layer.pipe(Layer.provideMerge(store.layer), Layer.provideMerge(groundWith({ settings })))

const add = (endpoint: EndpointKey, ...ids: ReadonlyArray<string>) =>
  Effect.flatMap(CorrelationIndex, (index) =>
    commit((transaction) => {
      for (const id of ids) index.unsafeAdd(transaction, endpoint, id)
    })
  )
const remove = (endpoint: EndpointKey, id: string) =>
  Effect.flatMap(CorrelationIndex, (index) => commit((transaction) => index.unsafeRemove(transaction, endpoint, id)))
const senders = (id: string) => Effect.map(CorrelationIndex, (index) => index.unsafeSenders(id))

const stored = (store: FakeStore) => store.recordsOf<{ readonly id: string }>("correlation_sent").map(({ id }) => id)

describe("who sent a correlation id", () => {
  it.scoped("the endpoints come in the order in which they sent it first", () =>
    Effect.gen(function* () {
      yield* add(two, "c")
      yield* add(one, "c")
      yield* add(two, "c")
      assert.deepStrictEqual(yield* senders("c"), [two, one])
      assert.deepStrictEqual(yield* senders("other"), [])
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("an id whose message was surely not sent is gone, for that endpoint only", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* add(one, "c")
      yield* add(two, "c")
      yield* remove(one, "c")
      yield* remove(three, "c")
      assert.deepStrictEqual(yield* senders("c"), [two])
      assert.deepStrictEqual(stored(store), ["c"])
    }).pipe(Effect.provide(layer({}, store)))
  })

  it.scoped("an endpoint that is gone sent nothing", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const index = yield* CorrelationIndex
      yield* add(one, "c", "d")
      yield* add(two, "c")
      yield* commit((transaction) => index.unsafeForget(transaction, one))
      assert.deepStrictEqual(yield* senders("c"), [two])
      assert.deepStrictEqual(yield* senders("d"), [])
      assert.deepStrictEqual(stored(store), ["c"])
    }).pipe(Effect.provide(layer({}, store)))
  })
})

describe("how long it is known", () => {
  it.scoped("an endpoint keeps its latest ids; sending under one again makes it the latest", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* add(one, "a", "b", "c", "a", "d")
      yield* add(two, "b")
      assert.deepStrictEqual(yield* senders("b"), [two])
      for (const id of ["a", "c", "d"]) assert.deepStrictEqual(yield* senders(id), [one])
      assert.deepStrictEqual([...stored(store)].sort(), ["a", "b", "c", "d"])
    }).pipe(Effect.provide(layer({ correlations: 3 }, store)))
  })

  it.scoped("an id is known for 24 h and no longer, counted from its last use", () =>
    Effect.gen(function* () {
      yield* add(one, "a", "b")
      yield* pass(3_600_000)
      yield* add(one, "b")
      yield* pass(23 * 3_600_000 - 1)
      assert.deepStrictEqual(yield* senders("a"), [one])
      yield* pass(1)
      assert.deepStrictEqual(yield* senders("a"), [])
      yield* pass(3_600_000 - 1)
      assert.deepStrictEqual(yield* senders("b"), [one])
      yield* pass(1)
      assert.deepStrictEqual(yield* senders("b"), [])
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("old ids are swept from memory and from the store", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* add(one, "a")
      yield* pass(500)
      yield* add(one, "b")
      yield* pass(1_499)
      assert.deepStrictEqual(stored(store), ["a", "b"])
      yield* pass(1)
      assert.deepStrictEqual(stored(store), ["b"])
    }).pipe(Effect.provide(layer({ correlationMs: 1_900, correlationSweepMs: 2_000 }, store)))
  })
})

describe("A21: after a restart", () => {
  it.scoped("every id is known again, with its age, whatever characters it has", () => {
    const store = new FakeStore()
    const ids = ["plain", "a/b", "a:b", "größer ~ als", "x".repeat(2_000), "ü".repeat(300), " "]
    return Effect.gen(function* () {
      yield* add(one, ...ids).pipe(Effect.provide(layer({}, store)))
      yield* pass(3_600_000)
      yield* Effect.gen(function* () {
        const index = yield* CorrelationIndex
        for (const id of ids) assert.deepStrictEqual(index.unsafeSenders(id), [one], id)
        yield* remove(one, "a/b")
        assert.deepStrictEqual(yield* senders("a:b"), [one])
        yield* pass(23 * 3_600_000)
        assert.deepStrictEqual(yield* senders("plain"), [])
      }).pipe(Effect.provide(layer({}, store)))
    })
  })

  it.scoped("the first sender is still the first, also when it sent again later", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        yield* add(one, "c")
        yield* pass(10)
        yield* add(two, "c")
        yield* pass(10)
        yield* add(one, "c")
        assert.deepStrictEqual(yield* senders("c"), [one, two])
      }).pipe(Effect.provide(layer({}, store)))
      assert.deepStrictEqual(yield* senders("c").pipe(Effect.provide(layer({}, store))), [one, two])
    })
  })
})
