import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { DeadLetterQueue } from "../../src/services/DeadLetterQueue.js"
import { Inbox } from "../../src/services/Inbox.js"
import { DeadEntry, DeadSummary } from "../../src/services/ipc/DeadLetterGroup.js"
import { Ledger } from "../../src/services/Ledger.js"
import { type CoreOptions, core, type FakePlugin } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform, refused } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { complaintOf } from "../kit/ground.js"
import { comeBack, drain, jitter, mail, pass, quiet, session, settled } from "../kit/steps.js"

interface Options extends Omit<CoreOptions, "variants"> {
  readonly platform?: FakePlatform
  readonly store?: FakeStore
}
/** One refusal is one too many. */
const broker = ({ platform = new FakePlatform(), settings = {}, store = new FakeStore(), ...options }: Options = {}) =>
  core({
    ...options,
    settings: { ...quiet, deliveryLimit: 1, ...settings },
    variants: { platform: platform.layer, store: store.layer }
  })

const list = Effect.map(DeadLetterQueue, (queue) => {
  const listed = queue.unsafeList()
  // What is listed is what the wire carries.
  const decoded = Schema.decodeUnknownSync(Schema.Array(DeadSummary))(JSON.parse(JSON.stringify(listed)))
  assert.deepStrictEqual(decoded, listed as typeof decoded)
  return listed
})
const onlyId = Effect.map(list, (all) => {
  assert.lengthOf(all, 1)
  return all[0]!.id
})
const retry = (id: string) => Effect.flatMap(DeadLetterQueue, (queue) => queue.retry(id))
const purge = (id: string) => Effect.flatMap(DeadLetterQueue, (queue) => queue.purge(id))
const show = (id: string) => Effect.flatMap(DeadLetterQueue, (queue) => queue.show(id))
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())
const inbox = Effect.map(Inbox, (service) => [...service.unsafeItems()])

/** Delivers the message and refuses it until it is dead. */
const bury = (
  network: FakeNetwork,
  plugin: FakePlugin & { readonly endpointId: string },
  content: string,
  metadata = {}
) =>
  Effect.gen(function* () {
    network.deliver(mail(plugin.endpointId, content, metadata))
    yield* settled
    plugin.refuse(plugin.received.findLast((frame) => frame.content === content)!)
    yield* settled
  })

const nested = (depth: number) => JSON.parse(`${'{"x":'.repeat(depth)}1${"}".repeat(depth)}`)

describe("the list", () => {
  it.scoped(
    "says id, when, why and whose of messages and reports, in the order they died, and nothing of their content",
    () => {
      const network = new FakeNetwork()
      const platform = new FakePlatform()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        yield* pass(1_000)
        yield* bury(network, plugin, "secret", { private: "private" })
        yield* pass(1_000)
        platform.onPost = () => refused
        plugin.drop()
        yield* settled
        const [message, report, ...rest] = yield* list
        assert.deepStrictEqual(rest, [])
        assert.match(message!.id, /^m-\w+$/)
        assert.match(report!.id, /^r-\w+$/)
        assert.deepStrictEqual(
          [message, report],
          [
            {
              id: message!.id,
              kind: "message",
              at: new Date(1_000).toISOString(),
              reason: "delivery_limit",
              endpoint_id: plugin.endpointId,
              from: "mstp://peer",
              message_id: "secret",
              bytes: 100
            },
            {
              id: report!.id,
              kind: "report",
              at: new Date(2_000).toISOString(),
              reason: refused.message,
              report: "EndpointState",
              lane: `endpoint:${plugin.endpointId}`
            }
          ]
        )
        assert.notInclude(JSON.stringify(message), "private")
      }).pipe(Effect.provide(broker({ network, platform })))
    }
  )

  it.scoped("one of them is shown whole, to the operator and never in the log", () => {
    const network = new FakeNetwork()
    const log: CoreOptions["log"] = []
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver({ ...mail(plugin.endpointId, "secret", { note: "private" }), messageId: "gm-1" })
      yield* settled
      plugin.refuse(plugin.received[0]!)
      yield* settled
      const entry = yield* show(yield* onlyId)
      assert.deepStrictEqual(Schema.decodeUnknownSync(DeadEntry)(JSON.parse(JSON.stringify(entry))), entry)
      assert.deepInclude(entry, { message_id: "gm-1", content: "secret", content_type: "text" })
      assert.deepInclude(entry.kind === "message" ? entry.metadata : {}, { note: "private" })
      yield* retry(entry.id)
      for (const hidden of ["secret", "private"]) assert.notInclude(JSON.stringify(log), hidden)
    }).pipe(Effect.provide(broker({ network, log })))
  })

  it.scoped("an id that is not there is refused by every operation, with the id", () =>
    Effect.gen(function* () {
      for (const id of ["m-1", "r-1", "x", "", "m-", "m-1/2"]) {
        for (const ask of [show, retry, purge]) assert.include(yield* complaintOf(ask(id)), `"${id}"`)
      }
    }).pipe(Effect.provide(broker()))
  )
})

describe("D11: a message that is retried", () => {
  it.scoped("goes to the end of its endpoint's mailbox, marked as redelivered, and the books follow", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      yield* bury(network, plugin, "a")
      assert.deepInclude(yield* books, { accepted: 1, dead: 1, held: 0 })
      plugin.drop()
      network.deliver(mail(plugin.endpointId, "b"))
      yield* settled
      const id = yield* onlyId
      assert.deepStrictEqual(yield* retry(id), { id, to: "mailbox", endpoint_id: plugin.endpointId })
      assert.deepInclude(yield* books, { accepted: 2, dead: 0, held: 2 })
      assert.deepStrictEqual([yield* list, store.recordsOf("dead_letters")], [[], []])
      yield* comeBack(plugin)
      yield* settled
      yield* drain(plugin)
      const received = plugin.received.map(({ content, redelivered }) => [content, redelivered ?? false])
      assert.deepStrictEqual(received, [
        ["b", false],
        ["a", true]
      ])
      assert.deepInclude(yield* books, { accepted: 2, delivered: 2, dead: 0, held: 0 })
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("has all its deliveries before it again", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      const refuse = Effect.gen(function* () {
        plugin.refuse(plugin.received.at(-1)!)
        yield* pass(30_000)
      })
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      yield* refuse
      yield* refuse
      yield* retry(yield* onlyId)
      yield* settled
      yield* refuse
      assert.deepStrictEqual(yield* list, [])
      yield* refuse
      yield* onlyId
      assert.deepInclude(yield* books, { accepted: 1, dead: 1, held: 0 })
    }).pipe(Effect.provide(broker({ network, settings: { deliveryLimit: 2 } })))
  })

  it.scoped("goes to the inbox for its endpoint when that is gone", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* bury(network, plugin, "a")
      plugin.drop()
      yield* pass(700_000)
      const id = yield* onlyId
      assert.deepStrictEqual(yield* retry(id), { id, to: "inbox" })
      const [item] = yield* inbox
      assert.deepInclude(item, { reason: "closed_session_continuation", originalTarget: plugin.endpointId })
      assert.deepInclude(yield* books, { accepted: 1, dead: 0, inbox: 1 })
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("S9: over a limit, is refused while it is, and routed as an arriving one once it is not", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        network.deliver({ content: "to nobody", metadata: nested(65) })
        yield* settled
        assert.match(yield* complaintOf(retry(yield* onlyId)), /deeper than 64 levels.*jsonDepth/)
        yield* onlyId
        assert.deepInclude(yield* books, { accepted: 1, dead: 1 })
      }).pipe(Effect.provide(broker({ network, store })))
      yield* Effect.gen(function* () {
        const plugin = yield* session(11)
        network.deliver(mail(plugin.endpointId, "to one", nested(66)))
        yield* settled
        const [first, second] = yield* list
        assert.deepInclude(yield* retry(first!.id), { to: "inbox" })
        assert.deepInclude((yield* inbox)[0], { reason: "unaddressed" })
        assert.include(yield* complaintOf(retry(second!.id)), "65 levels")
        // The first died in an earlier life: these books know it from now on.
        assert.deepInclude(yield* books, { accepted: 2, inbox: 1, dead: 1 })
      }).pipe(Effect.provide(broker({ network, store, settings: { jsonDepth: 65 } })))
    })
  })

  it.scoped("D4: over a limit, is never routed to an endpoint of another agent than it was delivered for", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const plugin = yield* session(11)
        const given = mail(plugin.endpointId, "a", nested(65))
        network.deliver({ ...given, recipient: "another" }, { ...given, content: "b", recipient: "agent" })
        yield* settled
      }).pipe(Effect.provide(broker({ network, store })))
      yield* Effect.gen(function* () {
        yield* settled
        const [another, own] = yield* list
        assert.deepInclude(yield* retry(another!.id), { to: "inbox" })
        assert.deepInclude(yield* retry(own!.id), { to: "mailbox" })
        yield* settled
      }).pipe(Effect.provide(broker({ network, store, settings: { jsonDepth: 65 } })))
    })
  })

  it.scoped("is refused when only the beginning of it was kept, with its size; it can be shown and purged", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver({ ...mail(plugin.endpointId, "beginning"), bytes: 20_000_000, isTooLarge: true })
      yield* settled
      const id = yield* onlyId
      assert.match(yield* complaintOf(retry(id)), /came in 20000000 bytes.*only its beginning/)
      assert.deepInclude(yield* show(id), { reason: "too_large", bytes: 20_000_000, content: "beginning" })
      yield* purge(id)
      assert.deepStrictEqual(yield* list, [])
      assert.deepInclude(yield* books, { accepted: 1, dead: 1 })
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("is refused once it has expired", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* bury(network, plugin, "a", { expires_at: 5_000 })
      yield* pass(4_999)
      const id = yield* onlyId
      yield* pass(1)
      assert.include(yield* complaintOf(retry(id)), "expired at 1970-01-01T00:00:05.000Z")
      assert.deepInclude(yield* books, { accepted: 1, dead: 1 })
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("moves in one commit: a broker killed at any moment has it once, here or there", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    const lie = () => [store.recordsOf("dead_letters").length, store.recordsOf("mail").length]
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const plugin = yield* session(11)
        yield* bury(network, plugin, "a")
        plugin.drop()
        yield* settled
        assert.deepStrictEqual(lie(), [1, 0])
        store.hold()
        const id = yield* onlyId
        // It waits for a write that never comes.
        yield* Effect.forkDaemon(retry(id))
        yield* settled
        assert.include(yield* complaintOf(retry(id)), id, "it is decided, though it is not durable")
        assert.deepStrictEqual(lie(), [1, 0])
        store.dropHeld()
      }).pipe(Effect.provide(broker({ network, store })))
      yield* Effect.gen(function* () {
        yield* settled
        yield* retry(yield* onlyId)
        assert.deepStrictEqual(lie(), [0, 1])
        assert.deepInclude(yield* books, { accepted: 1, held: 1, dead: 0 })
      }).pipe(Effect.provide(broker({ network, store })))
    })
  })

  it.scoped("stays dead while the store cannot be written", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      yield* bury(network, plugin, "a")
      store.failure = "no space left"
      plugin.drop()
      yield* settled
      const id = yield* onlyId
      for (const ask of [retry, purge]) assert.include(yield* complaintOf(ask(id)), "no space left")
      assert.include(yield* complaintOf(Effect.flatMap(DeadLetterQueue, ({ purgeAll }) => purgeAll)), "no space left")
      assert.strictEqual(yield* onlyId, id)
      store.failure = undefined
      yield* pass(100)
      yield* retry(id)
      assert.deepInclude(yield* books, { held: 1, dead: 0 })
    }).pipe(Effect.provide(broker({ network, store })))
  })
})

describe("D10: a report that is retried", () => {
  it.scoped("is posted, when it is still so", () => {
    const platform = new FakePlatform()
    platform.onPost = () => refused
    return Effect.gen(function* () {
      yield* settled
      const [presence] = yield* list
      assert.deepInclude(presence, { report: "NetworkPresenceChanged", lane: "presence" })
      platform.onPost = () => Effect.void
      assert.deepStrictEqual(yield* retry(presence!.id), { id: presence!.id, to: "outbox" })
      yield* settled
      assert.deepStrictEqual(
        platform.posts.map(({ _tag }) => _tag),
        ["NetworkPresenceChanged"]
      )
      assert.deepStrictEqual(yield* list, [])
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("is refused when things have changed since: the platform is not told of a state that is over", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* settled
      platform.onPost = () => refused
      plugin.drop()
      yield* settled
      const id = yield* onlyId
      platform.onPost = () => Effect.void
      yield* comeBack(plugin).pipe(Effect.zipRight(settled), Effect.provideService(Inbox, yield* Inbox))
      const before = platform.posts.length
      assert.include(yield* complaintOf(retry(id)), "no longer so")
      yield* settled
      assert.strictEqual(platform.posts.length, before)
      yield* purge(id)
      assert.deepStrictEqual(yield* list, [])
    }).pipe(Effect.provide(broker({ platform })))
  })
})

describe("D11: what is purged", () => {
  it.scoped("is gone for good; its messages stay dead in the books", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      for (const content of ["a", "b", "c"]) yield* bury(network, plugin, content)
      platform.onPost = () => refused
      plugin.drop()
      yield* settled
      const [first] = yield* list
      yield* purge(first!.id)
      assert.lengthOf(yield* list, 3)
      assert.strictEqual(yield* Effect.flatMap(DeadLetterQueue, ({ purgeAll }) => purgeAll), 3)
      assert.deepStrictEqual(yield* list, [])
      assert.deepStrictEqual([store.recordsOf("dead_letters"), store.recordsOf("outbox_dead")], [[], []])
      assert.deepInclude(yield* books, { accepted: 3, dead: 3, unaccounted: 0 })
    }).pipe(Effect.provide(broker({ network, platform, store })))
  })
})
