import { assert, it } from "@effect/vitest"
import { Effect, Layer, TestClock } from "effect"
import * as OutboxStore from "../../src/layers/OutboxStore.js"
import * as RetryQueueOutbox from "../../src/layers/RetryQueueOutbox.js"
import { Outbox } from "../../src/services/Outbox.js"
import { RetryQueue } from "../../src/services/RetryQueue.js"
import { groundWith, settle } from "../kit/core.js"
import { FakePlatform, unavailable } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, names, pass } from "../kit/steps.js"

const layer = (platform: FakePlatform) =>
  RetryQueueOutbox.layer.pipe(
    Layer.provideMerge(OutboxStore.layer),
    Layer.provideMerge(Layer.mergeAll(new FakeStore().layer, platform.layer)),
    Layer.provideMerge(groundWith())
  )

it.scoped("a report names the state, the reason and the time of the transition", () => {
  const platform = new FakePlatform()
  return Effect.gen(function* () {
    const queue = yield* RetryQueue
    yield* TestClock.setTime(1_930_000_000_000)
    yield* commit((transaction) => queue.unsafeReport(transaction, "ep_1", "reconnecting", "ipc_close"))
    yield* settle
    const ts = "2031-02-27T23:06:40.000Z"
    assert.deepStrictEqual(platform.posts, [
      { _tag: "EndpointState", endpointId: "ep_1", state: "reconnecting", reason: "ipc_close", ts }
    ])
  }).pipe(Effect.provide(layer(platform)))
})

it.scoped("the record is removed after the last state was reported, also when that takes long", () => {
  const platform = new FakePlatform()
  platform.onPost = () => unavailable()
  return Effect.gen(function* () {
    const queue = yield* RetryQueue
    yield* commit((transaction) => {
      queue.unsafeReport(transaction, "ep_1", "closed", "grace_timeout")
      queue.unsafeRemove(transaction, "ep_1")
    })
    yield* pass(10_000)
    assert.deepStrictEqual(platform.posts, [])
    platform.onPost = () => Effect.void
    yield* pass(30_000)
    assert.deepStrictEqual(platform.statesOf("ep_1"), ["closed/grace_timeout", "removed"])
  }).pipe(Effect.provide(layer(platform)))
})

it.scoped("A16, A17: no endpoint's report is lost while the platform is down, however many there are", () => {
  const platform = new FakePlatform()
  platform.onPost = () => unavailable()
  const endpoints = names("ep_", 300)
  return Effect.gen(function* () {
    const queue = yield* RetryQueue
    yield* commit((transaction) => {
      for (const id of endpoints) queue.unsafeReport(transaction, id, "closed", "plugin_exit")
    })
    yield* settle
    platform.onPost = () => Effect.void
    yield* pass(1_000)
    assert.deepStrictEqual(
      platform.posts.map((report) => report._tag === "EndpointState" && report.endpointId).sort(),
      [...endpoints].sort()
    )
    assert.strictEqual((yield* Outbox).unsafeStatus().waiting, 0)
  }).pipe(Effect.provide(layer(platform)))
})

it.scoped("B5: a new report waits behind an older one of its endpoint that is being posted", () => {
  const platform = new FakePlatform()
  const latch = Effect.unsafeMakeLatch(false)
  platform.onPost = () => latch.await
  return Effect.gen(function* () {
    const queue = yield* RetryQueue
    const report = (
      ...[state, reason]: ["active" | "reconnecting" | "closed", "register" | "ipc_close" | "reattach"]
    ) => commit((transaction) => queue.unsafeReport(transaction, "ep_1", state, reason))
    yield* report("active", "register")
    yield* settle
    yield* report("reconnecting", "ipc_close")
    yield* report("active", "reattach")
    yield* settle
    assert.strictEqual(platform.tried.length, 1)
    yield* latch.open
    yield* settle
    assert.deepStrictEqual(platform.statesOf("ep_1"), ["active/register", "active/reattach"])
  }).pipe(Effect.provide(layer(platform)))
})
