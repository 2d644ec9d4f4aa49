import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { DeadLetters } from "../../src/services/DeadLetters.js"
import { Dispatch } from "../../src/services/Dispatch.js"
import { Ledger } from "../../src/services/Ledger.js"
import { type CoreOptions, core, type FakePlugin } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakeStore } from "../kit/FakeStore.js"
import { comeBack, deadLetters, drain, jitter, mail, names, pass, quiet, session, settled } from "../kit/steps.js"

const broker = (network: FakeNetwork, settings: Partial<Settings> = {}, variants: CoreOptions["variants"] = {}) =>
  core({ network, settings: { ...quiet, ...settings }, variants })
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())
const marked = (plugin: FakePlugin) =>
  plugin.received.map(({ content, redelivered }) => (redelivered ? `${content} again` : content))

describe("pushed again", () => {
  it.scoped("after the channel ended: first, in order, and marked; what is new is not marked", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(...["a", "b", "c"].map((id) => mail(plugin.endpointId, id)))
      yield* settled
      plugin.acknowledge(plugin.received[1]!)
      plugin.drop()
      yield* settled
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "b", "c"], "stored while nobody is there")
      network.deliver(mail(plugin.endpointId, "d"))
      yield* settled
      assert.strictEqual(yield* comeBack(plugin), 3)
      network.deliver(mail(plugin.endpointId, "e"))
      yield* settled
      assert.deepStrictEqual(marked(plugin), ["a again", "c again", "d", "e"])
      assert.deepStrictEqual(
        plugin.received.map(({ sourceMessageId }) => sourceMessageId),
        ["a", "c", "d", "e"]
      )
      yield* drain(plugin)
      assert.deepInclude(yield* books, { accepted: 5, delivered: 5, held: 0 })
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("A2: on the channel that replaced its own, without being asked for", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"), mail(plugin.endpointId, "b"))
      yield* settled
      const old = plugin.socket
      yield* plugin.open
      network.deliver(mail(plugin.endpointId, "c"))
      yield* settled
      assert.deepStrictEqual(marked(plugin), ["a again", "b again", "c"])
      assert.strictEqual(old.frames.filter(({ event }) => event === "message_received").length, 2)
      yield* drain(plugin)
      assert.deepInclude(yield* books, { delivered: 3, held: 0 })
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("A3: on a channel without receipts that replaced one with them, written is delivered", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      const older = yield* session(11, { kind: "older client" }, [])
      yield* settled
      assert.deepStrictEqual(marked(older), ["a again"])
      assert.deepInclude(yield* books, { delivered: 1, held: 0 })
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("A15: also when the new channel ends before it acknowledged anything", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      network.deliver(...names("m", 10).map((id) => mail(plugin.endpointId, id)))
      yield* settled
      yield* comeBack(plugin)
      plugin.drop()
      yield* settled
      yield* comeBack(plugin)
      yield* drain(plugin)
      assert.deepStrictEqual(
        marked(plugin),
        names("m", 10).map((id) => `${id} again`)
      )
      assert.deepInclude(yield* books, { delivered: 10, held: 0 })
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("not what the plugin acknowledged after it was stored", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"), mail(plugin.endpointId, "b"))
      yield* pass(5_000)
      plugin.acknowledge(plugin.received[0]!)
      plugin.drop()
      yield* comeBack(plugin)
      yield* settled
      assert.deepStrictEqual(marked(plugin), ["b again"])
    }).pipe(Effect.provide(broker(network)))
  })
})

describe("a refused push", () => {
  for (const [spread, least] of [
    [0, 0.75],
    [1, 1]
  ] as const) {
    it.scoped(`comes again after 1 s doubling to 30 s, at ${100 * least} % of it, and the rest waits behind it`, () => {
      const network = new FakeNetwork()
      return Effect.gen(function* () {
        yield* jitter(spread)
        const plugin = yield* session(11)
        network.deliver(mail(plugin.endpointId, "a"))
        yield* settled
        const waits = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].map((wait) => wait * least)
        for (const [index, wait] of waits.entries()) {
          plugin.refuse(plugin.received.findLast(({ content }) => content === "a")!)
          yield* settled
          network.deliver(mail(plugin.endpointId, `b${index}`))
          const before = marked(plugin)
          yield* pass(wait - 1)
          assert.deepStrictEqual(marked(plugin), before)
          yield* pass(1)
          assert.deepStrictEqual(marked(plugin), [...before, "a again", `b${index}`])
        }
        yield* drain(plugin)
        assert.deepInclude(yield* books, { accepted: 8, delivered: 8, held: 0 })
      }).pipe(Effect.provide(broker(network)))
    })
  }

  it.scoped("is dead after 20 failures, not after 19; what waited behind it goes on", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "poison"))
      yield* settled
      for (let failures = 1; failures < 20; failures++) {
        plugin.refuse(plugin.received.at(-1)!)
        yield* pass(30_000)
        assert.strictEqual(plugin.received.length, failures + 1)
      }
      network.deliver(mail(plugin.endpointId, "b"))
      yield* settled
      assert.strictEqual((yield* DeadLetters).unsafeCount(), 0)
      plugin.refuse(plugin.received.at(-2)!)
      yield* settled
      const [dead] = yield* deadLetters
      assert.deepInclude(dead, { endpointId: plugin.endpointId, reason: "delivery_limit" })
      assert.deepInclude(dead!.message, { content: "poison" })
      yield* pass(60_000)
      yield* drain(plugin)
      assert.strictEqual(plugin.received.length, 21)
      assert.strictEqual(plugin.contents.at(-1), "b")
      assert.deepInclude(yield* books, { accepted: 2, delivered: 1, dead: 1, held: 0 })
      assert.deepStrictEqual([...network.accepted].sort(), ["b", "poison"])
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("is stored before it is accepted, and its refusal counts once", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      store.hold()
      plugin.refuse(plugin.received[0]!)
      plugin.refuse(plugin.received[0]!)
      plugin.acknowledge(plugin.received[0]!)
      yield* settled
      assert.deepStrictEqual(network.accepted, [])
      store.release()
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a"])
      yield* pass(1_000)
      assert.deepStrictEqual(marked(plugin), ["a", "a again"])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("comes at once over a new channel", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"), mail(plugin.endpointId, "b"))
      yield* settled
      plugin.refuse(plugin.received[0]!)
      yield* settled
      yield* plugin.open
      yield* settled
      assert.deepStrictEqual(marked(plugin), ["a again", "b again"])
    }).pipe(Effect.provide(broker(network)))
  })
})

describe("the delivery limit", () => {
  it.scoped("counts channel ends and replacements for the oldest in flight, and only for it", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"), mail(plugin.endpointId, "b"))
      yield* settled
      plugin.drop()
      yield* comeBack(plugin)
      yield* settled
      yield* plugin.open
      yield* settled
      assert.deepStrictEqual(marked(plugin), ["a again", "b again"])
      plugin.drop()
      yield* comeBack(plugin)
      yield* settled
      assert.deepStrictEqual(marked(plugin), ["b again"])
      assert.deepStrictEqual(
        (yield* deadLetters).map(({ message }) => message.content),
        ["a"]
      )
      assert.deepInclude(yield* books, { accepted: 2, held: 1, dead: 1 })
    }).pipe(Effect.provide(broker(network, { deliveryLimit: 3 })))
  })

  it.scoped("does not count an end of the channel at which nothing was in flight", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      yield* plugin.open
      plugin.drop()
      yield* comeBack(plugin)
      yield* settled
      yield* drain(plugin)
      assert.deepStrictEqual(marked(plugin), ["a"])
    }).pipe(Effect.provide(broker(network, { deliveryLimit: 1 })))
  })
})

describe("D3: order", () => {
  it.scoped("B7: new messages come behind the stored ones, while these are being pushed", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      const old = names("old", 10)
      const fresh = names("new", 10)
      network.deliver(...old.map((id) => mail(plugin.endpointId, id)))
      yield* settled
      yield* comeBack(plugin)
      for (const id of fresh) {
        network.deliver(mail(plugin.endpointId, id))
        plugin.acknowledge(plugin.received.at(-1)!)
        yield* settled
      }
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, [...old, ...fresh])
      assert.deepInclude(yield* books, { delivered: 20, held: 0 })
    }).pipe(Effect.provide(broker(network, { windowMessages: 4 })))
  })

  it.scoped("B8: nothing passes mail whose write is under way", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* jitter(1)
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      store.hold()
      plugin.refuse(plugin.received[0]!)
      network.deliver(mail(plugin.endpointId, "b"), mail(plugin.endpointId, "c"))
      yield* pass(5_000)
      assert.deepStrictEqual(marked(plugin), ["a"])
      assert.deepStrictEqual(network.accepted, [])
      store.release()
      yield* settled
      assert.deepStrictEqual(marked(plugin), ["a", "a again", "b", "c"])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("holds over spill, reconnection, reattachment, replacement and dispatch together", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const dispatch = yield* Dispatch
      const send = (...ids: ReadonlyArray<string>) =>
        Effect.suspend(() => {
          network.deliver(...ids.map((id) => mail(plugin.endpointId, id)))
          return settled
        })
      network.deliver({ content: "from the inbox" }, { content: "too" })
      yield* send(...names("a", 6))
      yield* pass(5_000)
      plugin.acknowledge(plugin.received[1]!)
      yield* send(...names("b", 3))
      plugin.drop()
      yield* send("c1")
      yield* dispatch.dispatch("from the inbox", plugin.endpointId)
      yield* send("c2")
      yield* comeBack(plugin)
      yield* send("d1")
      yield* plugin.open
      yield* dispatch.dispatch("too", plugin.endpointId)
      yield* send("e1")
      yield* drain(plugin)
      const rest = ["a1", "a3", "a4", "a5", "a6", "b1", "b2", "b3", "c1", "from the inbox", "c2", "d1", "too", "e1"]
      assert.deepStrictEqual(plugin.contents, rest)
      assert.deepInclude(yield* books, { accepted: 15, delivered: 15, held: 0, inbox: 0 })
    }).pipe(Effect.provide(broker(network, { windowMessages: 5 })))
  })

  it.scoped("a backlog far beyond the window comes from the store page by page, in order, each once", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(...names("m", 100).map((id) => mail(plugin.endpointId, id)))
      yield* settled
      plugin.drop()
      const all = names("m", 1_000)
      for (let index = 100; index < 1_000; index += 90) {
        network.deliver(...all.slice(index, index + 90).map((id) => mail(plugin.endpointId, id)))
        yield* settled
      }
      assert.deepInclude(yield* books, { accepted: 1_000, held: 1_000 })
      assert.strictEqual(yield* comeBack(plugin), 1_000)
      network.deliver(mail(plugin.endpointId, "last"))
      yield* settled
      assert.strictEqual(plugin.received.length, 128)
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, [...all, "last"])
      assert.deepStrictEqual(
        plugin.received.map(({ redelivered }) => redelivered === true),
        all.map((_, index) => index < 100).concat(false)
      )
      assert.deepInclude(yield* books, { delivered: 1_001, held: 0 })
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("D6: a backlog of large messages comes in pages of no more bytes than the window", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      const all = names("m", 40).map((id) => `${id}${"x".repeat(1_000)}`)
      network.deliver(...all.map((id) => ({ ...mail(plugin.endpointId, id), messageId: id.slice(0, 3), bytes: 1_500 })))
      yield* settled
      store.largestPage = 0
      yield* comeBack(plugin)
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, all)
      assert.isAbove(store.largestPage, 2_000)
      assert.isBelow(store.largestPage, 5_000)
    }).pipe(Effect.provide(broker(network, { windowBytes: 5_000 }, { store: store.layer })))
  })

  it.scoped(
    "comes over a channel that replaced its own only once what was acknowledged before has left the store",
    () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        plugin.drop()
        network.deliver(...names("m", 3).map((id) => mail(plugin.endpointId, id)))
        yield* settled
        yield* comeBack(plugin)
        yield* settled
        store.hold()
        plugin.acknowledge(plugin.received[1]!)
        plugin.drop()
        yield* Effect.fork(comeBack(plugin))
        yield* settled
        assert.deepStrictEqual(marked(plugin), [])
        store.release()
        yield* settled
        assert.deepStrictEqual(marked(plugin), ["m1 again", "m3 again"])
        yield* drain(plugin)
        assert.deepInclude(yield* books, { accepted: 3, delivered: 3, held: 0 })
      }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
    }
  )

  it.scoped("pages are read on while the channel ends and returns in the middle of them", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      const all = names("m", 60)
      network.deliver(...all.map((id) => mail(plugin.endpointId, id)))
      yield* settled
      const seen: Array<string> = []
      for (let round = 0; seen.length < 60 && round < 30; round++) {
        yield* comeBack(plugin)
        yield* settled
        const taken = plugin.received.slice(0, 3)
        plugin.acknowledge(...taken)
        seen.push(...taken.map(({ content }) => content))
        yield* settled
        plugin.drop()
        yield* settled
      }
      assert.deepStrictEqual(seen, all)
    }).pipe(Effect.provide(broker(network, { windowMessages: 8 })))
  })
})
