import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, FastCheck, Layer, Option } from "effect"
import * as ConnectorLoopback from "../../src/layers/ConnectorLoopback.js"
import * as CorrelationIndexStore from "../../src/layers/CorrelationIndexStore.js"
import * as DirectoryMemory from "../../src/layers/DirectoryMemory.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Connector, type InboundItem, type OutboundMessage } from "../../src/services/Connector.js"
import { connectorContract, Outside } from "../../src/services/contracts/ConnectorContract.js"
import { Directory } from "../../src/services/Directory.js"
import { Inbox } from "../../src/services/Inbox.js"
import type { Metadata } from "../../src/services/model/Metadata.js"
import { Registry } from "../../src/services/Registry.js"
import { Sender } from "../../src/services/Sender.js"
import { core, FakePlugin, groundWith, settle } from "../kit/core.js"
import { FakeStore } from "../kit/FakeStore.js"
import { names, pass, quiet, settled } from "../kit/steps.js"

const { addressOf, parseAddress } = ConnectorLoopback

/** The network alone, before anybody registered. */
const alone = (store = new FakeStore(), settings: Partial<Settings> = {}) =>
  ConnectorLoopback.layer.pipe(
    Layer.provide(Layer.mergeAll(DirectoryMemory.layer, CorrelationIndexStore.layer)),
    Layer.provideMerge(store.layer),
    Layer.provide(groundWith({ settings }))
  )

const message = (to: string, content: string, given: Partial<OutboundMessage> = {}): OutboundMessage => ({
  messageId: content,
  to,
  content,
  contentType: "text",
  metadata: {},
  agent: undefined,
  requireLive: false,
  ...given
})
const send = (to: string, content: string, given: Partial<OutboundMessage> = {}) =>
  Effect.flatMap(Connector, (connector) => connector.send(message(to, content, given)))
const refusal = (to: string, given: Partial<OutboundMessage> = {}) =>
  Effect.map(Effect.flip(send(to, "refused", given)), (error) =>
    error._tag === "SendRejected" ? error.code : error._tag
  )

/** What is there for a handler that begins now. */
const received = Effect.scoped(
  Effect.flatMap(Connector, (connector) =>
    Effect.suspend(() => {
      const contents: Array<string> = []
      const add = (batch: ReadonlyArray<InboundItem>) => void contents.push(...batch.map(({ content }) => content))
      return Effect.as(connector.receive(add), contents)
    })
  )
)

/** Messages from outside come from the account itself, to the account itself: nobody else is there. */
const ownOutside = Layer.effect(
  Outside,
  Effect.map(Connector, (connector) => ({
    deliver: (...contents: ReadonlyArray<string>) =>
      Effect.forEach(contents, (content) => connector.send(message("local:default", content)), { discard: true }).pipe(
        Effect.orDie
      ),
    reachable: "local:default",
    unreachable: "local:nobody",
    arrived: Effect.provideService(received, Connector, connector)
  }))
)
const ownNetwork = (store = new FakeStore()) => Layer.fresh(ownOutside.pipe(Layer.provideMerge(alone(store))))
connectorContract(
  "ConnectorLoopback",
  Layer.suspend(() => ownNetwork()),
  { reopened: Effect.sync(() => ownNetwork(new FakeStore())) }
)

/** A whole broker on it. */
const broker = (settings: Partial<Settings> = {}) =>
  core({ settings: { ...quiet, ...settings }, variants: { connector: ConnectorLoopback.layer } })

const session = (pid: number, agent_id?: string) =>
  Effect.gen(function* () {
    const plugin = new FakePlugin(pid)
    yield* plugin.open
    const { endpointId } = yield* plugin.register({ agent_id: agent_id ?? null })
    return Object.assign(plugin, { endpointId })
  })
/** Sends as an endpoint does. */
const makeAsk = Effect.gen(function* () {
  const sender = yield* Sender
  const directory = yield* Directory
  return {
    ask: (from: string, to: string, content: string, metadata: Metadata = {}) =>
      sender
        .send(directory.unsafeGet(from)!, {
          to,
          content,
          contentType: "text",
          metadata,
          requireLive: false,
          idempotencyKey: undefined,
          store: false
        })
        .pipe(Effect.zipLeft(settled))
  }
})
const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))

describe("addresses", () => {
  it("name an agent, or one endpoint of it, whatever characters they have", () => {
    assert.strictEqual(addressOf("alice"), "local:alice")
    assert.strictEqual(addressOf("a/b c", "ep:1"), "local:a%2Fb%20c/ep%3A1")
    const part = FastCheck.fullUnicodeString({ minLength: 1 })
    FastCheck.assert(
      FastCheck.property(part, FastCheck.option(part, { nil: undefined }), (agent, endpointId) => {
        assert.deepStrictEqual(parseAddress(addressOf(agent, endpointId)), { agent, endpointId })
      })
    )
  })

  it.scoped("of another kind are rejected", () =>
    Effect.gen(function* () {
      const wrong = ["", "local:", "local:/ep", "local:a/", "local:a/b/c", "mstp://acme.example/bob", "LOCAL:a"]
      for (const to of [...wrong, "local:%zz", "local:default/%", " local:default"]) {
        assert.strictEqual(yield* refusal(to), "address_invalid", to)
      }
    }).pipe(Effect.provide(alone()))
  )

  it.scoped("L4: of a sender whose agent id is no proper text do not make a send fail with a fault of the broker", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(send("local:default", "a", { agent: "half a character: \ud800" }))
      assert.isFalse(Exit.isFailure(exit) && Cause.isDie(exit.cause))
    }).pipe(Effect.provide(alone()))
  )

  it.scoped("of an agent reach it without a target; of an endpoint, with it; metadata travels unchanged", () =>
    Effect.gen(function* () {
      const bob = yield* session(12, "bob")
      const metadata = { correlation_id: "c", source_endpoint_id: "ep_x", note: { deep: [1] } }
      yield* send(`local:bob/${bob.endpointId}`, "to the endpoint", { agent: "al/ice", metadata })
      yield* settled
      assert.deepInclude(bob.received[0], { from: "local:al%2Fice", content: "to the endpoint" })
      assert.deepInclude(bob.received[0]!.metadata, { ...metadata, target_endpoint_id: bob.endpointId })
      yield* send("local:bob", "to the agent", { metadata })
      yield* settled
      const [item] = [...(yield* Inbox).unsafeItems()]
      assert.deepInclude(item?.message, { from: "local:default", content: "to the agent" })
      assert.deepInclude(item?.message.metadata, metadata)
      assert.notProperty(item?.message.metadata, "target_endpoint_id")
      assert.deepInclude(item, { reason: "unaddressed" })
    }).pipe(Effect.provide(broker()))
  )
})

describe("who is there", () => {
  it.scoped("an agent that never registered is rejected; the account itself and one that left are not", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* refusal("local:bob"), "recipient_unknown")
      assert.strictEqual((yield* send("local:default", "to the account")).status, "stored")
      const bob = yield* session(12, "bob")
      yield* (yield* Registry).unregister(bob.endpointId)
      assert.strictEqual((yield* send("local:bob", "bob left")).status, "stored")
      yield* settled
      assert.deepStrictEqual(yield* undispatched, ["to the account", "bob left"])
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("an endpoint is no address of another agent", () =>
    Effect.gen(function* () {
      const bob = yield* session(12, "bob")
      yield* session(13, "carol")
      assert.strictEqual(yield* refusal(`local:carol/${bob.endpointId}`), "recipient_unknown")
      yield* settled
      assert.deepStrictEqual(bob.contents, [])
      assert.deepStrictEqual(yield* undispatched, [])
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("an active endpoint: delivered; one that reconnects, or is gone: stored", () =>
    Effect.gen(function* () {
      const bob = yield* session(12, "bob")
      const address = addressOf("bob", bob.endpointId)
      assert.strictEqual((yield* send(address, "a")).status, "delivered")
      bob.drop()
      assert.strictEqual((yield* send(address, "b")).status, "stored")
      yield* settled
      yield* (yield* Registry).unregister(bob.endpointId)
      yield* settled
      assert.strictEqual((yield* send(address, "c")).status, "stored")
      yield* settled
      assert.deepStrictEqual(yield* undispatched, ["a", "b", "c"])
      assert.strictEqual((yield* Inbox).unsafeGet("c")?.reason, "closed_session_continuation")
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("require_live is rejected without an active endpoint, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const bob = yield* session(12, "bob")
      const address = addressOf("bob", bob.endpointId)
      const live = { requireLive: true }
      assert.strictEqual((yield* send(address, "a", live)).status, "delivered")
      assert.strictEqual(yield* refusal("local:bob", live), "recipient_not_live", "no endpoint of bob is named")
      bob.drop()
      assert.strictEqual(yield* refusal(address, live), "recipient_not_live")
      yield* settled
      assert.deepStrictEqual(bob.contents, ["a"])
      assert.deepStrictEqual(yield* undispatched, [])
    }).pipe(Effect.provide(broker()))
  )
})

describe("conversations", () => {
  it.scoped("B12: an answer finds the one who asked by its correlation id, and never its own sender", () =>
    Effect.gen(function* () {
      const alice = yield* session(11, "alice")
      const bob = yield* session(12, "bob")
      const { ask } = yield* makeAsk
      yield* ask(alice.endpointId, addressOf("bob", bob.endpointId), "question")
      const c = bob.received[0]!.metadata.correlation_id
      yield* ask(bob.endpointId, "local:alice", "answer", { in_reply_to: c })
      assert.deepStrictEqual(alice.contents, ["answer"])
      assert.strictEqual(alice.received[0]!.metadata.correlation_id, c)
      yield* ask(alice.endpointId, "local:bob", "thanks", { in_reply_to: c })
      assert.deepStrictEqual(bob.contents, ["question", "thanks"])
      assert.deepStrictEqual(alice.contents, ["answer"])
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("B12: two sessions of one agent in one conversation do not get their own messages", () =>
    Effect.gen(function* () {
      const first = yield* session(11)
      const second = yield* session(12)
      const { ask } = yield* makeAsk
      yield* ask(second.endpointId, addressOf("default", first.endpointId), "question")
      const c = first.received[0]!.metadata.correlation_id
      yield* ask(first.endpointId, "local:default", "answer", { in_reply_to: c })
      assert.deepStrictEqual(first.contents, ["question"])
      assert.deepStrictEqual(second.contents, ["answer"])
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("a correlation id never carries a message to a third agent", () =>
    Effect.gen(function* () {
      const alice = yield* session(11, "alice")
      const bob = yield* session(12, "bob")
      const carol = yield* session(13, "carol")
      const { ask } = yield* makeAsk
      yield* ask(alice.endpointId, addressOf("bob", bob.endpointId), "question")
      const { correlation_id } = bob.received[0]!.metadata
      assert.strictEqual((yield* send("local:carol", "for carol", { metadata: { correlation_id } })).status, "stored")
      const metadata = { correlation_id, target_endpoint_id: alice.endpointId }
      assert.strictEqual((yield* send("local:carol", "too", { metadata })).status, "stored")
      yield* settled
      for (const { contents } of [alice, carol]) assert.deepStrictEqual(contents, [])
      assert.deepStrictEqual(yield* undispatched, ["for carol", "too"])
    }).pipe(Effect.provide(broker()))
  )
})

describe("what it keeps", () => {
  it.scoped("no more than its limit: then a send is surely not sent, until something is accepted", () =>
    Effect.gen(function* () {
      const connector = yield* Connector
      const batch: Array<InboundItem> = []
      yield* connector.receive((items) => void batch.push(...items))
      for (const content of ["a", "b"]) yield* send("local:default", content)
      assert.strictEqual(yield* refusal("local:default"), "ConnectorUnavailable")
      connector.unsafeAccept([batch[0]!.token])
      yield* send("local:default", "c")
      assert.deepStrictEqual(
        batch.map(({ content }) => content),
        ["a", "b", "c"]
      )
    }).pipe(Effect.provide(alone(new FakeStore(), { loopbackPending: 2 })))
  )

  it.scoped("nor more bytes than its limit, counted per receiver: others are sent to", () =>
    Effect.gen(function* () {
      const bob = yield* session(11, "bob")
      yield* session(12, "carol")
      // Two pushes that wait for their receipts.
      for (const content of ["a", "b"]) yield* send(addressOf("bob", bob.endpointId), content.repeat(600))
      assert.strictEqual(yield* refusal(addressOf("bob", bob.endpointId)), "ConnectorUnavailable")
      assert.strictEqual((yield* send("local:carol", "to another")).status, "stored")
      bob.acknowledge(bob.received[0]!)
      yield* settled
      assert.strictEqual((yield* send(addressOf("bob", bob.endpointId), "c")).status, "delivered")
    }).pipe(Effect.provide(broker({ loopbackBytes: 1_000 })))
  )

  it.scoped("a send is answered when the message is durable, not before", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      store.hold()
      const sending = yield* Effect.fork(send("local:default", "a"))
      yield* settle
      assert.isNull(sending.unsafePoll())
      store.release()
      yield* settle
      assert.isTrue(Option.isSome(yield* sending.poll))
    }).pipe(Effect.provide(alone(store)))
  })

  it.scoped("D2: what was not accepted comes again after a restart, in order", () => {
    const store = new FakeStore()
    const given = names("m", 12)
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const connector = yield* Connector
        for (const content of given) yield* send("local:default", content)
        const batch: Array<InboundItem> = []
        yield* connector.receive((items) => void batch.push(...items))
        connector.unsafeAccept([batch[1]!.token, batch[4]!.token])
        connector.unsafeRelease([batch[0]!.token])
        yield* settle
      }).pipe(Effect.scoped, Effect.provide(alone(store)))
      yield* Effect.gen(function* () {
        yield* send("local:default", "new")
        const again = yield* received
        assert.deepStrictEqual(again, [...given.filter((one) => one !== "m2" && one !== "m5"), "new"])
      }).pipe(Effect.provide(alone(store)))
    })
  })

  it.scoped("the same id again is answered when the message is durable, not before", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      store.hold()
      yield* Effect.fork(send("local:default", "a"))
      yield* settle
      const again = yield* Effect.fork(send("local:default", "a"))
      yield* settle
      assert.isNull(again.unsafePoll())
      store.release()
      yield* settle
      assert.isNotNull(again.unsafePoll())
    }).pipe(Effect.provide(alone(store)))
  })

  it.scoped("the same id again is answered as before, whoever is there by now", () =>
    Effect.gen(function* () {
      const bob = yield* session(12, "bob")
      const address = addressOf("bob", bob.endpointId)
      const first = yield* send(address, "a", { requireLive: true })
      bob.drop()
      assert.deepStrictEqual(yield* send(address, "a", { requireLive: true }), first)
      yield* settled
      assert.deepStrictEqual(bob.contents, ["a"])
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("a message that waits since before a restart is not taken twice when it is sent again", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* send("local:default", "a").pipe(Effect.provide(alone(store)))
      yield* Effect.gen(function* () {
        yield* send("local:default", "a")
        assert.deepStrictEqual(yield* received, ["a"])
      }).pipe(Effect.provide(alone(store)))
    })
  })

  it.scoped("D5: one that is sent again and is not known here any more is marked: its receiver may have it", () =>
    Effect.gen(function* () {
      const bob = yield* session(12, "bob")
      yield* send(addressOf("bob", bob.endpointId), "a", { mayBeKnown: true })
      yield* send(addressOf("bob", bob.endpointId), "b")
      yield* settled
      assert.deepStrictEqual(
        bob.received.map(({ content, redelivered }) => [content, redelivered]),
        [
          ["a", true],
          ["b", undefined]
        ]
      )
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("what was accepted within the handler leaves no record", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const connector = yield* Connector
      yield* connector.receive((batch) => connector.unsafeAccept(batch.map(({ token }) => token)))
      yield* send("local:default", "a")
      yield* pass(0)
      assert.deepStrictEqual(store.recordsOf("loopback"), [])
    }).pipe(Effect.provide(alone(store)))
  })

  it.scoped("what was asked for again while nobody received comes with the next handler", () =>
    Effect.gen(function* () {
      const connector = yield* Connector
      yield* send("local:default", "a")
      yield* Effect.scoped(connector.receive((batch) => connector.unsafeRelease(batch.map(({ token }) => token))))
      connector.unsafeRedeliver()
      assert.deepStrictEqual(yield* received, ["a"])
    }).pipe(Effect.provide(alone()))
  )
})
