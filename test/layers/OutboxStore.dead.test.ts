import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as OutboxStore from "../../src/layers/OutboxStore.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import type { PlatformReport } from "../../src/services/model/PlatformReport.js"
import { Outbox } from "../../src/services/Outbox.js"
import { groundWith, type LogLine, settle } from "../kit/core.js"
import { FakePlatform, refused, unavailable } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, names, pass } from "../kit/steps.js"

interface Given {
  readonly platform: FakePlatform
  readonly store: FakeStore
  readonly settings?: Partial<Settings>
  readonly log?: Array<LogLine>
}
const given = (): Given => ({ platform: new FakePlatform(), store: new FakeStore() })
const layer = ({ platform, store, ...ground }: Given) =>
  OutboxStore.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(store.layer, platform.layer)),
    Layer.provideMerge(groundWith(ground))
  )

const removed = (endpointId: string): PlatformReport => ({ _tag: "EndpointRemoved", endpointId })
const hint = (taskHint: string): PlatformReport => ({ _tag: "DisplayMetadata", endpointId: "ep_1", taskHint })
const owe = (...reports: ReadonlyArray<PlatformReport>) =>
  Effect.flatMap(Outbox, (outbox) =>
    commit((transaction) => {
      for (const report of reports) outbox.unsafeAdd(transaction, report)
    })
  ).pipe(Effect.zipRight(settle))
const dead = Effect.map(Outbox, (outbox) => outbox.unsafeDead())
/** Each whole, with its id. */
const wholes = Effect.map(Outbox, (outbox) =>
  outbox.unsafeDead().map(([id]) => [id, outbox.unsafeGetDead(id)!] as const)
)
const idOf = (report: PlatformReport) =>
  Effect.map(wholes, (all) => all.find(([, entry]) => JSON.stringify(entry.report) === JSON.stringify(report))![0])
const retry = (id: string) =>
  Effect.flatMap(Outbox, (outbox) => commit((transaction) => outbox.unsafeRetry(transaction, id)))
const purge = (id: string) =>
  Effect.flatMap(Outbox, (outbox) => commit((transaction) => outbox.unsafePurge(transaction, id)))
const status = Effect.map(Outbox, (outbox) => outbox.unsafeStatus())

describe("D10: a report the platform refused", () => {
  it.scoped("is listed with what the platform said and when, the first refused first", () => {
    const world = given()
    world.platform.onPost = () => refused
    return Effect.gen(function* () {
      yield* owe(removed("ep_1"))
      yield* pass(1_000)
      yield* owe(removed("ep_2"))
      assert.deepStrictEqual(
        (yield* dead).map(([, outline]) => outline),
        [
          { report: "EndpointRemoved", lane: "endpoint:ep_1", reason: refused.message, at: 0 },
          { report: "EndpointRemoved", lane: "endpoint:ep_2", reason: refused.message, at: 1_000 }
        ]
      )
      assert.deepStrictEqual(
        (yield* wholes).map(([, entry]) => entry),
        [
          { report: removed("ep_1"), reason: refused.message, at: 0 },
          { report: removed("ep_2"), reason: refused.message, at: 1_000 }
        ]
      )
    }).pipe(Effect.provide(layer(world)))
  })

  it.scoped("is owed again when it is retried, behind what its lane owes, and once", () => {
    const { platform, store, ...rest } = given()
    platform.onPost = () => refused
    return Effect.gen(function* () {
      yield* owe(removed("ep_1"))
      const id = yield* idOf(removed("ep_1"))
      platform.onPost = () => unavailable()
      yield* owe(hint("waits"))
      assert.isTrue(yield* retry(id))
      assert.isFalse(yield* retry(id))
      assert.deepStrictEqual([yield* dead, store.recordsOf("outbox_dead")], [[], []])
      assert.deepInclude(yield* status, { waiting: 2, dead: 0 })
      platform.onPost = () => Effect.void
      yield* pass(60_000)
      assert.deepStrictEqual(platform.posts, [hint("waits"), removed("ep_1")])
      assert.deepStrictEqual(store.recordsOf("outbox"), [])
    }).pipe(Effect.provide(layer({ platform, store, ...rest })))
  })

  it.scoped("does not take the place of a newer one that waits", () => {
    const { platform, store, ...rest } = given()
    platform.onPost = () => refused
    return Effect.gen(function* () {
      yield* owe(hint("old"))
      const id = yield* idOf(hint("old"))
      platform.onPost = () => unavailable()
      yield* owe(hint("new"))
      assert.isFalse(yield* retry(id))
      assert.strictEqual((yield* dead).length, 1)
      platform.onPost = () => Effect.void
      yield* pass(60_000)
      assert.deepStrictEqual(platform.posts, [hint("new")])
    }).pipe(Effect.provide(layer({ platform, store, ...rest })))
  })

  it.scoped("is refused again with the same sentence when it is retried too early, and can be retried again", () => {
    const world = given()
    world.platform.onPost = () => refused
    return Effect.gen(function* () {
      yield* owe(removed("ep_1"))
      const first = yield* idOf(removed("ep_1"))
      yield* retry(first)
      yield* settle
      const second = yield* idOf(removed("ep_1"))
      assert.notStrictEqual(second, first)
      assert.deepInclude(yield* status, { waiting: 0, dead: 1 })
    }).pipe(Effect.provide(layer(world)))
  })

  it.scoped("is gone for good when it is purged, also for the next life, and its id is never another one's", () => {
    const world = given()
    world.platform.onPost = () => refused
    return Effect.gen(function* () {
      const id = yield* Effect.gen(function* () {
        yield* owe(removed("ep_1"))
        const id = yield* idOf(removed("ep_1"))
        yield* pass(10)
        assert.isTrue(yield* purge(id))
        assert.isFalse(yield* purge(id))
        return id
      }).pipe(Effect.provide(layer(world)))
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* dead, [])
        yield* owe(removed("ep_2"))
        assert.notStrictEqual(yield* idOf(removed("ep_2")), id)
      }).pipe(Effect.provide(layer(world)))
    })
  })

  it.scoped("that is retried survives the broker as owed, and one that was refused as dead", () => {
    const world = given()
    world.platform.onPost = () => refused
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        yield* owe(removed("ep_1"), removed("ep_2"))
        world.platform.onPost = () => unavailable()
        yield* retry(yield* idOf(removed("ep_1")))
      }).pipe(Effect.provide(layer(world)))
      world.platform.onPost = () => Effect.void
      yield* Effect.zipRight(
        settle,
        Effect.map(dead, (all) => assert.strictEqual(all.length, 1))
      ).pipe(Effect.provide(layer(world)))
      assert.deepStrictEqual(world.platform.posts, [removed("ep_1")])
    })
  })

  it.scoped("is kept as dead letters are: so many, so long; the oldest go first, with a line in the log", () => {
    const log: Array<LogLine> = []
    const world = { ...given(), log, settings: { deadLetters: 3, deadLetterMs: 10_000 } }
    world.platform.onPost = () => refused
    const left = Effect.map(dead, (all) => all.map(([, { lane }]) => lane))
    return Effect.gen(function* () {
      for (const id of names("ep_", 4)) yield* owe(removed(id))
      assert.deepStrictEqual(yield* left, names("endpoint:ep_", 4).slice(1))
      assert.strictEqual(world.store.recordsOf("outbox_dead").length, 3)
      yield* pass(10_000)
      yield* owe(removed("ep_5"))
      assert.deepStrictEqual(yield* left, ["endpoint:ep_5"])
      assert.strictEqual((yield* status).dead, 1)
      assert.strictEqual(log.filter(({ event }) => event === "report_dropped").length, 4)
    }).pipe(Effect.provide(layer(world)))
  })

  it.scoped("is named in the log by its id when it is retried or purged, without what it says", () => {
    const log: Array<LogLine> = []
    const world = { ...given(), log }
    world.platform.onPost = () => refused
    return Effect.gen(function* () {
      yield* owe(hint("secret"), removed("ep_2"))
      const [retried, purged] = [yield* idOf(hint("secret")), yield* idOf(removed("ep_2"))]
      world.platform.onPost = () => Effect.void
      yield* retry(retried)
      yield* purge(purged)
      const lines = log.filter(({ event }) => ["report_retried", "report_purged"].includes(event))
      assert.deepStrictEqual(
        lines.map(({ event, fields }) => [event, fields.dead_letter]),
        [
          ["report_retried", `r-${retried}`],
          ["report_purged", `r-${purged}`]
        ]
      )
      assert.notInclude(JSON.stringify(lines), "secret")
    }).pipe(Effect.provide(layer(world)))
  })
})
