import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import {
  ConnectorUnavailable,
  type SendError,
  SendOutcomeUnknown,
  type SendReceipt,
  SendRejected
} from "../../src/services/Connector.js"
import { Directory, type Endpoint } from "../../src/services/Directory.js"
import { Registry } from "../../src/services/Registry.js"
import { Sender, type SendRequest } from "../../src/services/Sender.js"
import { SendQueue } from "../../src/services/SendQueue.js"
import { table } from "../../src/services/Store.js"
import { core, type LogLine } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, pass, quiet, type Session, session, settled } from "../kit/steps.js"

interface Options {
  readonly network: FakeNetwork
  readonly store?: FakeStore
  readonly settings?: Partial<Settings>
  readonly log?: Array<LogLine>
}
const broker = ({ log = [], network, settings = {}, store = new FakeStore() }: Options) =>
  core({ network, log, settings: { ...quiet, ...settings }, variants: { store: store.layer } })

const sendAs = (endpoint: Endpoint, content: string, given: Partial<SendRequest> = {}) =>
  Effect.flatMap(Sender, (sender) =>
    sender.send(endpoint, {
      to: "mstp://peer",
      content,
      contentType: "text",
      metadata: {},
      requireLive: false,
      idempotencyKey: undefined,
      store: false,
      ...given
    })
  )
const endpointOf = ({ endpointId }: Session) => Effect.map(Directory, (directory) => directory.unsafeGet(endpointId)!)
const send = (from: Session, content: string, given: Partial<SendRequest> = {}) =>
  Effect.flatMap(endpointOf(from), (endpoint) => sendAs(endpoint, content, given))
const keyed = (from: Session, content: string, idempotencyKey = "k", given: Partial<SendRequest> = {}) =>
  send(from, content, { idempotencyKey, ...given })
const contents = (network: FakeNetwork) => network.sent.map(({ content }) => content)
const unreachable = () => new ConnectorUnavailable({ reason: "no link" })
const uncertain = ({ messageId }: { messageId: string }) => new SendOutcomeUnknown({ messageId, reason: "no answer" })

describe("D9, F25: the same idempotency key again", () => {
  it.scoped("is sent once and answered alike; another key, or another endpoint, is another message", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const [a, b] = [yield* session(11), yield* session(12)]
      const first = yield* keyed(a, "x", "k", { metadata: { one: 1, two: { three: [3], four: 4 } } })
      const again = yield* keyed(a, "x", "k", { metadata: { two: { four: 4, three: [3] }, one: 1 } })
      assert.deepStrictEqual(again, first)
      assert.deepStrictEqual(contents(network), ["x"])
      yield* keyed(a, "x", "other")
      yield* keyed(b, "x")
      assert.deepStrictEqual(contents(network), ["x", "x", "x"])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("with other content, address or metadata is a conflict, and nothing is sent", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const a = yield* session(11)
      yield* keyed(a, "x")
      for (const given of [{ content: "y" }, { to: "mstp://other" }, { metadata: { a: 1 } }, { requireLive: true }]) {
        const refusal = yield* Effect.flip(keyed(a, "x", "k", given))
        assert.strictEqual(refusal._tag, "idempotency_conflict")
        assert.include(refusal.message, '"k"')
      }
      assert.strictEqual(network.sent.length, 1)
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("while the first is under way waits for its answer", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const a = yield* session(11)
      const answer = yield* Deferred.make<SendReceipt, SendError>()
      const answered: Effect.Effect<SendReceipt, SendError> = Deferred.await(answer)
      network.answer = () => answered
      const both = [yield* Effect.fork(keyed(a, "x")), yield* Effect.fork(keyed(a, "x"))]
      yield* settled
      assert.deepStrictEqual(contents(network), ["x"])
      const receipt: SendReceipt = { messageId: network.sent[0]!.messageId, status: "stored" }
      yield* Deferred.succeed(answer, receipt)
      const [one, two] = yield* Fiber.join(Fiber.all(both))
      assert.deepStrictEqual(one, two)
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("is sent again after a refusal that says it was not sent", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const a = yield* session(11)
      network.answer = unreachable
      assert.strictEqual((yield* Effect.flip(keyed(a, "x")))._tag, "connector_unavailable")
      network.answer = () => new SendRejected({ code: "full", reason: "later" })
      assert.strictEqual((yield* Effect.flip(keyed(a, "x")))._tag, "connector_rejected")
      network.answer = ({ messageId }) => Effect.succeed({ messageId, status: "delivered" })
      assert.strictEqual((yield* keyed(a, "x")).status, "delivered")
      assert.strictEqual(network.sent.length, 3)
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("is answered that nobody knows, where its outcome is not known and it might arrive twice", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const a = yield* session(11)
      network.answer = uncertain
      for (let turn = 0; turn < 2; turn++) {
        assert.strictEqual((yield* Effect.flip(keyed(a, "x")))._tag, "connector_send_outcome_unknown")
      }
      assert.strictEqual(network.sent.length, 1)
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("is the very same message again, where the network delivers an id once", () => {
    const network = new FakeNetwork()
    network.abilities = { ...network.abilities, dedupesSends: true }
    return Effect.gen(function* () {
      const a = yield* session(11)
      network.answer = uncertain
      yield* Effect.flip(keyed(a, "x"))
      network.answer = ({ messageId }) => Effect.succeed({ messageId, status: "delivered" })
      const { messageId } = yield* keyed(a, "x")
      assert.deepStrictEqual(
        network.sent.map((sent) => [sent.messageId, sent.metadata.correlation_id, sent.mayBeKnown]),
        [undefined, true].map((mayBeKnown) => [messageId, network.sent[0]!.metadata.correlation_id, mayBeKnown])
      )
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("finds its key durable, whenever the broker died after the message left", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const a = yield* session(11)
      store.hold()
      yield* Effect.fork(keyed(a, "x"))
      yield* settled
      assert.deepStrictEqual(network.sent, [])
      network.answer = () => {
        assert.lengthOf(store.recordsOf("idempotency"), 1)
        return Effect.never
      }
      store.release()
      yield* settled
      assert.strictEqual(network.sent.length, 1)
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("is not overtaken while its key is written, not by messages without one either", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const [a, b] = [yield* session(11), yield* session(12)]
      store.hold()
      for (const [from, content, idempotencyKey] of [
        [a, "1", undefined],
        [a, "2", "k"],
        [a, "3", undefined],
        [b, "other", undefined]
      ] as const) {
        yield* Effect.fork(send(from, content, { idempotencyKey }))
      }
      yield* settled
      assert.deepStrictEqual(contents(network), ["1", "other"])
      store.release()
      yield* settled
      assert.deepStrictEqual(contents(network), ["1", "other", "2", "3"])
      yield* send(a, "4")
      assert.strictEqual(contents(network).at(-1), "4")
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("is another message after 24 hours, and beyond the number that is remembered", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const a = yield* session(11)
      yield* keyed(a, "x")
      yield* pass(86_399_999)
      yield* keyed(a, "x")
      assert.strictEqual(network.sent.length, 1)
      yield* pass(1)
      for (let turn = 0; turn < 2; turn++) yield* keyed(a, "x")
      assert.strictEqual(network.sent.length, 2, "and then remembered afresh")
      for (const key of ["k2", "k3"]) yield* keyed(a, "x", key)
      yield* keyed(a, "x")
      assert.strictEqual(network.sent.length, 5)
    }).pipe(Effect.provide(broker({ network, settings: { idempotencyKeys: 2 } })))
  })

  it.scoped("leaves no record once its endpoint is gone", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const a = yield* session(11)
      yield* keyed(a, "x")
      assert.strictEqual(store.recordsOf("idempotency").length, 1)
      yield* (yield* Registry).unregister(a.endpointId)
      assert.deepStrictEqual(store.recordsOf("idempotency"), [])
    }).pipe(Effect.provide(broker({ network, store })))
  })
})

describe("an endpoint that ends while it sends", () => {
  const delayed = <A, E, R>(steps: number, then: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    steps === 0 ? then : Effect.suspend(() => delayed(steps - 1, then))
  const left = (store: FakeStore) =>
    ["idempotency", "correlation_sent", "send_queue"].flatMap((name) => store.keysOf(name))

  const outcomes: ReadonlyArray<readonly [string, FakeNetwork["answer"]]> = [
    ["sent", ({ messageId }) => Effect.succeed({ messageId, status: "stored" })],
    ["not sent", unreachable],
    ["sent or not, nobody knows", uncertain]
  ]
  for (const [what, outcome] of outcomes) {
    it.scoped(`leaves nothing behind when the message was ${what}`, () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      return Effect.gen(function* () {
        const a = yield* session(11)
        const gone = yield* Deferred.make<void>()
        network.answer = (message) => Effect.zipRight(Deferred.await(gone), outcome(message))
        const sends = yield* Effect.forEach(["k", undefined], (idempotencyKey) =>
          Effect.fork(send(a, "x", { idempotencyKey }))
        )
        yield* settled
        assert.strictEqual(network.sent.length, 2)
        yield* (yield* Registry).unregister(a.endpointId)
        yield* Deferred.succeed(gone, undefined)
        yield* Fiber.await(Fiber.all(sends))
        yield* settled
        assert.deepStrictEqual(left(store), [])
      }).pipe(Effect.provide(broker({ network, store })))
    })
  }

  it.scoped("leaves nothing behind, between whichever steps of the send that is", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const registry = yield* Registry
      const outcomes = new Set<string>()
      // A fiber waits after about two thousand steps.
      for (let steps = 2_010; steps < 2_050; steps++) {
        for (const idempotencyKey of ["k", undefined]) {
          const a = yield* session(steps)
          const sends = Effect.either(sendAs(yield* endpointOf(a), "x", { idempotencyKey }))
          const sending = yield* Effect.fork(delayed(steps, sends))
          yield* Effect.yieldNow()
          yield* registry.unregister(a.endpointId)
          const outcome = yield* Fiber.join(sending)
          outcomes.add(outcome._tag === "Left" ? outcome.left._tag : "sent")
          yield* settled
          assert.deepStrictEqual(left(store), [], `after ${steps} steps`)
        }
      }
      assert.deepStrictEqual(outcomes, new Set(["sent", "endpoint_not_active"]))
    }).pipe(Effect.provide(broker({ network, store })))
  })
})

describe("D9: a message sent with store", () => {
  const up = (network: FakeNetwork) => network.setLink({ state: "up", since: 0 })
  const down = (network: FakeNetwork) => network.setLink({ state: "down", since: 0, reason: "cut" })

  it.scoped(
    "waits for the network, durable, and goes out in order when it is there; without store it is refused",
    () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      return Effect.gen(function* () {
        const a = yield* session(11)
        yield* down(network)
        network.answer = unreachable
        for (const content of ["1", "2"]) {
          assert.strictEqual((yield* send(a, content, { store: true })).status, "queued")
        }
        assert.strictEqual((yield* Effect.flip(send(a, "now")))._tag, "connector_unavailable")
        assert.strictEqual(store.recordsOf("send_queue").length, 2)
        network.answer = ({ messageId }) => Effect.succeed({ messageId, status: "delivered" })
        network.sent.length = 0
        yield* up(network)
        yield* pass(0)
        assert.deepStrictEqual(contents(network), ["1", "2"])
        assert.deepStrictEqual(store.recordsOf("send_queue"), [])
        assert.strictEqual((yield* send(a, "3", { store: true })).status, "delivered")
      }).pipe(Effect.provide(broker({ network, store })))
    }
  )

  it.scoped("goes behind what waits already", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const a = yield* session(11)
      network.answer = unreachable
      yield* send(a, "1", { store: true })
      assert.strictEqual((yield* send(a, "2", { store: true })).status, "queued")
      network.answer = ({ messageId }) => Effect.succeed({ messageId, status: "delivered" })
      network.sent.length = 0
      yield* pass(30_000)
      assert.deepStrictEqual(contents(network), ["1", "2"])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("goes out after a restart", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      network.answer = unreachable
      yield* down(network)
      yield* Effect.flatMap(session(11), (a) => send(a, "1", { store: true })).pipe(
        Effect.provide(broker({ network, store }))
      )
      network.answer = ({ messageId }) => Effect.succeed({ messageId, status: "delivered" })
      network.sent.length = 0
      yield* up(network)
      yield* pass(10).pipe(Effect.provide(broker({ network, store })))
      assert.deepStrictEqual(contents(network), ["1"])
    })
  })

  it.scoped(
    "is given up after 24 hours, when it is refused, and when its outcome stays unknown; the rest goes on",
    () => {
      const network = new FakeNetwork()
      const log: Array<LogLine> = []
      return Effect.gen(function* () {
        const a = yield* session(11)
        network.answer = unreachable
        yield* down(network)
        yield* send(a, "old", { store: true })
        yield* pass(86_400_000)
        assert.strictEqual((yield* SendQueue).unsafeStatus().givenUp, 1)
        for (const content of ["refused", "uncertain", "fine"]) yield* send(a, content, { store: true })
        network.answer = ({ content, messageId }) =>
          content === "refused"
            ? new SendRejected({ code: "no", reason: "never" })
            : content === "uncertain"
              ? uncertain({ messageId })
              : Effect.succeed({ messageId, status: "delivered" })
        yield* up(network)
        yield* pass(100)
        assert.deepStrictEqual((yield* SendQueue).unsafeStatus(), { waiting: 0, givenUp: 3 })
        assert.strictEqual(contents(network).at(-1), "fine")
        assert.strictEqual(log.filter(({ event }) => event === "queued_send_given_up").length, 3)
      }).pipe(Effect.provide(broker({ network, log })))
    }
  )

  it.scoped("is refused when too many wait, or too many bytes, and taken again when there is room", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const a = yield* session(11)
      network.answer = unreachable
      yield* down(network)
      const queue = (content: string) =>
        Effect.match(send(a, content, { store: true }), {
          onFailure: ({ _tag }) => _tag,
          onSuccess: ({ status }) => status
        })
      assert.strictEqual(yield* queue("é".repeat(1_000)), "queued")
      assert.strictEqual(yield* queue("é".repeat(1_000)), "connector_unavailable")
      assert.strictEqual(yield* queue("2"), "queued")
      assert.strictEqual(yield* queue("3"), "connector_unavailable")
      network.answer = ({ messageId }) => Effect.succeed({ messageId, status: "delivered" })
      yield* up(network)
      yield* pass(100)
      network.answer = unreachable
      yield* down(network)
      assert.strictEqual(yield* queue("é".repeat(1_000)), "queued")
    }).pipe(Effect.provide(broker({ network, settings: { sendQueue: 2, sendQueueBytes: 3_000 } })))
  })

  it.scoped("whose record is damaged is given up, and the rest goes on", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const a = yield* session(11)
      network.answer = unreachable
      yield* down(network)
      for (const content of ["lost", "fine"]) yield* send(a, content, { store: true })
      const [key] = store.keysOf("send_queue")
      yield* commit((transaction) => transaction.delete(table("send_queue", 1), key!))
      network.answer = ({ messageId }) => Effect.succeed({ messageId, status: "delivered" })
      network.sent.length = 0
      yield* up(network)
      yield* pass(100)
      assert.deepStrictEqual(contents(network), ["fine"])
      assert.deepStrictEqual((yield* SendQueue).unsafeStatus(), { waiting: 0, givenUp: 1 })
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("keeps its correlation id: the answer finds the endpoint", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const a = yield* session(11)
      network.answer = unreachable
      yield* down(network)
      yield* send(a, "question", { store: true })
      network.answer = ({ messageId }) => Effect.succeed({ messageId, status: "delivered" })
      yield* up(network)
      yield* pass(0)
      network.deliver({ content: "answer", metadata: { correlation_id: network.sent.at(-1)!.metadata.correlation_id } })
      yield* settled
      assert.deepStrictEqual(a.contents, ["answer"])
    }).pipe(Effect.provide(broker({ network })))
  })
})
