import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Inbox } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Mailboxes } from "../../src/services/Mailboxes.js"
import { Registry } from "../../src/services/Registry.js"
import { Router } from "../../src/services/Router.js"
import { type CoreOptions, core, type LogLine } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { jitter, mail, names, pass, quiet, session, settled } from "../kit/steps.js"

const broker = (network: FakeNetwork, settings: Partial<Settings> = {}, variants: CoreOptions["variants"] = {}) =>
  core({ network, settings: { ...quiet, ...settings }, variants })
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())
const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))
const unregister = (endpointId: string) => Effect.flatMap(Registry, (registry) => registry.unregister(endpointId))
const heldBack = Effect.map(Router, (router) =>
  router.unsafeStatus().heldBack.map(({ destination, waiting }) => ({ destination, waiting }))
)

describe("D7: the end of a mailbox", () => {
  it.scoped(
    "hands what is in flight, stored and beyond the window to the inbox, in order, however full that is",
    () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      const platform = new FakePlatform()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        const ids = names("m", 14)
        network.deliver(...ids.slice(0, 3).map((id) => mail(plugin.endpointId, id)))
        yield* settled
        network.deliver(...ids.slice(3).map((id) => mail(plugin.endpointId, id)))
        yield* settled
        plugin.acknowledge(plugin.received[0]!, plugin.received[2]!)
        yield* settled
        const left = ids.filter((id) => id !== "m1" && id !== "m3")
        yield* unregister(plugin.endpointId)
        yield* settled
        assert.deepStrictEqual(yield* undispatched, left)
        for (const { originalTarget, reason } of [...(yield* Inbox).unsafeItems()]) {
          assert.deepStrictEqual(
            { originalTarget, reason },
            {
              originalTarget: plugin.endpointId,
              reason: "closed_session_continuation"
            }
          )
        }
        assert.deepStrictEqual([...network.accepted].sort(), [...ids].sort())
        assert.deepStrictEqual(store.recordsOf("mail"), [])
        assert.deepStrictEqual((yield* Mailboxes).unsafeTotals(), { messages: 0, bytes: 0 })
        assert.deepInclude(yield* books, { accepted: 14, delivered: 2, held: 0, inbox: 12 })
        const reported = platform.posts.flatMap((report) =>
          report._tag === "UndispatchedChanged" && report.event.action === "add" ? [report.event.undispatched_id] : []
        )
        assert.deepStrictEqual([...reported].sort(), [...left].sort())
      }).pipe(
        Effect.provide(
          broker(network, { windowMessages: 4, inboxMessages: 2 }, { store: store.layer, platform: platform.layer })
        )
      )
    }
  )

  it.scoped("also while writes are under way: everything once, nothing accepted before it is durable", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const ids = names("m", 12)
      network.deliver(...ids.slice(0, 8).map((id) => mail(plugin.endpointId, id)))
      yield* settled
      store.hold()
      network.deliver(...ids.slice(8).map((id) => mail(plugin.endpointId, id)))
      yield* settled
      yield* Effect.fork(unregister(plugin.endpointId))
      yield* settled
      assert.deepStrictEqual([...network.accepted].sort(), names("m", 8))
      store.release()
      yield* settled
      assert.deepStrictEqual(yield* undispatched, ids)
      assert.deepStrictEqual(store.recordsOf("mail"), [])
      assert.strictEqual(store.recordsOf("inbox").length, 12)
      assert.deepStrictEqual([...network.accepted].sort(), [...ids].sort())
      assert.deepInclude(yield* books, { accepted: 12, held: 0, inbox: 12 })
    }).pipe(Effect.provide(broker(network, { windowMessages: 3 }, { store: store.layer })))
  })

  it.scoped("a little at a time, however much it is: others' writes come in between", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      const ids = names("m", 4_000)
      network.deliver(...ids.map((id) => mail(plugin.endpointId, id)))
      yield* settled
      store.largestWrite = 0
      yield* unregister(plugin.endpointId)
      yield* settled
      assert.deepStrictEqual(yield* undispatched, ids)
      assert.isBelow(store.largestWrite, 2_000)
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("by bytes as well, and of one endpoint at a time: a write needs room beside all that is there", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugins = [yield* session(11), yield* session(12)]
      const ids = plugins.flatMap((plugin, at) => {
        plugin.drop()
        return names(`m${at}-`, 40).map((id) => ({ ...mail(plugin.endpointId, id), bytes: 2 ** 20 }))
      })
      network.deliver(...ids)
      yield* settled
      store.largestWrite = 0
      yield* Effect.forEach(plugins, ({ endpointId }) => unregister(endpointId), { concurrency: "unbounded" })
      yield* settled
      assert.strictEqual((yield* undispatched).length, 80)
      // Of each message: its record goes, another comes, and the platform is told.
      assert.isBelow(store.largestWrite, 60)
    }).pipe(Effect.provide(broker(network, { windowMessages: 4 }, { store: store.layer })))
  })

  const faults: ReadonlyArray<readonly [string, ReadonlyArray<number>]> = [
    ["at once", [1]],
    ["in the middle of a page, and again", [3, 4]]
  ]
  for (const [when, fails] of faults) {
    it.scoped(`goes on after a read that failed ${when}: everything once and in order`, () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      const log: Array<LogLine> = []
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        const other = yield* session(12)
        const ids = names("m", 20)
        for (const away of [plugin, other]) {
          away.drop()
          network.deliver(...ids.map((id) => mail(away.endpointId, `${away.endpointId}-${id}`)))
        }
        yield* settled
        let reads = 0
        store.onRange = (table) => {
          if (table === "mail" && fails.includes(++reads)) throw new Error("it cannot be read")
        }
        yield* unregister(plugin.endpointId)
        yield* unregister(other.endpointId)
        yield* settled
        assert.isBelow((yield* undispatched).length, 40)
        yield* pass(1_000)
        yield* settled
        const expected = [plugin, other].flatMap(({ endpointId }) => ids.map((id) => `${endpointId}-${id}`))
        assert.deepStrictEqual(yield* undispatched, expected)
        assert.deepInclude(yield* books, { accepted: 40, held: 0, inbox: 40 })
        assert.deepStrictEqual([store.keysOf("mail"), store.keysOf("mail_moves")], [[], []])
        const failed = log.filter(({ event }) => event === "background_fiber_failed")
        assert.deepStrictEqual(
          failed.map(({ fields }) => fields.fiber),
          ["backlog"]
        )
      }).pipe(
        Effect.provide(
          core({ log, network, settings: { ...quiet, windowMessages: 1 }, variants: { store: store.layer } })
        )
      )
    })
  }

  it.scoped("what arrives for the endpoint afterwards comes behind its backlog, however long that is", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    platform.onLookup = () => Effect.succeed("closed")
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      const ids = names("m", 4_000)
      network.deliver(...ids.map((id) => mail(plugin.endpointId, id)))
      yield* settled
      yield* Effect.fork(unregister(plugin.endpointId))
      yield* Effect.yieldNow()
      network.deliver(mail(plugin.endpointId, "later"))
      yield* settled
      assert.deepInclude(yield* books, { accepted: 4_001, held: 0, inbox: 4_001 })
      assert.strictEqual((yield* undispatched).indexOf("later"), 4_000)
    }).pipe(Effect.provide(broker(network, { windowMessages: 10, inboxMessages: 5_000 }, { platform: platform.layer })))
  })

  it.scoped("of what has a time: it is over in the inbox, once, and nothing of it stays where the mailbox was", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const here = yield* session(12)
      plugin.drop()
      const ids = names("m", 10)
      network.deliver(...ids.map((id) => mail(plugin.endpointId, id, { expires_at: 1_000 })))
      network.deliver(mail(here.endpointId, "n", { expires_at: 1_000 }))
      yield* settled
      yield* unregister(plugin.endpointId)
      yield* unregister(here.endpointId)
      yield* settled
      assert.deepInclude(yield* books, { accepted: 11, held: 0, inbox: 11 })
      assert.deepStrictEqual(store.recordsOf("mail_expiry"), [])
      yield* pass(1_000)
      assert.deepInclude(yield* books, { accepted: 11, held: 0, inbox: 0, expired: 11 })
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("is no failed delivery: what was refused before is not dead for it", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      plugin.refuse(plugin.received[0]!)
      yield* pass(1_000)
      assert.strictEqual(plugin.received.length, 2)
      yield* unregister(plugin.endpointId)
      yield* settled
      assert.deepStrictEqual(yield* undispatched, ["a"])
      assert.deepInclude(yield* books, { dead: 0, inbox: 1 })
    }).pipe(Effect.provide(broker(network, { deliveryLimit: 2 })))
  })

  it.scoped("lets in what its quota held back: to the inbox, behind the rest", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    platform.onLookup = () => Effect.succeed("closed")
    return Effect.gen(function* () {
      const away = yield* session(11)
      away.drop()
      network.deliver(...names("m", 4).map((id) => mail(away.endpointId, id)))
      yield* settled
      assert.deepStrictEqual(network.releasedIds, ["m3", "m4"])
      yield* unregister(away.endpointId)
      yield* pass(5_000)
      assert.deepStrictEqual(yield* undispatched, names("m", 4))
      assert.deepStrictEqual(yield* heldBack, [])
      assert.deepInclude(yield* books, { accepted: 4, inbox: 4 })
    }).pipe(Effect.provide(broker(network, { mailboxMessages: 2 }, { platform: platform.layer })))
  })
})
