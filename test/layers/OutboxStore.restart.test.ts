import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as OutboxStore from "../../src/layers/OutboxStore.js"
import type { PlatformReport } from "../../src/services/model/PlatformReport.js"
import { Outbox } from "../../src/services/Outbox.js"
import { groundWith, settle } from "../kit/core.js"
import { FakePlatform, refused, unavailable } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, names, pass } from "../kit/steps.js"

/** A life of the outbox over the same store. */
const life = <A, E>(platform: FakePlatform, store: FakeStore, body: Effect.Effect<A, E, Outbox | Services>) =>
  body.pipe(
    Effect.provide(
      OutboxStore.layer.pipe(
        Layer.provideMerge(Layer.mergeAll(store.layer, platform.layer)),
        Layer.provideMerge(groundWith())
      )
    )
  )
type Services = Effect.Effect.Context<ReturnType<typeof commit>>

const removed = (endpointId: string): PlatformReport => ({ _tag: "EndpointRemoved", endpointId })
const hint = (taskHint: string): PlatformReport => ({ _tag: "DisplayMetadata", endpointId: "ep_1", taskHint })
const owe = (...reports: ReadonlyArray<PlatformReport>) =>
  Effect.flatMap(Outbox, (outbox) =>
    commit((transaction) => {
      for (const report of reports) outbox.unsafeAdd(transaction, report)
    })
  )
const status = Effect.map(Outbox, (outbox) => outbox.unsafeStatus())

describe("A11: after a restart", () => {
  it.scoped("what was not accepted is posted, in order; what was accepted is not", () => {
    const platform = new FakePlatform()
    const store = new FakeStore()
    const reports = names("ep_", 3).map(removed)
    return Effect.gen(function* () {
      yield* life(platform, store, Effect.zipRight(owe(removed("ep_0")), settle))
      platform.onPost = () => unavailable()
      yield* life(platform, store, Effect.zipRight(owe(...reports, hint("after")), settle))
      assert.deepStrictEqual(platform.posts, [removed("ep_0")])
      platform.onPost = () => Effect.void
      yield* life(
        platform,
        store,
        Effect.gen(function* () {
          assert.strictEqual((yield* status).waiting, 4)
          yield* pass(0)
          assert.strictEqual((yield* status).waiting, 0)
        })
      )
      assert.sameDeepMembers([...platform.posts], [removed("ep_0"), ...reports, hint("after")])
      const lane = platform.posts.filter((report) => "endpointId" in report && report.endpointId === "ep_1")
      assert.deepStrictEqual(lane, [removed("ep_1"), hint("after")])
    })
  })

  it.scoped("a newer state supersedes one that waited since the life before", () => {
    const platform = new FakePlatform()
    const store = new FakeStore()
    platform.onPost = () => unavailable()
    return Effect.gen(function* () {
      yield* life(platform, store, Effect.zipRight(owe(hint("old")), settle))
      yield* life(
        platform,
        store,
        Effect.gen(function* () {
          yield* settle
          yield* owe(hint("new"))
          platform.onPost = () => Effect.void
          yield* pass(1_000)
        })
      )
      assert.deepStrictEqual(platform.posts, [hint("new")])
      assert.deepStrictEqual(store.recordsOf("outbox"), [])
    })
  })

  it.scoped("refused reports are still there for the operator, those of every life", () => {
    const platform = new FakePlatform()
    const store = new FakeStore()
    platform.onPost = () => refused
    return Effect.gen(function* () {
      for (const id of ["ep_1", "ep_2"]) yield* life(platform, store, Effect.zipRight(owe(removed(id)), settle))
      const dead = store.recordsOf<{ readonly report: PlatformReport }>("outbox_dead")
      assert.deepStrictEqual(
        dead.map(({ report }) => report),
        [removed("ep_1"), removed("ep_2")]
      )
      assert.strictEqual((yield* life(platform, store, status)).dead, 2)
    })
  })

  it.scoped("what was durable when the broker ended, and never tried, is posted", () => {
    const platform = new FakePlatform()
    const store = new FakeStore()
    platform.onPost = () => unavailable()
    return Effect.gen(function* () {
      yield* life(platform, store, owe(hint("a")))
      platform.onPost = () => Effect.void
      yield* life(platform, store, settle)
      assert.deepStrictEqual(platform.posts, [hint("a")])
    })
  })
})
