import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { Inbox } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Registration } from "../../src/services/Registration.js"
import { core, FakePlugin, settle } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"

const target = (endpointId: string) => ({ metadata: { target_endpoint_id: endpointId } })

describe("live delivery", () => {
  it.scoped("a push is accepted when its receipt comes, not before", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      yield* plugin.open
      const { endpointId } = yield* plugin.register()
      network.deliver({ content: "a", ...target(endpointId) })
      yield* settle
      assert.deepStrictEqual(plugin.contents, ["a"])
      assert.deepStrictEqual(network.accepted, [])
      plugin.acknowledge(...plugin.received)
      yield* settle
      assert.deepStrictEqual(network.accepted, ["a"])
      assert.strictEqual((yield* Ledger).unsafeBooks().unaccounted, 0)
    }).pipe(Effect.provide(core({ network })))
  })

  it.scoped("a push without receipt for 5 s is stored and accepted, and not pushed again", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      yield* plugin.open
      const { endpointId } = yield* plugin.register()
      network.deliver({ content: "a", ...target(endpointId) })
      yield* settle
      yield* TestClock.adjust("4999 millis")
      yield* settle
      assert.deepStrictEqual(network.accepted, [])
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.deepStrictEqual(network.accepted, ["a"])
      assert.deepStrictEqual(plugin.contents, ["a"])
      const books = (yield* Ledger).unsafeBooks()
      assert.deepInclude(books, { accepted: 1, held: 1, delivered: 0, unaccounted: 0 })
      plugin.acknowledge(...plugin.received)
      yield* settle
      assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 1, held: 0, delivered: 1, unaccounted: 0 })
    }).pipe(Effect.provide(core({ network })))
  })

  it.scoped("mail waits while the plugin is away and comes back in order", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      yield* plugin.open
      const { endpointId } = yield* plugin.register()
      plugin.drop()
      network.deliver(...["a", "b", "c"].map((content) => ({ content, ...target(endpointId) })))
      yield* settle
      assert.deepStrictEqual(network.accepted, ["a", "b", "c"])
      yield* plugin.open
      const undelivered = yield* (yield* Registration).reattach(endpointId, 11, { pid: 11, ownerToken: undefined })
      assert.strictEqual(undelivered, 3)
      yield* settle
      assert.deepStrictEqual(plugin.contents, ["a", "b", "c"])
    }).pipe(Effect.provide(core({ network })))
  })

  it.scoped("A5: mail of an endpoint whose grace is over becomes undispatched", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      yield* plugin.open
      const { endpointId } = yield* plugin.register()
      plugin.drop()
      network.deliver({ content: "a", ...target(endpointId) })
      yield* settle
      yield* TestClock.adjust("10 minutes")
      yield* settle
      const items = (yield* Inbox).unsafeList()
      assert.deepInclude(items[0], { reason: "closed_session_continuation", originalTarget: endpointId })
      assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 1, held: 0, inbox: 1, unaccounted: 0 })
    }).pipe(Effect.provide(core({ network })))
  })
})
