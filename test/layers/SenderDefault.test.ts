import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { ConnectorUnavailable, SendOutcomeUnknown, SendRejected } from "../../src/services/Connector.js"
import { CorrelationIndex } from "../../src/services/CorrelationIndex.js"
import { Directory } from "../../src/services/Directory.js"
import { Sender, type SendRequest } from "../../src/services/Sender.js"
import { Store } from "../../src/services/Store.js"
import { type CoreOptions, core, type LogLine } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakeStore } from "../kit/FakeStore.js"
import { jitter, mail, pass, quiet, type Session, session, settled } from "../kit/steps.js"

interface Options extends Omit<CoreOptions, "settings" | "variants"> {
  readonly settings?: Partial<Settings>
  readonly store?: FakeStore
}
const broker = ({ settings = {}, store = new FakeStore(), ...options }: Options = {}) =>
  core({ ...options, settings: { ...quiet, ...settings }, variants: { store: store.layer } })

const endpointOf = ({ endpointId }: Session) => Effect.map(Directory, (directory) => directory.unsafeGet(endpointId)!)
const send = (from: Session, given: Partial<SendRequest> = {}) =>
  Effect.gen(function* () {
    const request = {
      to: "mstp://peer",
      content: "hello",
      contentType: "text",
      metadata: {},
      requireLive: false,
      idempotencyKey: undefined,
      store: false
    }
    return yield* (yield* Sender).send(yield* endpointOf(from), { ...request, ...given })
  })
const refusal = (from: Session, given: Partial<SendRequest> = {}) => Effect.flip(send(from, given))
const senders = (id: string) =>
  Effect.gen(function* () {
    const directory = yield* Directory
    return (yield* CorrelationIndex).unsafeSenders(id).map((key) => directory.unsafeByKey(key)!.id as string)
  })
const correlationOf = (network: FakeNetwork, index = -1) => String(network.sent.at(index)!.metadata.correlation_id)

/** The endpoint receives a message with this correlation id. */
const receive = (network: FakeNetwork, to: Session, content: string, correlation_id: string) =>
  Effect.suspend(() => {
    network.deliver(mail(to.endpointId, content, { correlation_id }))
    return settled
  })

describe("what leaves", () => {
  it.scoped("is the plugin's message with what only the broker may say", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const metadata = { note: { deep: [1] }, source_endpoint_id: plugin.endpointId, require_live: false }
      const sent = yield* send(plugin, { contentType: "markdown", metadata, requireLive: true })
      const [out] = network.sent
      assert.deepStrictEqual(sent, { messageId: out!.messageId, status: "delivered", replyResolved: undefined })
      assert.deepInclude(out, { to: "mstp://peer", content: "hello", contentType: "markdown", requireLive: true })
      const { correlation_id, traceparent, ...rest } = out!.metadata
      assert.deepStrictEqual(rest, { note: { deep: [1] }, source_endpoint_id: plugin.endpointId, require_live: true })
      assert.match(String(correlation_id), /^[0-9a-f-]{36}$/)
      assert.match(String(traceparent), /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("has ids of its own each time, and names the agent only where it is not the account", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const agent = yield* session(11, { agent_id: "alice" })
      const account = yield* session(12, { agent_id: null })
      yield* send(agent)
      yield* send(account)
      const [first, second] = network.sent
      assert.strictEqual(first!.agent, "alice")
      assert.isUndefined(second!.agent)
      assert.notStrictEqual(first!.messageId, second!.messageId)
      assert.notStrictEqual(correlationOf(network, 0), correlationOf(network, 1))
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("keeps a valid traceparent, in its canonical form, and replaces any other", () => {
    const network = new FakeNetwork()
    const trace = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* send(plugin, { metadata: { traceparent: ` CC-${trace.toUpperCase()}-00 ` } })
      assert.strictEqual(network.sent[0]!.metadata.traceparent, `00-${trace}-00`)
      yield* send(plugin, { metadata: { traceparent: `00-${"0".repeat(32)}-b7ad6b7169203331-01` } })
      assert.match(String(network.sent[1]!.metadata.traceparent), /^00-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-01$/)
    }).pipe(Effect.provide(broker({ network })))
  })
})

describe("what a plugin may not say", () => {
  it.scoped("is refused by code, whatever the value, in this order, and nothing leaves", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const refused: ReadonlyArray<readonly [object, string]> = [
        [{ correlation_id: "c" }, "correlation_id_forbidden"],
        [{ correlation_id: null }, "correlation_id_forbidden"],
        [{ correlation_id: "c", target_endpoint_id: "t", source_endpoint_id: "s" }, "correlation_id_forbidden"],
        [{ target_endpoint_id: "t", source_endpoint_id: "s" }, "target_endpoint_id_forbidden"],
        [{ target_endpoint_id: null }, "target_endpoint_id_forbidden"],
        [{ source_endpoint_id: "ep_other" }, "source_endpoint_id_mismatch"],
        [{ source_endpoint_id: null }, "source_endpoint_id_mismatch"]
      ]
      for (const [metadata, code] of refused) {
        assert.strictEqual((yield* refusal(plugin, { metadata: { ...metadata } }))._tag, code, JSON.stringify(metadata))
      }
      assert.deepStrictEqual(network.sent, [])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("and not while it is away: a reconnecting endpoint is refused first of all", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      assert.strictEqual((yield* refusal(plugin, { metadata: { correlation_id: "c" } }))._tag, "endpoint_not_active")
      assert.deepStrictEqual(network.sent, [])
    }).pipe(Effect.provide(broker({ network })))
  })
})

describe("an answer", () => {
  it.scoped("goes out under the correlation id the endpoint received, and says so", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* receive(network, plugin, "question", "c-1")
      const sent = yield* send(plugin, { metadata: { in_reply_to: "c-1" } })
      assert.isTrue(sent.replyResolved)
      assert.deepInclude(network.sent[0]!.metadata, { correlation_id: "c-1", in_reply_to: "c-1" })
      assert.deepStrictEqual(yield* senders("c-1"), [plugin.endpointId])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("F23: to an unknown, foreign or expired id goes out under a new one, and says so", () => {
    const network = new FakeNetwork()
    const log: Array<LogLine> = []
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const other = yield* session(12)
      yield* receive(network, other, "for the other", "c-other")
      yield* receive(network, plugin, "old", "c-old")
      yield* pass(24 * 3_600_000)
      for (const in_reply_to of ["c-unknown", "c-old"]) {
        assert.isFalse((yield* send(plugin, { metadata: { in_reply_to } })).replyResolved)
        assert.deepInclude(network.sent.at(-1)!.metadata, { in_reply_to })
        assert.notStrictEqual(correlationOf(network), in_reply_to)
      }
      yield* receive(network, other, "again", "c-other")
      assert.isFalse((yield* send(plugin, { metadata: { in_reply_to: "c-other" } })).replyResolved)
      assert.notStrictEqual(correlationOf(network), "c-other")
      assert.deepStrictEqual(
        log.flatMap(({ event, fields }) => (event === "reply_aware_fallback" ? [fields.reason] : [])),
        ["unknown_correlation_id", "ttl_expired", "wrong_endpoint"]
      )
    }).pipe(Effect.provide(broker({ network, log, settings: { correlationSweepMs: 100 * 3_600_000 } })))
  })

  it.scoped("to nothing, or to something that is no id, is no answer", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      for (const in_reply_to of ["", 7, null, ["c"]]) {
        assert.isUndefined((yield* send(plugin, { metadata: { in_reply_to } })).replyResolved)
      }
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("B13: may come from each of two that received the question", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const one = yield* session(11)
      const two = yield* session(12)
      yield* receive(network, one, "question", "c-1")
      yield* receive(network, two, "the same to another", "c-1")
      for (const plugin of [one, two]) {
        assert.isTrue((yield* send(plugin, { metadata: { in_reply_to: "c-1" } })).replyResolved)
        assert.strictEqual(correlationOf(network), "c-1")
      }
    }).pipe(Effect.provide(broker({ network })))
  })
})

describe("B12: an answer that comes back through the network", () => {
  it.scoped("reaches the one who asked, not the one who sent it, though that one has the id, too", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const answering = yield* session(11)
      const asking = yield* session(12)
      yield* send(asking)
      const c = correlationOf(network)
      yield* receive(network, answering, "question", c)
      yield* send(answering, { metadata: { in_reply_to: c } })
      network.deliver({ content: "answer", metadata: network.sent.at(-1)!.metadata })
      yield* settled
      assert.deepStrictEqual(asking.contents, ["answer"])
      assert.deepStrictEqual(answering.contents, ["question"])
    }).pipe(Effect.provide(broker({ network })))
  })
})

describe("the correlation id", () => {
  it.scoped("is known before the message leaves, so that the quickest answer finds its way", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.answer = ({ messageId, metadata }) =>
        Effect.sync(() => {
          network.deliver({ content: "quick", metadata: { correlation_id: metadata.correlation_id } })
          return { messageId, status: "delivered" }
        })
      yield* send(plugin)
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["quick"])
    }).pipe(Effect.provide(broker({ network })))
  })

  for (const [what, error] of [
    ["never sent", new ConnectorUnavailable({ reason: "the link is down" })],
    ["rejected", new SendRejected({ code: "no_route", reason: "nobody there" })]
  ] as const) {
    it.scoped(`F24: of a message that was ${what} is forgotten, in memory and in the store`, () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        network.answer = () => error
        yield* refusal(plugin)
        yield* (yield* Store).flush
        yield* settled
        assert.deepStrictEqual(yield* senders(correlationOf(network)), [])
        assert.deepStrictEqual(store.recordsOf("correlation_sent"), [])
      }).pipe(Effect.provide(broker({ network, store })))
    })
  }

  it.scoped("F24: of an answer that was never sent is forgotten, unless the endpoint had it before", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* receive(network, plugin, "question", "c-1")
      yield* send(plugin)
      const own = correlationOf(network)
      yield* receive(network, plugin, "follow-up", own)
      network.answer = () => new ConnectorUnavailable({ reason: "the link is down" })
      yield* refusal(plugin, { metadata: { in_reply_to: own } })
      assert.deepStrictEqual(yield* senders(own), [plugin.endpointId], "it sent that one before")
      yield* refusal(plugin, { metadata: { in_reply_to: "c-1" } })
      assert.deepStrictEqual(yield* senders("c-1"), [])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped(
    "F24: of two answers at once is kept while one of them may have left, and forgotten when neither has",
    () => {
      const network = new FakeNetwork()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        yield* receive(network, plugin, "question", "c-1")
        const down = new ConnectorUnavailable({ reason: "the link is down" })
        const sendUntil = (end: Effect.Effect<void, ConnectorUnavailable>) =>
          Effect.gen(function* () {
            const latch = Effect.unsafeMakeLatch()
            network.answer = ({ messageId }) => Effect.as(latch.whenOpen(end), { messageId, status: "delivered" })
            const fiber = yield* Effect.fork(Effect.exit(send(plugin, { metadata: { in_reply_to: "c-1" } })))
            yield* settled
            return Effect.zipRight(latch.open, Fiber.join(fiber))
          })
        for (const second of [down, Effect.void]) {
          const endFirst = yield* sendUntil(down)
          const endSecond = yield* sendUntil(second)
          yield* endFirst
          assert.deepStrictEqual(yield* senders("c-1"), [plugin.endpointId], "the other one is under way")
          yield* endSecond
          assert.deepStrictEqual(yield* senders("c-1"), second === down ? [] : [plugin.endpointId])
        }
      }).pipe(Effect.provide(broker({ network })))
    }
  )

  it.scoped("of a message whose outcome is not known is kept: an answer may come", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.answer = ({ messageId }) => new SendOutcomeUnknown({ messageId, reason: "no answer in time" })
      yield* refusal(plugin)
      yield* settled
      network.deliver({ content: "answer", metadata: { correlation_id: correlationOf(network) } })
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["answer"])
      assert.strictEqual(store.recordsOf("correlation_sent").length, 1)
    }).pipe(Effect.provide(broker({ network, store })))
  })
})

describe("D9: what the plugin is answered", () => {
  it.scoped("comes when the network has answered and the correlation id is durable", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    const latch = Effect.unsafeMakeLatch(false)
    network.answer = ({ messageId }) => Effect.as(latch.await, { messageId, status: "stored" as const })
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      store.hold()
      const sending = yield* Effect.fork(send(plugin))
      yield* settled
      assert.strictEqual(network.sent.length, 1, "sending does not wait for the store")
      yield* latch.open
      yield* settled
      assert.isNull(sending.unsafePoll())
      store.release()
      assert.strictEqual((yield* Fiber.join(sending)).status, "stored")
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("F10: tells surely not sent, not known, and refused apart", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.answer = () => new ConnectorUnavailable({ reason: "the link is down" })
      assert.deepInclude(yield* refusal(plugin), { _tag: "connector_unavailable", retryable: true })
      network.answer = ({ messageId }) => new SendOutcomeUnknown({ messageId, reason: "no answer in time" })
      assert.deepInclude(yield* refusal(plugin), { _tag: "connector_send_outcome_unknown", retryable: false })
      network.answer = () => new SendRejected({ code: "no_route", reason: "nobody there" })
      assert.deepInclude(yield* refusal(plugin), { _tag: "connector_rejected", code: "no_route" })
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("is a refusal, and nothing leaves, while the store cannot be written", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      const away = yield* session(12)
      store.failure = "no space left"
      away.drop()
      yield* settled
      assert.deepInclude(yield* refusal(plugin), { _tag: "store_unavailable", retryable: true })
      assert.deepStrictEqual(network.sent, [])
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("is a refusal, and nothing leaves, while there is too little room for new mail", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      store.shortage = { since: 0, reason: "the disk has 3 MiB free" }
      const refused = yield* refusal(plugin)
      assert.deepInclude(refused, { _tag: "store_unavailable", retryable: true })
      assert.include(refused.message, "No new mail is taken: the disk has 3 MiB free.")
      assert.deepStrictEqual(network.sent, [])
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped(
    "is told in time when what was sent cannot be written down: it is not known then, and under its key it is later",
    () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      return Effect.gen(function* () {
        yield* jitter(1)
        const plugin = yield* session(11)
        network.answer = ({ messageId }) => {
          store.failure = "no space left"
          return Effect.succeed({ messageId, status: "delivered" as const })
        }
        const waiting = yield* Effect.fork(refusal(plugin, { idempotencyKey: "k" }))
        yield* settled
        assert.strictEqual(network.sent.length, 1)
        yield* pass(3_000)
        assert.deepInclude(yield* Fiber.join(waiting), { _tag: "connector_send_outcome_unknown" })
        store.failure = undefined
        yield* pass(30_000)
        assert.deepInclude(yield* send(plugin, { idempotencyKey: "k" }), { status: "delivered" })
        assert.strictEqual(network.sent.length, 1)
      }).pipe(Effect.provide(broker({ network, store })))
    }
  )

  it.scoped("is told in time when its key cannot be written down: it is not sent then, nor later", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      store.failure = "no space left"
      const waiting = yield* Effect.fork(refusal(plugin, { idempotencyKey: "k" }))
      yield* settled
      yield* pass(3_000)
      assert.deepInclude(yield* Fiber.join(waiting), { _tag: "store_unavailable", retryable: true })
      store.failure = undefined
      yield* pass(30_000)
      assert.strictEqual(network.sent.length, 0)
      yield* send(plugin, { idempotencyKey: "k" })
      assert.strictEqual(network.sent.length, 1)
    }).pipe(Effect.provide(broker({ network, store })))
  })
})
