import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { CorrelationIndex } from "../../src/services/CorrelationIndex.js"
import { Directory } from "../../src/services/Directory.js"
import { Inbox } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { ReplyCorrelations } from "../../src/services/ReplyCorrelations.js"
import { Router } from "../../src/services/Router.js"
import { type CoreOptions, core, type LogLine } from "../kit/core.js"
import { FakeNetwork, type Given } from "../kit/FakeNetwork.js"
import { FakePlatform, unavailable } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import {
  comeBack,
  commit,
  deadLetters,
  drain,
  jitter,
  mail,
  pass,
  quiet,
  type Session,
  session,
  settled
} from "../kit/steps.js"

interface Options extends Omit<CoreOptions, "settings" | "variants"> {
  readonly settings?: Partial<Settings>
  readonly platform?: FakePlatform
  readonly store?: FakeStore
}
const broker = ({ platform = new FakePlatform(), settings = {}, store = new FakeStore(), ...options }: Options = {}) =>
  core({
    ...options,
    settings: { ...quiet, ...settings },
    variants: { platform: platform.layer, store: store.layer }
  })

const keyOf = ({ endpointId }: Session) => Effect.map(Directory, (directory) => directory.unsafeGet(endpointId)!.key)
/** The endpoint has sent a message under this correlation id. */
const sent = (from: Session, correlationId: string) =>
  Effect.gen(function* () {
    const index = yield* CorrelationIndex
    const key = yield* keyOf(from)
    yield* commit((transaction) => index.unsafeAdd(transaction, key, correlationId))
  })
const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))
const item = (id: string) => Effect.map(Inbox, (inbox) => inbox.unsafeGet(id))
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())
const delivered = (network: FakeNetwork, ...messages: ReadonlyArray<Given>) =>
  Effect.suspend(() => {
    network.deliver(...messages)
    return settled
  })

describe("a message goes", () => {
  it.scoped("to the target it names, active or reconnecting, whatever its correlation id says", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const target = yield* session(11)
      const other = yield* session(12)
      yield* sent(other, "c")
      yield* delivered(network, mail(target.endpointId, "a", { correlation_id: "c" }))
      assert.deepStrictEqual(target.contents, ["a"])
      target.drop()
      yield* delivered(network, mail(target.endpointId, "b", { correlation_id: "c" }))
      yield* comeBack(target)
      yield* settled
      assert.deepStrictEqual(target.contents, ["a", "b"])
      assert.deepStrictEqual(other.contents, [])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped(
    "D16: else to the endpoint that sent its correlation id, without asking the platform about the target",
    () => {
      const network = new FakeNetwork()
      const platform = new FakePlatform()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        yield* sent(plugin, "c")
        yield* delivered(network, { content: "a", metadata: { correlation_id: "c" } })
        yield* delivered(network, mail("ep_unknown", "b", { correlation_id: "c" }))
        yield* delivered(network, mail("", "c", { correlation_id: "c" }))
        assert.deepStrictEqual(plugin.contents, ["a", "b", "c"])
        assert.deepStrictEqual(platform.lookups, [])
      }).pipe(Effect.provide(broker({ network, platform })))
    }
  )

  it.scoped("of several that sent it, to the first, and the log warns", () => {
    const network = new FakeNetwork()
    const log: Array<LogLine> = []
    return Effect.gen(function* () {
      const registeredFirst = yield* session(11)
      const sentFirst = yield* session(12)
      yield* sent(sentFirst, "c")
      yield* sent(registeredFirst, "c")
      yield* delivered(network, { content: "a", metadata: { correlation_id: "c" } })
      assert.deepStrictEqual(sentFirst.contents, ["a"])
      assert.deepStrictEqual(registeredFirst.contents, [])
      const warning = log.find(({ event }) => event === "correlation_id_collision")
      assert.deepInclude(warning, { level: "warn", fields: { message_id: "a", contenders: 2 } })
    }).pipe(Effect.provide(broker({ network, log })))
  })

  it.scoped("B12: never back to the endpoint it came from, unless that is its target", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const source = yield* session(11)
      const other = yield* session(12)
      yield* sent(source, "c")
      yield* sent(other, "c")
      yield* sent(source, "own")
      const from = { source_endpoint_id: source.endpointId }
      yield* delivered(network, { content: "a", metadata: { ...from, correlation_id: "c" } })
      yield* delivered(network, { content: "b", metadata: { ...from, correlation_id: "own" } })
      yield* delivered(network, mail(source.endpointId, "c", from))
      assert.deepStrictEqual(other.contents, ["a"])
      assert.deepStrictEqual(yield* undispatched, ["b"])
      assert.deepStrictEqual(source.contents, ["c"])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("to no endpoint of another agent than the network delivered it for", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const alice = yield* session(11, { agent_id: "alice" })
      const bob = yield* session(12, { agent_id: "bob" })
      yield* sent(alice, "c")
      yield* sent(bob, "c")
      yield* delivered(network, { ...mail(alice.endpointId, "a", { correlation_id: "c" }), recipient: "bob" })
      yield* delivered(network, { ...mail(alice.endpointId, "b"), recipient: "bob" })
      assert.deepStrictEqual(bob.contents, ["a"])
      assert.deepStrictEqual(alice.contents, [])
      assert.deepStrictEqual(yield* undispatched, ["b"])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("else to the inbox, accepted when that is durable", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      store.hold()
      yield* delivered(network, { content: "a", metadata: { target_endpoint_id: 7, correlation_id: ["c"], note: 1 } })
      assert.deepStrictEqual(network.accepted, [])
      store.release()
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a"])
      assert.deepInclude(yield* item("a"), { reason: "unaddressed" })
      assert.deepInclude((yield* item("a"))!.message.metadata, { target_endpoint_id: 7, note: 1 })
      assert.deepInclude(yield* books, { accepted: 1, inbox: 1 })
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("and the endpoint that gets it may answer under its correlation id, also when it is away", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* delivered(network, mail(plugin.endpointId, "a", { correlation_id: "c-1" }))
      plugin.drop()
      yield* delivered(network, mail(plugin.endpointId, "b", { correlation_id: "c-2" }))
      const replies = yield* ReplyCorrelations
      for (const id of ["c-1", "c-2"]) assert.strictEqual(replies.unsafeResolve(yield* keyOf(plugin), id), "resolved")
    }).pipe(Effect.provide(broker({ network })))
  })
})

describe("what arrives", () => {
  const kept = {
    source_endpoint_id: "ep_far",
    correlation_id: "c",
    in_reply_to: "d",
    require_live: true,
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    anything: { else: [1] }
  }

  it.scoped("E4, S10: loses the keys only this broker may set, and no other", () => {
    const network = new FakeNetwork()
    const forged = { dispatched_from: "gm-1", dispatched_by: "passport", delivery_intent: "external_handoff" }
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* delivered(network, mail(plugin.endpointId, "a", { ...kept, ...forged }))
      assert.deepStrictEqual(plugin.received[0]!.metadata, { ...kept, target_endpoint_id: plugin.endpointId })
      yield* delivered(network, { content: "b", metadata: { ...kept, ...forged } })
      assert.deepStrictEqual((yield* item("b"))!.message.metadata, kept)
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("gets a trace where it has none that is valid", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const traces = [undefined, null, " ", "00-xyz", 7, `00-${"0".repeat(32)}-b7ad6b7169203331-01`]
      const messages = traces.map((traceparent, index) => mail(plugin.endpointId, `m${index}`, { traceparent }))
      yield* delivered(network, ...messages, mail(plugin.endpointId, "kept", { traceparent: `  ${kept.traceparent} ` }))
      const given = plugin.received.map(({ metadata }) => String(metadata.traceparent))
      for (const trace of given) assert.match(trace, /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/)
      assert.strictEqual(given.at(-1), kept.traceparent)
      assert.strictEqual(new Set(given).size, given.length)
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("without an id gets one", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* delivered(network, { content: "a", messageId: undefined } as unknown as Given)
      const [first] = [...(yield* Inbox).unsafeItems()]
      assert.match(first!.message.id, /^[0-9a-f-]{36}$/)
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("after its time is accepted and booked as expired; a time nobody can read is ignored and counted", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* pass(10_000)
      const expiring = (expires_at: unknown) => mail(plugin.endpointId, String(expires_at), { expires_at })
      const iso = new Date(10_000).toISOString()
      yield* delivered(network, ...[9_999, 10_000, iso, 10_001, "soon", null].map(expiring))
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, ["10001", "soon", "null"])
      assert.strictEqual(network.accepted.length, 6)
      assert.deepInclude(yield* books, { accepted: 6, delivered: 3, expired: 3 })
      assert.strictEqual((yield* Router).unsafeStatus().invalidExpiries, 1)
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("S9: nested deeper than the limit is accepted as a dead letter", () => {
    const network = new FakeNetwork()
    const nested = (depth: number) => JSON.parse(`${'{"x":'.repeat(depth)}1${"}".repeat(depth)}`)
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* delivered(
        network,
        mail(plugin.endpointId, "fits", nested(64)),
        mail(plugin.endpointId, "deep", nested(65))
      )
      assert.deepStrictEqual(plugin.contents, ["fits"])
      const letters = yield* deadLetters
      assert.deepStrictEqual(
        letters.map(({ message, reason }) => [message.content, reason]),
        [["deep", "too_deep"]]
      )
      assert.deepStrictEqual(network.accepted, ["deep"])
      assert.deepInclude(yield* books, { accepted: 1, dead: 1 })
    }).pipe(Effect.provide(broker({ network })))
  })
})

describe("a message on which the router itself fails", () => {
  it.scoped("is told in the log and stays with the network; those beside it and after it go on", () => {
    const network = new FakeNetwork()
    const log: Array<LogLine> = []
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const metadata = Object.create(null, {
        target_endpoint_id: {
          enumerable: true,
          get: () => {
            throw new Error("a fault")
          }
        }
      })
      yield* delivered(
        network,
        mail(plugin.endpointId, "a"),
        { content: "poison", metadata },
        mail(plugin.endpointId, "b")
      )
      yield* delivered(network, mail(plugin.endpointId, "c"))
      assert.deepStrictEqual(plugin.contents, ["a", "b", "c"])
      yield* drain(plugin)
      assert.deepStrictEqual([network.accepted, network.releasedIds], [["a", "b", "c"], ["poison"]])
      assert.deepInclude(yield* books, { accepted: 3, delivered: 3, unaccounted: 0 })
      const told = log.filter(({ event }) => event === "message_not_routed")
      assert.deepStrictEqual(
        told.map(({ fields, level }) => [level, fields.message_id]),
        [["error", "poison"]]
      )
    }).pipe(Effect.provide(broker({ network, log })))
  })
})

describe("S9: a message over the network's limit", () => {
  it.scoped("is accepted as a dead letter with its size, and goes to nobody; those beside it go on", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      store.hold()
      const large = { ...mail(plugin.endpointId, "large"), bytes: 20_000_000, isTooLarge: true }
      yield* delivered(network, mail(plugin.endpointId, "a"), large, mail(plugin.endpointId, "b"), {
        content: "for nobody",
        bytes: 17_000_000,
        isTooLarge: true,
        redeliverable: false
      })
      assert.deepStrictEqual(plugin.contents, ["a", "b"])
      assert.deepStrictEqual(
        (yield* deadLetters).map(({ message, reason }) => [message.content, message.bytes, reason]),
        [
          ["large", 20_000_000, "too_large"],
          ["for nobody", 17_000_000, "too_large"]
        ]
      )
      assert.deepStrictEqual(yield* undispatched, [])
      assert.deepInclude(yield* books, { accepted: 2, dead: 2 })
      assert.deepStrictEqual(network.accepted, [], "D1: not before its letter is durable")
      store.release()
      yield* settled
      assert.deepStrictEqual(network.accepted, ["large", "for nobody"])
    }).pipe(Effect.provide(broker({ network, store })))
  })
})

describe("B1: a message whose id is in the inbox already", () => {
  it.scoped("is accepted and is still one message, at its place", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* delivered(network, { content: "a" }, { content: "b" })
      yield* delivered(network, { content: "again", messageId: "a" })
      assert.deepStrictEqual(yield* undispatched, ["a", "b"])
      assert.deepStrictEqual(network.accepted, ["a", "b", "a"])
      assert.deepInclude(yield* books, { accepted: 2, inbox: 2 })
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("D1: is not accepted before the first is durable", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      store.hold()
      yield* delivered(network, { content: "a" }, { content: "again", messageId: "a" })
      yield* delivered(network, { content: "and again", messageId: "a" })
      assert.deepStrictEqual(network.accepted, [])
      store.release()
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a", "a", "a"])
    }).pipe(Effect.provide(broker({ network, store })))
  })
})

describe("a message for an endpoint nobody knows here", () => {
  it.scoped("F28: continues a closed session where the platform says so, and else is unaddressed", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    platform.onLookup = (id) => Effect.succeed(id as "open" | "closed" | "unknown")
    return Effect.gen(function* () {
      yield* delivered(network, ...["closed", "open", "unknown"].map((target) => mail(target, `was ${target}`)))
      assert.deepInclude(yield* item("was closed"), {
        reason: "closed_session_continuation",
        originalTarget: "closed"
      })
      for (const id of ["was open", "was unknown"]) {
        assert.deepInclude(yield* item(id), { reason: "unaddressed" })
        assert.notProperty(yield* item(id), "originalTarget")
      }
    }).pipe(Effect.provide(broker({ network, platform })))
  })

  it.scoped("B2: waits for a slow answer, and what comes after it for the inbox waits behind; endpoints go on", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    const latch = Effect.unsafeMakeLatch(false)
    platform.onLookup = (id) => (id === "slow" ? latch.whenOpen(Effect.succeed("closed")) : Effect.succeed("closed"))
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* delivered(
        network,
        mail("slow", "a"),
        { content: "b" },
        mail("quick", "c"),
        mail(plugin.endpointId, "live")
      )
      yield* delivered(network, { content: "d" })
      assert.deepStrictEqual(yield* undispatched, [])
      assert.deepStrictEqual(plugin.contents, ["live"])
      assert.deepStrictEqual(platform.lookups, ["slow", "quick"], "both are asked at once")
      yield* latch.open
      yield* settled
      assert.deepStrictEqual(yield* undispatched, ["a", "b", "c", "d"])
      assert.deepInclude(yield* item("c"), { originalTarget: "quick" })
      assert.deepStrictEqual(network.accepted, ["a", "b", "c", "d"])
    }).pipe(Effect.provide(broker({ network, platform })))
  })

  it.scoped("waits two seconds at most, then it is unaddressed", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    const log: Array<LogLine> = []
    platform.onLookup = () => Effect.never
    return Effect.gen(function* () {
      yield* delivered(network, mail("slow", "a"), { content: "b" })
      yield* pass(1_999)
      assert.deepStrictEqual(yield* undispatched, [])
      yield* pass(1)
      assert.deepStrictEqual(yield* undispatched, ["a", "b"])
      assert.deepInclude(yield* item("a"), { reason: "unaddressed" })
      assert.isTrue(log.some(({ event, level }) => event === "closed_lookup_failed" && level === "warn"))
    }).pipe(Effect.provide(broker({ network, platform, log })))
  })

  it.scoped("asks once in five seconds, but again after a failure", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    platform.onLookup = () => unavailable()
    return Effect.gen(function* () {
      yield* delivered(network, mail("ep", "a"))
      platform.onLookup = () => Effect.succeed("closed")
      yield* delivered(network, mail("ep", "b"))
      yield* pass(4_999)
      yield* delivered(network, mail("ep", "c"))
      assert.strictEqual(platform.lookups.length, 2)
      yield* pass(1)
      yield* delivered(network, mail("ep", "d"))
      assert.strictEqual(platform.lookups.length, 3)
      for (const id of ["b", "c", "d"]) assert.deepInclude(yield* item(id), { originalTarget: "ep" })
      assert.deepInclude(yield* item("a"), { reason: "unaddressed" })
    }).pipe(Effect.provide(broker({ network, platform })))
  })

  it.scoped("waits at the network when too many wait for answers here, and comes in after them", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    const latch = Effect.unsafeMakeLatch(false)
    platform.onLookup = () => latch.whenOpen(Effect.succeed("unknown"))
    return Effect.gen(function* () {
      yield* jitter(1)
      yield* delivered(network, ...["a", "b", "c", "d"].map((id) => mail(`for ${id}`, id)))
      assert.deepStrictEqual(network.releasedIds, ["c", "d"])
      yield* latch.open
      yield* settled
      for (const wait of [5_000, 10_000, 20_000]) yield* pass(wait)
      assert.deepStrictEqual(yield* undispatched, ["a", "b", "c", "d"])
      assert.deepInclude(yield* books, { accepted: 4, inbox: 4 })
    }).pipe(Effect.provide(broker({ network, platform, settings: { holdBackMessages: 2 } })))
  })
})
