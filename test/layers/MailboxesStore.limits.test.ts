import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Dispatch } from "../../src/services/Dispatch.js"
import { Inbox } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Mailboxes } from "../../src/services/Mailboxes.js"
import { Registry } from "../../src/services/Registry.js"
import { Router } from "../../src/services/Router.js"
import { type CoreOptions, core } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakeStore } from "../kit/FakeStore.js"
import { comeBack, drain, jitter, mail, names, pass, quiet, session, settled } from "../kit/steps.js"

const broker = (network: FakeNetwork, settings: Partial<Settings> = {}, variants: CoreOptions["variants"] = {}) =>
  core({ network, settings: { ...quiet, ...settings }, variants })
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())
const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))
const unregister = (endpointId: string) => Effect.flatMap(Registry, (registry) => registry.unregister(endpointId))
const heldBack = Effect.map(Router, (router) =>
  router.unsafeStatus().heldBack.map(({ destination, waiting }) => ({ destination, waiting }))
)

describe("the quota", () => {
  it.scoped("of messages refuses what is beyond; others go on; it comes in, in order, when there is room", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const away = yield* session(11)
      const other = yield* session(12)
      away.drop()
      const ids = names("m", 5)
      network.deliver(...ids.map((id) => mail(away.endpointId, id)), mail(other.endpointId, "n"))
      yield* settled
      assert.deepStrictEqual(network.accepted, ["m1", "m2", "m3"])
      assert.deepStrictEqual(network.releasedIds, ["m4", "m5"])
      assert.deepStrictEqual(other.contents, ["n"])
      assert.deepStrictEqual(yield* heldBack, [{ destination: away.endpointId, waiting: 2 }])
      yield* comeBack(away)
      yield* drain(away)
      yield* pass(10)
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ids)
      assert.deepStrictEqual(yield* heldBack, [])
      assert.deepInclude(yield* books, { accepted: 5, delivered: 5, held: 0 })
    }).pipe(Effect.provide(broker(network, { mailboxMessages: 3 })))
  })

  it.scoped("of bytes is used to the byte, and a smaller message does not slip past one that waits", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const away = yield* session(11)
      away.drop()
      const sized = (id: string, bytes: number) => ({ ...mail(away.endpointId, id), bytes })
      network.deliver(sized("a", 100), sized("b", 100), sized("c", 51), sized("d", 1))
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a", "b"])
      assert.deepStrictEqual(network.releasedIds, ["c", "d"])
      yield* comeBack(away)
      yield* drain(away)
      yield* pass(10)
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ["a", "b", "c", "d"])
      network.deliver(sized("e", 200), sized("f", 50))
      away.drop()
      yield* settled
      assert.deepStrictEqual(network.accepted.slice(-2), ["e", "f"])
    }).pipe(Effect.provide(broker(network, { mailboxBytes: 250 })))
  })

  for (const [what, settings] of [
    ["messages", { totalMessages: 3 }],
    ["bytes", { totalBytes: 300 }]
  ] as const) {
    it.scoped(`of all ${what} refuses for any mailbox, and room in one is room for all`, () => {
      const network = new FakeNetwork()
      return Effect.gen(function* () {
        const a = yield* session(11)
        const b = yield* session(12)
        a.drop()
        b.drop()
        network.deliver(mail(a.endpointId, "a1"), mail(a.endpointId, "a2"), mail(b.endpointId, "b1"))
        network.deliver(mail(b.endpointId, "b2"))
        yield* settled
        assert.deepStrictEqual(network.accepted, ["a1", "a2", "b1"])
        assert.deepStrictEqual(network.releasedIds, ["b2"])
        yield* comeBack(a)
        yield* drain(a)
        yield* pass(10)
        assert.deepStrictEqual(network.releasedIds, [], "asked for as soon as there is room")
        assert.include(network.accepted, "b2")
      }).pipe(Effect.provide(broker(network, settings)))
    })
  }

  it.scoped("A19: does not stop what nobody else has, nor what the broker accepted before", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const away = yield* session(11)
      away.drop()
      network.deliver({ content: "from the inbox" }, mail(away.endpointId, "a"))
      network.deliver({ ...mail(away.endpointId, "unrepeatable"), redeliverable: false })
      yield* settled
      yield* (yield* Dispatch).dispatch("from the inbox", away.endpointId)
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "from the inbox", "unrepeatable"])
      assert.deepInclude(yield* books, { held: 3 })
      yield* comeBack(away)
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ["a", "unrepeatable", "from the inbox"])
    }).pipe(Effect.provide(broker(network, { mailboxMessages: 1 })))
  })
})

describe("a store that cannot be written", () => {
  it.scoped("C4: takes nothing new; what was decided is accepted when it can be written again", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const away = yield* session(11)
      const live = yield* session(12)
      away.drop()
      yield* settled
      store.failure = "no space left"
      network.deliver(mail(away.endpointId, "a"))
      yield* settled
      network.deliver(mail(away.endpointId, "b"), { content: "unaddressed" }, mail(live.endpointId, "live"))
      yield* settled
      assert.deepStrictEqual(network.accepted, [])
      assert.deepStrictEqual([...network.releasedIds].sort(), ["b", "unaddressed"])
      live.acknowledge(...live.received)
      yield* settled
      assert.deepStrictEqual(network.accepted, ["live"], "D6: live delivery needs no store")
      store.failure = undefined
      yield* pass(5_000)
      yield* settled
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "b", "live", "unaddressed"])
      yield* comeBack(away)
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ["a", "b"])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("A21: that is slow: a message is accepted when the conversation it belongs to is durable as well", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      store.hold()
      network.deliver(mail(plugin.endpointId, "asked", { correlation_id: "c" }))
      yield* settled
      plugin.acknowledge(...plugin.received)
      yield* settled
      assert.deepStrictEqual(network.accepted, [])
      store.release()
      yield* settled
      assert.deepStrictEqual(network.accepted, ["asked"])
      assert.strictEqual(store.recordsOf("correlation_received").length, 1)
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("leaves a push without receipt unaccepted, until it can be written", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      const away = yield* session(12)
      away.drop()
      yield* settled
      store.failure = "no space left"
      network.deliver(mail(away.endpointId, "a"), mail(plugin.endpointId, "live"))
      yield* pass(10_000)
      assert.deepStrictEqual(network.accepted, [])
      store.failure = undefined
      yield* pass(30_100)
      yield* settled
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "live"])
      assert.deepStrictEqual(plugin.contents, ["live"])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })
})

describe("a store with too little room", () => {
  it.scoped(
    "takes no new mail, and what it holds leaves: to plugins that come back, from the inbox, at the end of an endpoint",
    () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      return Effect.gen(function* () {
        yield* jitter(1)
        const away = yield* session(11)
        const ending = yield* session(12)
        const live = yield* session(13)
        away.drop()
        ending.drop()
        yield* settled
        network.deliver(mail(away.endpointId, "a"), mail(ending.endpointId, "b"), { content: "c" })
        yield* settled
        store.shortage = { since: 0, reason: "the disk has 3 MiB free" }
        network.deliver(mail(away.endpointId, "new"), { content: "unaddressed" }, mail(live.endpointId, "live"))
        yield* settled
        assert.deepStrictEqual([...network.releasedIds].sort(), ["new", "unaddressed"])
        yield* drain(live)
        assert.deepStrictEqual(network.accepted, ["a", "b", "c", "live"], "D6: live delivery needs no room")
        yield* comeBack(away)
        yield* drain(away)
        assert.deepStrictEqual(away.contents, ["a"])
        yield* (yield* Registry).unregister(ending.endpointId)
        yield* (yield* Dispatch).dispatch("c", live.endpointId)
        yield* settled
        yield* drain(live)
        assert.deepStrictEqual([yield* undispatched, live.contents], [["b"], ["live", "c"]])
        assert.strictEqual(yield* Effect.map(session(14), ({ contents }) => contents.length), 0)
        away.drop()
        store.shortage = undefined
        yield* pass(10_000)
        yield* settled
        assert.deepStrictEqual([...network.accepted].sort(), ["a", "b", "c", "live", "new", "unaddressed"])
        assert.deepInclude(yield* books, { accepted: 6, delivered: 3, held: 1, inbox: 2, unaccounted: 0 })
      }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
    }
  )

  it.scoped("stores no push that waits for its receipt, until there is room", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      store.shortage = { since: 0, reason: "the disk has 3 MiB free" }
      network.deliver(mail(plugin.endpointId, "live"))
      yield* pass(10_000)
      assert.deepStrictEqual([network.accepted, store.recordsOf("mail")], [[], []])
      store.shortage = undefined
      yield* pass(10_000)
      yield* settled
      assert.deepStrictEqual(network.accepted, ["live"])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })
})

describe("stored mail that is damaged", () => {
  /** The second of four messages for an endpoint that is away can no longer be read, when all room is taken. */
  const damaged = (network: FakeNetwork, store: FakeStore) =>
    Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      network.deliver(...names("m", 4).map((id) => mail(plugin.endpointId, id)))
      yield* settled
      store.damage("mail", store.keysOf("mail")[1]!)
      return plugin
    })

  it.scoped("is in no books and takes no room, once its mailbox was read", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* damaged(network, store)
      network.deliver(mail(plugin.endpointId, "n"))
      yield* settled
      assert.strictEqual((yield* heldBack).length, 1)
      yield* comeBack(plugin)
      yield* drain(plugin)
      yield* pass(1_000)
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, ["m1", "m3", "m4", "n"])
      assert.deepStrictEqual((yield* Mailboxes).unsafeTotals(), { messages: 0, bytes: 0 })
      assert.deepInclude(yield* books, { accepted: 4, delivered: 4, held: 0 })
    }).pipe(Effect.provide(broker(network, { mailboxMessages: 4 }, { store: store.layer })))
  })

  it.scoped("nor when its mailbox ends", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* damaged(network, store)
      yield* unregister(plugin.endpointId)
      yield* settled
      assert.deepStrictEqual(yield* undispatched, ["m1", "m3", "m4"])
      assert.deepStrictEqual((yield* Mailboxes).unsafeTotals(), { messages: 0, bytes: 0 })
      assert.deepInclude(yield* books, { accepted: 3, held: 0, inbox: 3 })
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })
})
