import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Directory } from "../../src/services/Directory.js"
import { Dispatch } from "../../src/services/Dispatch.js"
import { Inbox } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Registry } from "../../src/services/Registry.js"
import { ReplyCorrelations } from "../../src/services/ReplyCorrelations.js"
import { type CoreOptions, core } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { comeBack, drain, jitter, mail, names, quiet, session, settled } from "../kit/steps.js"

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

const dispatch = (id: string, target: string) => Effect.flatMap(Dispatch, (service) => service.dispatch(id, target))
const refusal = (id: string, target: string) => Effect.flip(dispatch(id, target))
const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))

describe("dispatch", () => {
  it.scoped("to an active endpoint pushes the message, stamped, and takes it out of the inbox", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver({ content: "hello?", messageId: "gm-1", metadata: { note: "kept", dispatched_by: "forged" } })
      yield* settled
      yield* dispatch("gm-1", plugin.endpointId)
      yield* settled
      assert.deepInclude(plugin.received[0], { from: "mstp://peer", content: "hello?", sourceMessageId: "gm-1" })
      const { traceparent, ...metadata } = plugin.received[0]!.metadata
      assert.deepStrictEqual(metadata, { note: "kept", dispatched_from: "gm-1", dispatched_by: "passport" })
      assert.match(String(traceparent), /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
      assert.notProperty(plugin.received[0], "redelivered")
      assert.deepStrictEqual(yield* undispatched, [])
      yield* drain(plugin)
      assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 1, delivered: 1, inbox: 0, held: 0 })
      assert.deepStrictEqual(network.accepted, ["gm-1"], "it was accepted once, when it entered the inbox")
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("A22: to a reconnecting endpoint keeps it for when the plugin is back", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      network.deliver({ content: "a" }, mail(plugin.endpointId, "b"))
      yield* settled
      yield* dispatch("a", plugin.endpointId)
      assert.strictEqual(store.recordsOf("mail").length, 2)
      assert.deepStrictEqual(store.recordsOf("inbox"), [])
      assert.strictEqual(yield* comeBack(plugin), 2)
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, ["b", "a"])
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped(
    "puts the message behind everything that waits for the endpoint, in flight or held, and before what comes",
    () => {
      const network = new FakeNetwork()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        network.deliver({ content: "dispatched" }, ...names("m", 5).map((id) => mail(plugin.endpointId, id)))
        yield* settled
        yield* dispatch("dispatched", plugin.endpointId)
        network.deliver(mail(plugin.endpointId, "last"))
        yield* settled
        assert.deepStrictEqual(plugin.contents, ["m1", "m2"])
        yield* drain(plugin)
        assert.deepStrictEqual(plugin.contents, [...names("m", 5), "dispatched", "last"])
      }).pipe(Effect.provide(broker({ network, settings: { windowMessages: 2 } })))
    }
  )

  it.scoped("A18: is done when it is durable, without waiting for the platform; nothing is pushed before", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver({ content: "a" })
      yield* settled
      store.hold()
      const done = yield* Effect.fork(dispatch("a", plugin.endpointId))
      yield* settled
      assert.isNull(done.unsafePoll())
      assert.deepStrictEqual(plugin.contents, [])
      store.release()
      yield* settled
      assert.isNotNull(done.unsafePoll())
      assert.deepStrictEqual(plugin.contents, ["a"])
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("lets the endpoint answer under the message's correlation id", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver({ content: "a", metadata: { correlation_id: "c-91" } })
      yield* settled
      const { key } = (yield* Directory).unsafeGet(plugin.endpointId)!
      const replies = yield* ReplyCorrelations
      assert.strictEqual(replies.unsafeResolve(key, "c-91"), "unknown_correlation_id")
      yield* dispatch("a", plugin.endpointId)
      assert.strictEqual(replies.unsafeResolve(key, "c-91"), "resolved")
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("tells the platform after the addition was told", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver({ content: "a" })
      yield* settled
      yield* dispatch("a", plugin.endpointId)
      yield* settled
      const events = platform.posts.flatMap((report) => (report._tag === "UndispatchedChanged" ? [report.event] : []))
      assert.deepStrictEqual(
        events.map(({ action }) => action),
        ["add", "dispatch"]
      )
      assert.deepStrictEqual(events[1], {
        type: "undispatched_changed",
        version: 1,
        action: "dispatch",
        undispatched_id: "a",
        dispatched_to_endpoint_id: plugin.endpointId
      })
    }).pipe(Effect.provide(broker({ network, platform })))
  })
})

describe("a dispatch that fails", () => {
  it.scoped("B6: to a missing target leaves the message at its place", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      network.deliver({ content: "a" }, { content: "b" })
      yield* settled
      const reports = platform.posts.length
      const error = yield* refusal("a", "ep_9")
      assert.strictEqual(error._tag, "dispatch_failed")
      assert.strictEqual(error.message, "target endpoint not found: ep_9")
      yield* settled
      assert.deepStrictEqual(yield* undispatched, ["a", "b"])
      assert.strictEqual(platform.posts.length, reports)
    }).pipe(Effect.provide(broker({ network, platform })))
  })

  it.scoped("names a message that is not there, first of all", () =>
    Effect.gen(function* () {
      const error = yield* refusal("gm-9", "ep_9")
      assert.strictEqual(error._tag, "dispatch_failed")
      assert.strictEqual(error.message, "unknown undispatched_id: gm-9")
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("happens to the second of two at once: a message is dispatched once", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const one = yield* session(11)
      const two = yield* session(12)
      network.deliver({ content: "a" })
      yield* settled
      const results = yield* Effect.all(
        [one, two].map(({ endpointId }) => Effect.either(dispatch("a", endpointId))),
        {
          concurrency: "unbounded"
        }
      )
      yield* settled
      assert.deepStrictEqual(
        results.map(({ _tag }) => _tag),
        ["Right", "Left"]
      )
      assert.deepStrictEqual([one.contents, two.contents], [["a"], []])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("because the record of the message is damaged leaves it where it is", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver({ content: "a" })
      yield* settled
      store.damage("inbox", store.keysOf("inbox")[0]!)
      const { _tag, message } = yield* refusal("a", plugin.endpointId)
      assert.strictEqual(_tag, "dispatch_failed")
      assert.include(message, "a is damaged")
      yield* settled
      assert.deepStrictEqual(plugin.contents, [])
      assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 1, inbox: 1, held: 0, unaccounted: 0 })
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("because the store cannot be written leaves the message where it is", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      const away = yield* session(12)
      network.deliver({ content: "a" }, { content: "b" })
      yield* settled
      store.failure = "no space left"
      away.drop()
      yield* settled
      assert.strictEqual((yield* refusal("a", plugin.endpointId))._tag, "store_unavailable")
      assert.deepStrictEqual(yield* undispatched, ["a", "b"])
      assert.deepStrictEqual(plugin.contents, [])
    }).pipe(Effect.provide(broker({ network, store })))
  })
})

it.scoped("a dispatched message comes back to the inbox when its endpoint ends before it took it", () => {
  const network = new FakeNetwork()
  return Effect.gen(function* () {
    const plugin = yield* session(11)
    const other = yield* session(12)
    network.deliver({ content: "a" })
    yield* settled
    yield* dispatch("a", plugin.endpointId)
    yield* settled
    plugin.drop()
    yield* settled
    yield* (yield* Registry).unregister(plugin.endpointId)
    yield* settled
    assert.deepStrictEqual(yield* undispatched, ["a"])
    yield* dispatch("a", other.endpointId)
    yield* settled
    assert.deepStrictEqual(other.contents, ["a"])
    assert.deepInclude(other.received[0]!.metadata, { dispatched_from: "a", dispatched_by: "passport" })
  }).pipe(Effect.provide(broker({ network })))
})
