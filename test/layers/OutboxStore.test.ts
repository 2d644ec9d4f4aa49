import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import * as OutboxStore from "../../src/layers/OutboxStore.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import type { PlatformReport } from "../../src/services/model/PlatformReport.js"
import { Outbox } from "../../src/services/Outbox.js"
import { Store, Transaction } from "../../src/services/Store.js"
import { groundWith, type LogLine, settle } from "../kit/core.js"
import { FakePlatform, refused, tooMany, unauthorized, unavailable, unreachable } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, jitter, names, pass } from "../kit/steps.js"

interface Options {
  readonly settings?: Partial<Settings>
  readonly store?: FakeStore
  readonly log?: Array<LogLine>
}

const layer = (platform: FakePlatform, { log = [], settings = {}, store = new FakeStore() }: Options = {}) =>
  OutboxStore.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(store.layer, platform.layer)),
    Layer.provideMerge(groundWith({ settings, log }))
  )

const state = (endpointId: string, reason: string): PlatformReport => ({
  _tag: "EndpointState",
  endpointId,
  state: "active",
  reason,
  ts: ""
})
const removed = (endpointId: string): PlatformReport => ({ _tag: "EndpointRemoved", endpointId })
const event = (id: string, action: "add" | "dispatch" | "remove"): PlatformReport => ({
  _tag: "UndispatchedChanged",
  event: { type: "undispatched_changed", version: 1, action, undispatched_id: id }
})
const presence = (reason: string): PlatformReport => ({
  _tag: "NetworkPresenceChanged",
  event: { type: "network_presence_changed", version: 1, state: "online", ts: 0, reason }
})

const owe = (...reports: ReadonlyArray<PlatformReport>) =>
  Effect.flatMap(Outbox, (outbox) =>
    commit((transaction) => {
      for (const report of reports) outbox.unsafeAdd(transaction, report)
    })
  )
const status = Effect.map(Outbox, (outbox) => outbox.unsafeStatus())

/** What a report says, in a word. */
const word = (report: PlatformReport): string => {
  switch (report._tag) {
    case "EndpointState":
      return `${report.endpointId} ${report.reason}`
    case "EndpointRemoved":
      return `${report.endpointId} removed`
    case "DisplayMetadata":
      return `${report.endpointId} ${report.taskHint}`
    case "UndispatchedChanged":
      return `${report.event.undispatched_id} ${report.event.action}`
    case "NetworkPresenceChanged":
      return `presence ${report.event.reason}`
    case "ControlAck":
      return `${report.ack.idempotency_key} ${report.ack.status}`
  }
}
const words = (reports: ReadonlyArray<PlatformReport>) => reports.map(word)

describe("order", () => {
  it.scoped("B3: reports of one lane go one after the other, each after the one before was accepted", () => {
    const platform = new FakePlatform()
    const latch = Effect.unsafeMakeLatch(false)
    platform.onPost = () => latch.await
    return Effect.gen(function* () {
      yield* owe(event("m", "add"), event("m", "dispatch"))
      yield* settle
      assert.deepStrictEqual(words(platform.tried), ["m add"])
      yield* latch.open
      yield* settle
      assert.deepStrictEqual(words(platform.posts), ["m add", "m dispatch"])
    }).pipe(Effect.provide(layer(platform)))
  })

  it.scoped("D13: a lane that waits does not hold up the others", () => {
    const platform = new FakePlatform()
    platform.onPost = (report) => (word(report).startsWith("ep_1") ? unavailable() : Effect.void)
    return Effect.gen(function* () {
      yield* owe(state("ep_1", "a"), state("ep_2", "a"), event("m", "add"), presence("a"))
      yield* settle
      assert.deepStrictEqual(words(platform.posts).sort(), ["ep_2 a", "m add", "presence a"])
      assert.strictEqual((yield* status).waiting, 1)
    }).pipe(Effect.provide(layer(platform)))
  })

  it.scoped("at most eight posts are under way at a time", () => {
    const platform = new FakePlatform()
    const latch = Effect.unsafeMakeLatch(false)
    platform.onPost = () => latch.await
    return Effect.gen(function* () {
      yield* owe(...names("ep_", 20).map(removed))
      yield* settle
      assert.strictEqual(platform.tried.length, 8)
      yield* latch.open
      yield* settle
      assert.strictEqual(platform.posts.length, 20)
    }).pipe(Effect.provide(layer(platform)))
  })

  it.scoped("nothing is posted before it is durable", () => {
    const platform = new FakePlatform()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const transaction = new Transaction()
      store.hold()
      ;(yield* Outbox).unsafeAdd(transaction, event("m", "add"))
      ;(yield* Store).unsafeCommit(transaction)
      yield* settle
      assert.deepStrictEqual(platform.tried, [])
      assert.strictEqual((yield* status).waiting, 1)
      store.release()
      yield* settle
      assert.deepStrictEqual(words(platform.posts), ["m add"])
    }).pipe(Effect.provide(layer(platform, { store })))
  })
})

describe("latest state wins", () => {
  it.scoped("A9, A17, B4: a waiting state of an endpoint gives way to a newer one; the one under way does not", () => {
    const platform = new FakePlatform()
    const latch = Effect.unsafeMakeLatch(false)
    platform.onPost = () => latch.await
    return Effect.gen(function* () {
      yield* owe(state("ep_1", "a"), state("ep_2", "a"))
      yield* settle
      yield* owe(state("ep_1", "b"))
      yield* owe(state("ep_1", "c"))
      assert.strictEqual((yield* status).waiting, 3)
      yield* latch.open
      yield* settle
      const about = (lane: string) => words(platform.posts).filter((one) => one.startsWith(lane))
      assert.deepStrictEqual(about("ep_1"), ["ep_1 a", "ep_1 c"])
      assert.deepStrictEqual(about("ep_2"), ["ep_2 a"])
    }).pipe(Effect.provide(layer(platform)))
  })

  it.scoped("a state that waits for its next attempt gives way, too", () => {
    const platform = new FakePlatform()
    platform.onPost = () => unavailable()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* owe(state("ep_1", "a"))
      yield* settle
      yield* owe(state("ep_1", "b"), removed("ep_1"))
      platform.onPost = () => Effect.void
      yield* pass(1_000)
      assert.deepStrictEqual(words(platform.posts), ["ep_1 b", "ep_1 removed"])
      assert.deepStrictEqual(store.recordsOf("outbox"), [])
    }).pipe(Effect.provide(layer(platform, { store })))
  })

  it.scoped("only the latest presence is posted, and every event about a message", () => {
    const platform = new FakePlatform()
    const latch = Effect.unsafeMakeLatch(false)
    platform.onPost = () => latch.await
    return Effect.gen(function* () {
      yield* owe(presence("a"), event("m", "add"))
      yield* settle
      yield* owe(presence("b"), presence("c"), event("m", "dispatch"), event("m", "remove"))
      yield* latch.open
      yield* settle
      const about = (lane: string) => words(platform.posts).filter((one) => one.startsWith(lane))
      assert.deepStrictEqual(about("presence"), ["presence a", "presence c"])
      assert.deepStrictEqual(about("m"), ["m add", "m dispatch", "m remove"])
    }).pipe(Effect.provide(layer(platform)))
  })
})

describe("failure", () => {
  for (const [spread, least] of [
    [0, 0.75],
    [1, 1]
  ] as const) {
    it.scoped(`A10, C5: is tried again after 1, 2, 4 … 30 s, at ${100 * least} % of it, for ever`, () => {
      const platform = new FakePlatform()
      platform.onPost = () => unavailable()
      return Effect.gen(function* () {
        yield* jitter(spread)
        yield* owe(event("m", "add"))
        yield* settle
        for (const wait of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]) {
          const before = platform.tried.length
          yield* pass(wait * least - 1)
          assert.strictEqual(platform.tried.length, before)
          yield* pass(1)
          assert.strictEqual(platform.tried.length, before + 1)
        }
        assert.strictEqual((yield* status).waiting, 1)
        assert.include((yield* status).lastFailure, "overloaded")
        platform.onPost = () => Effect.void
        yield* pass(30_000)
        assert.deepStrictEqual(yield* status, { waiting: 0, dead: 0, pausedUntil: undefined, lastFailure: undefined })
      }).pipe(Effect.provide(layer(platform)))
    })
  }

  it.scoped("waits start afresh with the next report", () => {
    const platform = new FakePlatform()
    platform.onPost = () => unavailable()
    return Effect.gen(function* () {
      yield* jitter(1)
      yield* owe(event("m", "add"), event("m", "dispatch"))
      for (const wait of [1_000, 2_000]) yield* pass(wait)
      platform.onPost = (report) => (word(report) === "m add" ? Effect.void : unavailable())
      yield* pass(4_000)
      assert.deepStrictEqual(words(platform.posts), ["m add"])
      platform.onPost = () => Effect.void
      yield* pass(999)
      assert.deepStrictEqual(words(platform.posts), ["m add"])
      yield* pass(1)
      assert.deepStrictEqual(words(platform.posts), ["m add", "m dispatch"])
    }).pipe(Effect.provide(layer(platform)))
  })

  it.scoped("Retry-After is honoured when it is longer", () => {
    const platform = new FakePlatform()
    platform.onPost = () => unavailable(90_000)
    return Effect.gen(function* () {
      yield* owe(event("m", "add"))
      yield* settle
      yield* pass(89_999)
      assert.strictEqual(platform.tried.length, 1)
      yield* pass(1)
      assert.strictEqual(platform.tried.length, 2)
    }).pipe(Effect.provide(layer(platform)))
  })

  for (const [what, error, waits] of [
    ["cannot be reached", unreachable, [1_000, 2_000, 4_000]],
    ["has had too many requests", tooMany, [5_000, 5_000, 5_000]]
  ] as const) {
    it.scoped(`a platform that ${what} is asked a few times after each wait, however many lanes there are`, () => {
      const platform = new FakePlatform()
      platform.onPost = () => error
      return Effect.gen(function* () {
        yield* jitter(1)
        yield* owe(...names("ep_", 1_000).map(removed))
        yield* settle
        for (const [at, wait] of waits.entries()) {
          assert.isAtMost(platform.tried.length, 8 * (at + 1))
          const before = platform.tried.length
          yield* pass(wait - 1)
          assert.strictEqual(platform.tried.length, before)
          yield* pass(1)
          assert.isAbove(platform.tried.length, before)
        }
        platform.onPost = () => Effect.void
        yield* pass(8_000)
        assert.strictEqual(platform.posts.length, 1_000)
        platform.onPost = () => error
        const before = platform.tried.length
        yield* owe(removed("one more"))
        yield* pass(waits[0])
        assert.strictEqual(platform.tried.length, before + 2, "the waits start afresh")
      }).pipe(Effect.provide(layer(platform)))
    })
  }

  it.scoped("a fault in a post is logged, costs the other lanes nothing, and the report is tried again", () => {
    const platform = new FakePlatform()
    const log: Array<LogLine> = []
    platform.onPost = (report) => (word(report).startsWith("ep_1") ? Effect.die(new Error("a fault")) : Effect.void)
    return Effect.gen(function* () {
      yield* owe(state("ep_1", "a"), state("ep_2", "a"))
      yield* settle
      assert.deepStrictEqual(words(platform.posts), ["ep_2 a"])
      assert.isTrue(log.some(({ event, level }) => event === "report_fault" && level === "error"))
      platform.onPost = () => Effect.void
      yield* pass(30_000)
      assert.deepStrictEqual(words(platform.posts), ["ep_2 a", "ep_1 a"])
    }).pipe(Effect.provide(layer(platform, { log })))
  })

  it.scoped("many lanes of a platform that answers at once take their turns", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      yield* owe(...names("ep_", 20_000).map(removed))
      yield* settle
      yield* (yield* Outbox).drained
      assert.strictEqual(platform.posts.length, 20_000)
    }).pipe(Effect.provide(layer(platform)))
  })

  it.scoped("a refused report is set aside for the operator and its lane goes on", () => {
    const platform = new FakePlatform()
    platform.onPost = (report) => (word(report) === "m add" ? refused : Effect.void)
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* owe(event("m", "add"), event("m", "dispatch"))
      yield* settle
      assert.deepStrictEqual(words(platform.posts), ["m dispatch"])
      assert.deepInclude(yield* status, { waiting: 0, dead: 1 })
      assert.deepStrictEqual(store.recordsOf("outbox_dead"), [
        { report: event("m", "add"), reason: refused.message, at: 0 }
      ])
      assert.deepStrictEqual(store.recordsOf("outbox"), [])
    }).pipe(Effect.provide(layer(platform, { store })))
  })
})

describe("refused credentials", () => {
  it.scoped("pause every lane for 60 s, drop nothing, and show in status and log", () => {
    const platform = new FakePlatform()
    const log: Array<LogLine> = []
    platform.onPost = () => unauthorized
    return Effect.gen(function* () {
      yield* owe(event("m", "add"), event("m", "dispatch"))
      yield* settle
      assert.strictEqual((yield* status).pausedUntil, 60_000)
      assert.isTrue(log.some(({ event, level }) => event === "platform_refused_credentials" && level === "warn"))
      platform.onPost = () => Effect.void
      yield* owe(state("ep_1", "a"))
      yield* pass(59_999)
      assert.strictEqual(platform.tried.length, 1)
      assert.strictEqual((yield* status).pausedUntil, 60_000)
      yield* pass(1)
      assert.deepStrictEqual(words(platform.posts).sort(), ["ep_1 a", "m add", "m dispatch"])
      assert.deepInclude(yield* status, { waiting: 0, dead: 0, pausedUntil: undefined })
    }).pipe(Effect.provide(layer(platform, { log })))
  })

  it.scoped("hold back the posts that were waiting for their turn, too", () => {
    const platform = new FakePlatform()
    const latch = Effect.unsafeMakeLatch(false)
    platform.onPost = () => Effect.zipRight(latch.await, unauthorized)
    return Effect.gen(function* () {
      yield* owe(...names("ep_", 20).map(removed))
      yield* settle
      yield* latch.open
      yield* settle
      assert.strictEqual(platform.tried.length, 8, "those under way when the first refusal came, and no more")
      platform.onPost = () => Effect.void
      yield* pass(60_000)
      assert.strictEqual(platform.posts.length, 20)
    }).pipe(Effect.provide(layer(platform)))
  })
})

describe("drained", () => {
  it.scoped("is when the last report was accepted, and at once when nothing is owed", () => {
    const platform = new FakePlatform()
    const latch = Effect.unsafeMakeLatch(false)
    platform.onPost = () => latch.await
    return Effect.gen(function* () {
      const outbox = yield* Outbox
      yield* outbox.drained
      yield* owe(event("m", "add"), event("n", "add"))
      const drained = yield* Effect.fork(outbox.drained)
      yield* settle
      assert.isNull(drained.unsafePoll())
      yield* latch.open
      yield* Fiber.join(drained)
      assert.strictEqual(platform.posts.length, 2)
    }).pipe(Effect.provide(layer(platform)))
  })
})
