import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as ReplyCorrelationsStore from "../../src/layers/ReplyCorrelationsStore.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { EndpointKey } from "../../src/services/model/Ids.js"
import { ReplyCorrelations } from "../../src/services/ReplyCorrelations.js"
import { groundWith, type LogLine } from "../kit/core.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, pass } from "../kit/steps.js"

const [one, two] = [EndpointKey(1), EndpointKey(2)]

const layer = (settings: Partial<Settings> = {}, store = new FakeStore(), log: Array<LogLine> = []) =>
  ReplyCorrelationsStore.layer.pipe(Layer.provideMerge(store.layer), Layer.provideMerge(groundWith({ settings, log })))

const receive = (endpoint: EndpointKey, ...ids: ReadonlyArray<string>) =>
  Effect.flatMap(ReplyCorrelations, (replies) =>
    commit((transaction) => {
      for (const id of ids) replies.unsafeRecord(transaction, endpoint, id)
    })
  )
const resolve = (endpoint: EndpointKey, id: string) =>
  Effect.map(ReplyCorrelations, (replies) => replies.unsafeResolve(endpoint, id))

describe("may an endpoint answer under a correlation id", () => {
  it.scoped("yes, when it received it; not when nobody or only another did", () =>
    Effect.gen(function* () {
      yield* receive(one, "c")
      assert.strictEqual(yield* resolve(one, "c"), "resolved")
      assert.strictEqual(yield* resolve(two, "c"), "wrong_endpoint")
      assert.strictEqual(yield* resolve(one, "d"), "unknown_correlation_id")
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("B13: of two that received it, both may", () =>
    Effect.gen(function* () {
      yield* receive(one, "c")
      yield* receive(two, "c")
      assert.strictEqual(yield* resolve(one, "c"), "resolved")
      assert.strictEqual(yield* resolve(two, "c"), "resolved")
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("yes for 24 h from the last receipt, then it is expired", () =>
    Effect.gen(function* () {
      yield* receive(one, "c")
      yield* pass(3_600_000)
      yield* receive(one, "c")
      yield* pass(24 * 3_600_000 - 1)
      assert.strictEqual(yield* resolve(one, "c"), "resolved")
      yield* pass(1)
      assert.strictEqual(yield* resolve(one, "c"), "ttl_expired")
    }).pipe(Effect.provide(layer({ correlationSweepMs: 100 * 3_600_000 })))
  )

  it.scoped("answering does not make it last longer", () =>
    Effect.gen(function* () {
      yield* receive(one, "c")
      yield* pass(23 * 3_600_000)
      assert.strictEqual(yield* resolve(one, "c"), "resolved")
      yield* pass(3_600_000)
      assert.strictEqual(yield* resolve(one, "c"), "ttl_expired")
    }).pipe(Effect.provide(layer({ correlationSweepMs: 100 * 3_600_000 })))
  )

  it.scoped("only the latest ids of an endpoint are kept", () =>
    Effect.gen(function* () {
      yield* receive(two, "a")
      yield* receive(one, "a", "b", "a", "c")
      assert.strictEqual(yield* resolve(one, "b"), "unknown_correlation_id")
      for (const id of ["a", "c"]) assert.strictEqual(yield* resolve(one, id), "resolved")
      assert.strictEqual(yield* resolve(two, "a"), "resolved")
    }).pipe(Effect.provide(layer({ correlations: 2 })))
  )

  it.scoped("an endpoint that is gone received nothing", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* receive(one, "c", "d")
      yield* receive(two, "c")
      const replies = yield* ReplyCorrelations
      yield* commit((transaction) => replies.unsafeForget(transaction, one))
      assert.strictEqual(yield* resolve(one, "c"), "wrong_endpoint")
      assert.strictEqual(yield* resolve(one, "d"), "unknown_correlation_id")
      assert.strictEqual(yield* resolve(two, "c"), "resolved")
      assert.strictEqual(store.recordsOf("correlation_received").length, 1)
    }).pipe(Effect.provide(layer({}, store)))
  })

  it.scoped("old ids are swept away and counted in the log", () => {
    const store = new FakeStore()
    const log: Array<LogLine> = []
    return Effect.gen(function* () {
      yield* receive(one, "a", "b")
      yield* pass(1_000)
      yield* receive(one, "c")
      yield* pass(1_000)
      assert.strictEqual(yield* resolve(one, "a"), "unknown_correlation_id")
      assert.strictEqual(yield* resolve(one, "c"), "resolved")
      assert.strictEqual(store.recordsOf("correlation_received").length, 1)
      assert.deepStrictEqual(
        log.filter(({ event }) => event === "reply_correlation_cache_sweep").map(({ fields }) => fields),
        [{ count: 2 }]
      )
    }).pipe(Effect.provide(layer({ correlationMs: 2_000, correlationSweepMs: 2_000 }, store, log)))
  })

  it.scoped("A21: it still may after a restart, until the same time is over", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* receive(one, "c").pipe(Effect.provide(layer({}, store)))
      yield* pass(3_600_000)
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* resolve(one, "c"), "resolved")
        assert.strictEqual(yield* resolve(two, "c"), "wrong_endpoint")
        yield* pass(23 * 3_600_000)
        assert.strictEqual(yield* resolve(one, "c"), "ttl_expired")
      }).pipe(Effect.provide(layer({ correlationSweepMs: 100 * 3_600_000 }, store)))
    })
  })
})
