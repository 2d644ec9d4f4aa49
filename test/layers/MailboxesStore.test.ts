import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Mailboxes } from "../../src/services/Mailboxes.js"
import { type CoreOptions, core } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakeStore } from "../kit/FakeStore.js"
import { drain, mail, names, pass, quiet, session, settled } from "../kit/steps.js"

const broker = (network: FakeNetwork, settings: Partial<Settings> = {}, variants: CoreOptions["variants"] = {}) =>
  core({ network, settings: { ...quiet, ...settings }, variants })
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())

describe("live delivery", () => {
  it.scoped("a push is accepted when its receipt comes, not before", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a"])
      assert.deepStrictEqual(network.accepted, [])
      plugin.acknowledge(...plugin.received)
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a"])
      assert.deepInclude(yield* books, { accepted: 1, delivered: 1, held: 0 })
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("a frame names the message and its push, and does not speak of redelivery", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a", { note: "kept" }), mail(plugin.endpointId, "b"))
      yield* settled
      const [a, b] = plugin.received
      assert.deepInclude(a, { from: "mstp://peer", content: "a", contentType: "text", sourceMessageId: "a" })
      assert.deepInclude(a!.metadata, { note: "kept", target_endpoint_id: plugin.endpointId })
      assert.notProperty(a, "redelivered")
      assert.isNotEmpty(a!.push_id)
      assert.notStrictEqual(a!.push_id, b!.push_id)
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("without receipts, what was written is delivered and accepted at once", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11, {}, [])
      network.deliver(mail(plugin.endpointId, "a"), mail(plugin.endpointId, "b"))
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a", "b"])
      assert.notProperty(plugin.received[0], "push_id")
      assert.deepStrictEqual(network.accepted, ["a", "b"])
      assert.deepInclude(yield* books, { accepted: 2, delivered: 2 })
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("a receipt counts once, and only from the channel it was pushed over", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const other = yield* session(12)
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      other.acknowledge(...plugin.received)
      plugin.say('{"event":"push_ack","push_id":"push_unknown"}')
      yield* settled
      assert.deepStrictEqual(network.accepted, [])
      plugin.acknowledge(...plugin.received, ...plugin.received)
      plugin.acknowledge(...plugin.received)
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a"])
      assert.deepInclude(yield* books, { accepted: 1, delivered: 1 })
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("L4: frames the broker does not understand change nothing", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      const { push_id } = plugin.received[0]!
      const deep = `{"event":"push_ack","push_id":"${push_id}","x":${"[".repeat(100)}${"]".repeat(100)}}`
      for (const text of ["", "{", "null", "[]", '"push_ack"', '{"event":"push_ack"}', '{"event":"new"}', deep]) {
        plugin.say(text)
      }
      plugin.say(`{"event":"push_ack","push_id":["${push_id}"]}`)
      yield* settled
      assert.deepStrictEqual(network.accepted, [])
      plugin.acknowledge(...plugin.received)
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a"])
    }).pipe(Effect.provide(broker(network)))
  })
})

describe("a late receipt", () => {
  it.scoped("B11: after 5 s the push is stored and accepted, stays in flight, and is not pushed again", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"))
      yield* pass(4_999)
      assert.deepStrictEqual(network.accepted, [])
      yield* pass(1)
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a"])
      assert.deepInclude(yield* books, { accepted: 1, held: 1, delivered: 0 })
      yield* pass(600_000)
      assert.deepStrictEqual(plugin.contents, ["a"])
      plugin.acknowledge(...plugin.received)
      yield* settled
      assert.deepInclude(yield* books, { accepted: 1, held: 0, delivered: 1 })
      assert.deepStrictEqual(network.accepted, ["a"], "told once")
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("after 100 ms it is stored once 32 later messages are accepted, those of other endpoints included", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const other = yield* session(12)
      network.deliver(mail(plugin.endpointId, "slow"), ...names("m", 16).map((id) => mail(plugin.endpointId, id)))
      network.deliver(...names("n", 16).map((id) => mail(other.endpointId, id)))
      yield* pass(50)
      plugin.acknowledge(...plugin.received.slice(1))
      other.acknowledge(...other.received)
      yield* pass(49)
      assert.strictEqual(network.accepted.length, 32)
      yield* pass(1)
      yield* settled
      assert.strictEqual(network.accepted.at(-1), "slow")
      assert.deepInclude(yield* books, { held: 1, delivered: 32 })
      assert.strictEqual(plugin.contents.filter((content) => content === "slow").length, 1)
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("31 later ones are not enough; the 32nd is, at the next look", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(...["slow", ...names("m", 32)].map((id) => mail(plugin.endpointId, id)))
      yield* settled
      plugin.acknowledge(...plugin.received.slice(1, -1))
      yield* pass(4_000)
      assert.notInclude(network.accepted, "slow")
      plugin.acknowledge(plugin.received.at(-1)!)
      yield* pass(100)
      assert.include(network.accepted, "slow")
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("messages that came before it do not count as later ones, however late they are accepted", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(...[...names("m", 40), "slow"].map((id) => mail(plugin.endpointId, id)))
      yield* settled
      plugin.acknowledge(...plugin.received.slice(0, 40))
      yield* pass(4_999)
      assert.strictEqual(network.accepted.length, 40)
      yield* pass(1)
      assert.strictEqual(network.accepted.at(-1), "slow")
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("receipts that come in order, only slowly, store nothing", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(...names("m", 100).map((id) => mail(plugin.endpointId, id)))
      yield* settled
      for (let index = 0; index < 100; index += 5) {
        yield* pass(249)
        assert.deepStrictEqual(store.recordsOf("mail"), [])
        plugin.acknowledge(...plugin.received.slice(index, index + 5))
      }
      yield* settled
      assert.deepStrictEqual(network.accepted, names("m", 100))
      assert.deepInclude(yield* books, { accepted: 100, delivered: 100 })
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("storing one stores every earlier one of its endpoint in the same commit", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const other = yield* session(12)
      network.deliver(...["a", "b", "c", "d"].map((id) => mail(plugin.endpointId, id)), mail(other.endpointId, "x"))
      yield* settled
      store.hold()
      plugin.refuse(plugin.received[2]!)
      yield* settled
      assert.deepStrictEqual(network.accepted, [], "not before it is durable")
      store.release()
      yield* settled
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "b", "c"])
      assert.strictEqual(store.recordsOf("mail").length, 3)
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })
})

describe("the window", () => {
  it.scoped("holds so many messages; the next is pushed when one is acknowledged", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(...["a", "b", "c", "d", "e"].map((id) => mail(plugin.endpointId, id)))
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a", "b", "c"])
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "b", "c", "d", "e"], "what waits is stored")
      plugin.acknowledge(plugin.received[1]!)
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a", "b", "c", "d"])
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, ["a", "b", "c", "d", "e"])
      assert.deepInclude(yield* books, { delivered: 5, held: 0 })
    }).pipe(Effect.provide(broker(network, { windowMessages: 3 })))
  })

  it.scoped("holds so many bytes, to the byte", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const sizes = { a: 100, b: 150, c: 1, d: 100 }
      network.deliver(...Object.entries(sizes).map(([id, bytes]) => ({ ...mail(plugin.endpointId, id), bytes })))
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a", "b"])
      plugin.acknowledge(plugin.received[0]!)
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a", "b", "c"])
      plugin.acknowledge(plugin.received[1]!)
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a", "b", "c", "d"])
    }).pipe(Effect.provide(broker(network, { windowBytes: 250 })))
  })

  it.scoped("always lets one through, however large, and then nothing beside it", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver({ ...mail(plugin.endpointId, "large"), bytes: 5_000 }, mail(plugin.endpointId, "b"))
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["large"])
      plugin.acknowledge(...plugin.received)
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["large", "b"])
    }).pipe(Effect.provide(broker(network, { windowBytes: 250 })))
  })
})

describe("a plugin that does not read", () => {
  const large = (id: string) => `${id}${"x".repeat(400)}`
  const heads = (contents: ReadonlyArray<string>) => contents.map((content) => content.slice(0, 2))
  const marks = { congestedBytes: 1_000, uncongestedBytes: 300 }

  it.scoped("D6: is pushed no more than the high mark; the rest is stored and follows when it reads again", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const slow = yield* session(11)
      const quick = yield* session(12)
      slow.socket.stopReading()
      const ids = names("m", 9)
      network.deliver(...ids.map((id) => ({ ...mail(slow.endpointId, large(id)), messageId: id })))
      network.deliver(mail(quick.endpointId, "quick"))
      yield* settled
      assert.strictEqual(slow.received.length, 2)
      assert.deepStrictEqual(quick.contents, ["quick"])
      assert.deepStrictEqual([...network.accepted].sort(), ids)
      slow.socket.readOn()
      yield* settled
      assert.deepStrictEqual(heads(slow.contents), ids)
      yield* drain(slow)
      assert.deepInclude(yield* books, { held: 0, delivered: 9 })
    }).pipe(Effect.provide(broker(network, marks)))
  })

  it.scoped("and has no receipts: only what its open, uncongested socket took is delivered", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const slow = yield* session(11, {}, [])
      slow.socket.stopReading()
      const ids = names("m", 5)
      network.deliver(...ids.map((id) => ({ ...mail(slow.endpointId, large(id)), messageId: id })))
      yield* settled
      assert.deepInclude(yield* books, { delivered: 2, held: 3 })
      slow.socket.readOn()
      yield* settled
      assert.deepStrictEqual(heads(slow.contents), ids)
      assert.deepInclude(yield* books, { delivered: 5, held: 0 })
    }).pipe(Effect.provide(broker(network, marks)))
  })

  it.scoped("gets nothing for an endpoint it registers meanwhile, until it reads", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const slow = yield* session(11)
      slow.socket.stopReading()
      network.deliver(...names("m", 4).map((id) => ({ ...mail(slow.endpointId, large(id)), messageId: id })))
      yield* settled
      const second = yield* slow.register({ kind: "second" })
      network.deliver(mail(second.endpointId, "for the second"))
      yield* settled
      assert.notInclude(slow.contents, "for the second")
      slow.socket.readOn()
      yield* settled
      assert.include(slow.contents, "for the second")
      const totals = (yield* Mailboxes).unsafeTotals()
      yield* drain(slow)
      assert.isAbove(totals.messages, 0)
      assert.deepStrictEqual((yield* Mailboxes).unsafeTotals(), { messages: 0, bytes: 0 })
    }).pipe(Effect.provide(broker(network, marks)))
  })
})
