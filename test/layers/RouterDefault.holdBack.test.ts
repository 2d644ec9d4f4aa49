import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { BrokerStatus } from "../../src/services/BrokerStatus.js"
import { Dispatch } from "../../src/services/Dispatch.js"
import { Inbox } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Router } from "../../src/services/Router.js"
import { core, type LogLine } from "../kit/core.js"
import { FakeNetwork, type Given } from "../kit/FakeNetwork.js"
import { drain, jitter, mail, names, pass, quiet, session, settled } from "../kit/steps.js"

/** Its random waits are the longest there are, unless `spread` says otherwise. */
const broker = (
  network: FakeNetwork,
  settings: Partial<Settings> = {},
  { log = [], spread = 1 }: { readonly log?: Array<LogLine>; readonly spread?: number } = {}
) => Layer.merge(core({ network, log, settings: { ...quiet, ...settings } }), Layer.scopedDiscard(jitter(spread)))

const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())
const status = Effect.map(Router, (router) => router.unsafeStatus())
const heldBack = Effect.map(status, ({ heldBack }) => heldBack.map(({ waiting }) => waiting))
const delivered = (network: FakeNetwork, ...messages: ReadonlyArray<Given>) =>
  Effect.suspend(() => {
    network.deliver(...messages)
    return settled
  })
const dispatch = (id: string, to: { readonly endpointId: string }) =>
  Effect.flatMap(Dispatch, (service) => Effect.zipRight(service.dispatch(id, to.endpointId), settled))
const unaddressed = (...contents: ReadonlyArray<string>) => contents.map((content) => ({ content }))

describe("A8, D8: a full inbox", () => {
  it.scoped(
    "lets the 257th message wait at the network; endpoints go on; it comes in after a dispatch, in order",
    () => {
      const network = new FakeNetwork()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        const ids = names("m", 259)
        yield* delivered(network, ...unaddressed(...ids), mail(plugin.endpointId, "live"))
        assert.deepStrictEqual(plugin.contents, ["live"])
        assert.strictEqual(network.accepted.length, 256)
        assert.deepStrictEqual(network.releasedIds, ["m257", "m258", "m259"])
        yield* dispatch("m7", plugin)
        yield* pass(10)
        yield* dispatch("m1", plugin)
        yield* dispatch("m2", plugin)
        yield* pass(500)
        yield* settled
        assert.deepStrictEqual(
          yield* undispatched,
          ids.filter((id) => !["m1", "m2", "m7"].includes(id))
        )
        assert.deepStrictEqual(
          network.accepted.filter((id) => id !== "live"),
          ids
        )
        assert.deepStrictEqual(yield* heldBack, [])
        yield* drain(plugin)
        assert.deepStrictEqual(plugin.contents, ["live", "m7", "m1", "m2"])
        assert.deepInclude(yield* books, { accepted: 260, delivered: 4, inbox: 256 })
      }).pipe(Effect.provide(broker(network)))
    }
  )

  it.scoped("asks as soon as there is room, also when the first refusal is a moment ago", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* delivered(network, ...unaddressed("a"))
      network.deliver(...unaddressed("b"))
      yield* Effect.yieldNow()
      yield* dispatch("a", plugin)
      yield* pass(10)
      assert.deepStrictEqual(yield* undispatched, ["b"])
    }).pipe(Effect.provide(broker(network, { inboxMessages: 1 })))
  })

  it.scoped("of bytes holds back, too, and nothing smaller slips past what waits", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const sized = { a: 600, b: 500, c: 1 }
      yield* delivered(network, ...Object.entries(sized).map(([content, bytes]) => ({ content, bytes })))
      assert.deepStrictEqual(yield* undispatched, ["a"])
      yield* dispatch("a", plugin)
      yield* pass(10)
      assert.deepStrictEqual(yield* undispatched, ["b", "c"])
    }).pipe(Effect.provide(broker(network, { inboxBytes: 1_000 })))
  })

  it.scoped("takes what nobody would send again", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* delivered(network, ...unaddressed("a", "b"), { content: "c", redeliverable: false })
      assert.deepStrictEqual(yield* undispatched, ["a", "c"])
      assert.deepInclude(yield* books, { accepted: 2, inbox: 2 })
    }).pipe(Effect.provide(broker(network, { inboxMessages: 1 })))
  })

  for (const [spread, waits] of [
    [0, [5_000, 7_500, 15_000, 30_000, 45_000, 45_000]],
    [1, [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]]
  ] as const) {
    it.scoped(`asks again by itself after ${waits.map((wait) => wait / 1_000).join(", ")} s`, () => {
      const network = new FakeNetwork()
      return Effect.gen(function* () {
        yield* delivered(network, ...unaddressed("a", "b", "c"))
        for (const [index, wait] of waits.entries()) {
          yield* pass(wait - 1)
          assert.strictEqual(network.redeliveries, index)
          yield* pass(1)
          assert.strictEqual(network.redeliveries, index + 1)
          assert.deepStrictEqual(network.releasedIds, ["b", "c"])
        }
        assert.deepStrictEqual(network.accepted, ["a"])
      }).pipe(Effect.provide(broker(network, { inboxMessages: 1 }, { spread })))
    })
  }

  it.scoped("stops asking when nothing waits any more", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* delivered(network, ...unaddressed("a", "b"))
      yield* dispatch("a", plugin)
      yield* pass(10)
      assert.deepStrictEqual(yield* undispatched, ["b"])
      const { redeliveries } = network
      yield* pass(600_000)
      assert.strictEqual(network.redeliveries, redeliveries)
    }).pipe(Effect.provide(broker(network, { inboxMessages: 1 })))
  })

  it.scoped("is named in the status, with a warning, and in the log", () => {
    const network = new FakeNetwork()
    const log: Array<LogLine> = []
    return Effect.gen(function* () {
      yield* pass(1_000)
      yield* delivered(network, ...unaddressed("a", "b", "c"))
      assert.deepStrictEqual((yield* status).heldBack, [{ destination: "inbox", since: 1_000, waiting: 2 }])
      const shown = (yield* BrokerStatus).unsafeStatus()
      assert.deepStrictEqual(shown.held_back, [
        { destination: "inbox", since: new Date(1_000).toISOString(), waiting: 2 }
      ])
      assert.isTrue(shown.warnings.some((warning) => warning.includes("2 messages for inbox wait at the network")))
      assert.strictEqual(log.filter(({ event }) => event === "messages_held_back").length, 1)
    }).pipe(Effect.provide(broker(network, { inboxMessages: 1 }, { log })))
  })

  it.scoped("counts a message whose time nobody can read once, however often it is asked for", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* delivered(network, ...unaddressed("a"), { content: "b", metadata: { expires_at: "soon" } })
      for (const wait of [5_000, 10_000]) yield* pass(wait)
      assert.strictEqual(network.redeliveries, 2)
      assert.strictEqual((yield* status).invalidExpiries, 0)
      const plugin = yield* session(11)
      yield* dispatch("a", plugin)
      yield* pass(500)
      assert.deepStrictEqual(yield* undispatched, ["b"])
      assert.strictEqual((yield* status).invalidExpiries, 1)
    }).pipe(Effect.provide(broker(network, { inboxMessages: 1 })))
  })

  it.scoped("does not wait for a message the network no longer has", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* delivered(network, ...unaddressed("a", "b", "c"))
      network.connector.unsafeAccept(["b"])
      yield* dispatch("a", plugin)
      yield* pass(10)
      assert.deepStrictEqual(yield* undispatched, ["c"])
      assert.deepStrictEqual(yield* heldBack, [])
    }).pipe(Effect.provide(broker(network, { inboxMessages: 1 })))
  })

  it.scoped("and a full mailbox do not wait for each other", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const away = yield* session(12)
      away.drop()
      yield* delivered(network, ...unaddressed("a", "b"), ...names("m", 2).map((id) => mail(away.endpointId, id)))
      assert.deepStrictEqual(
        yield* Effect.map(status, ({ heldBack }) => heldBack.map(({ destination }) => destination)),
        ["inbox", away.endpointId]
      )
      yield* dispatch("a", plugin)
      yield* pass(10)
      assert.deepStrictEqual(yield* undispatched, ["b"])
      assert.deepStrictEqual(network.releasedIds, ["m2"])
    }).pipe(Effect.provide(broker(network, { inboxMessages: 1, mailboxMessages: 1 })))
  })
})

describe("behind a held-back message", () => {
  const settings = { inboxMessages: 1, holdBackMessages: 3 }

  it.scoped("so many messages are taken and no more; the rest waits, in order, for room", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const ids = names("m", 6)
      yield* delivered(network, ...unaddressed("a", "b"), ...ids.map((id) => mail(plugin.endpointId, id)))
      assert.deepStrictEqual(plugin.contents, ["m1", "m2", "m3"])
      assert.deepStrictEqual(network.releasedIds, ["b", "m4", "m5", "m6"])
      assert.isTrue((yield* status).isStalled)
      assert.include((yield* BrokerStatus).unsafeStatus().warnings.join(), "nothing new is taken")
      yield* dispatch("a", plugin)
      yield* pass(10)
      yield* pass(10_000)
      assert.deepStrictEqual(yield* undispatched, ["b"])
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, ["m1", "m2", "m3", "a", "m4", "m5", "m6"])
      assert.isFalse((yield* status).isStalled)
    }).pipe(Effect.provide(broker(network, settings)))
  })

  it.scoped("so many bytes are taken", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const ids = names("m", 4)
      yield* delivered(network, ...unaddressed("a", "b"), ...ids.map((id) => mail(plugin.endpointId, id)))
      assert.deepStrictEqual(plugin.contents, ["m1", "m2"])
      assert.isTrue((yield* status).isStalled)
    }).pipe(Effect.provide(broker(network, { inboxMessages: 1, holdBackBytes: 200 })))
  })

  it.scoped("it is the first to come in when there is room, however much presses on", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const press = (round: number) =>
        delivered(network, ...names(`r${round}m`, 4).map((id) => mail(plugin.endpointId, id)))
      yield* delivered(network, ...unaddressed("a", "b"))
      yield* press(0)
      yield* dispatch("a", plugin)
      for (const [round, wait] of [10, 10_000, 20_000, 40_000].entries()) {
        yield* press(round + 1)
        yield* pass(wait)
      }
      assert.deepStrictEqual(yield* undispatched, ["b"])
    }).pipe(Effect.provide(broker(network, settings)))
  })

  it.scoped("the broker goes on when the message it stopped at expired meanwhile", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const ids = names("m", 3).map((id) => mail(plugin.endpointId, id))
      const expiring = mail(plugin.endpointId, "expiring", { expires_at: 4_000 })
      yield* delivered(network, ...unaddressed("a", "b"), ...ids, expiring, mail(plugin.endpointId, "after"))
      assert.deepStrictEqual(network.releasedIds, ["b", "expiring", "after"])
      yield* pass(5_000)
      assert.include(network.accepted, "expiring")
      yield* dispatch("a", plugin)
      for (const wait of [10, 10_000, 20_000]) yield* pass(wait)
      yield* drain(plugin)
      assert.isFalse((yield* status).isStalled)
      assert.deepStrictEqual(yield* undispatched, ["b"])
      assert.deepStrictEqual(plugin.contents, ["m1", "m2", "m3", "a", "after"])
    }).pipe(Effect.provide(broker(network, settings)))
  })

  it.scoped("the broker goes on when the network no longer has the message it stopped at", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const ids = [...names("m", 3), "gone", "after"].map((id) => mail(plugin.endpointId, id))
      yield* delivered(network, ...unaddressed("a", "b"), ...ids)
      network.connector.unsafeAccept(["gone"])
      yield* dispatch("a", plugin)
      for (const wait of [10, 10_000, 20_000]) yield* pass(wait)
      yield* drain(plugin)
      assert.isFalse((yield* status).isStalled)
      assert.deepStrictEqual(plugin.contents, ["m1", "m2", "m3", "a", "after"])
    }).pipe(Effect.provide(broker(network, settings)))
  })

  it.scoped("a network that accepts each message by itself is never stopped", () => {
    const network = new FakeNetwork()
    network.abilities = { ...network.abilities, accept: "individual" }
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const ids = names("m", 10)
      yield* delivered(network, ...unaddressed("a", "b"), ...ids.map((id) => mail(plugin.endpointId, id)))
      assert.deepStrictEqual(plugin.contents, ids)
      assert.deepStrictEqual(network.releasedIds, ["b"])
      assert.isFalse((yield* status).isStalled)
    }).pipe(Effect.provide(broker(network, settings)))
  })
})
