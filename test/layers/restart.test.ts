/** D2: what one life of the broker leaves in the store, the next one takes up. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Directory } from "../../src/services/Directory.js"
import { Inbox } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Mailboxes } from "../../src/services/Mailboxes.js"
import { MessageId } from "../../src/services/model/Ids.js"
import { join, ordered } from "../../src/services/model/StoreKey.js"
import { PlatformError } from "../../src/services/PlatformApi.js"
import { Registration } from "../../src/services/Registration.js"
import { Registry } from "../../src/services/Registry.js"
import { table } from "../../src/services/Store.js"
import { core, FakePlugin, type FakeProcesses, withReceipts } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, drain, mail, names, pass, quiet, session, settled } from "../kit/steps.js"

const notFound = new PlatformError({ kind: "refused", status: 404, code: "not_found", reason: "no such record" })

interface World {
  readonly store: FakeStore
  readonly network?: FakeNetwork
  readonly platform?: FakePlatform
  readonly processes?: FakeProcesses
  readonly settings?: Partial<Settings>
}
/** One life of the broker. */
const life = ({ network = new FakeNetwork(), platform = new FakePlatform(), processes, settings, store }: World) =>
  core({
    network,
    settings: { ...quiet, ...settings },
    variants: { store: store.layer, platform: platform.layer },
    ...(processes === undefined ? {} : { processes })
  })
const tagOf = (id: string) => Effect.map(Directory, (directory) => directory.unsafeGet(id)?.state._tag)
const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())

describe("D2: after a restart", () => {
  it.scoped("an endpoint waits for its plugin with id, token and mail, and gets it in order", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const network = new FakeNetwork()
      const ids = names("m", 300)
      const before = yield* Effect.gen(function* () {
        const plugin = yield* session(11, { session_name: "work" })
        network.deliver(mail(plugin.endpointId, "pushed"))
        yield* settled
        plugin.drop()
        network.deliver(...ids.map((id) => mail(plugin.endpointId, id)), { content: "for nobody" })
        yield* settled
        return plugin
      }).pipe(Effect.provide(life({ store, network })))

      yield* Effect.gen(function* () {
        assert.strictEqual(yield* tagOf(before.endpointId), "Reconnecting")
        assert.deepStrictEqual(yield* undispatched, ["for nobody"])
        assert.deepInclude(yield* books, { accepted: 302, held: 301, inbox: 1, unaccounted: 0 })
        const plugin = new FakePlugin(11)
        yield* plugin.open
        const again = yield* Effect.orDie(plugin.register({ session_name: "work" }))
        assert.deepStrictEqual(
          [again.endpointId, again.ownerToken, again.resumed],
          [before.endpointId, before.ownerToken, true]
        )
        yield* drain(plugin)
        assert.deepStrictEqual(plugin.contents, ["pushed", ...ids])
        assert.deepStrictEqual(
          plugin.received.filter(({ redelivered }) => redelivered === true).map(({ content }) => content),
          ["pushed"],
          "only what the plugin may know is marked"
        )
        assert.deepInclude(yield* books, { delivered: 301, held: 0, inbox: 1, unaccounted: 0 })
        assert.deepStrictEqual(store.recordsOf("mail"), [])
      }).pipe(Effect.provide(life({ store })))
    })
  )

  it.scoped("it may also be taken back by reattach, or by another process with its token", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const sessions = yield* Effect.all([session(11), session(12, {}, [...withReceipts, "endpoint_resume_v1"])]).pipe(
        Effect.provide(life({ store }))
      )
      yield* Effect.gen(function* () {
        const registration = yield* Registration
        const [a, b] = sessions
        const plugin = new FakePlugin(11)
        yield* plugin.open
        yield* registration.reattach(a.endpointId, 11, { pid: 11, ownerToken: undefined })
        const other = new FakePlugin(99)
        yield* other.open
        const resumed = yield* other.register({
          resume: { endpoint_id: b.endpointId, endpoint_owner_token: b.ownerToken }
        })
        assert.strictEqual(resumed.endpointId, b.endpointId)
        assert.deepStrictEqual([yield* tagOf(a.endpointId), yield* tagOf(b.endpointId)], ["Active", "Active"])
      }).pipe(Effect.orDie, Effect.provide(life({ store })))
    })
  )

  it.scoped("one that nobody comes back for goes through its grace period, and its mail becomes undispatched", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const network = new FakeNetwork()
      const platform = new FakePlatform()
      const { endpointId } = yield* Effect.gen(function* () {
        const plugin = yield* session(11)
        plugin.drop()
        network.deliver(...names("m", 600).map((id) => mail(plugin.endpointId, id)))
        yield* settled
        return plugin
      }).pipe(Effect.provide(life({ store, network })))

      yield* Effect.gen(function* () {
        yield* pass(599_999)
        assert.strictEqual(yield* tagOf(endpointId), "Reconnecting")
        yield* pass(1)
        yield* settled
        assert.isUndefined(yield* tagOf(endpointId))
        assert.deepStrictEqual(yield* undispatched, names("m", 600))
        assert.deepStrictEqual(platform.statesOf(endpointId), [
          "reconnecting/broker_restart",
          "closed/grace_timeout",
          "removed"
        ])
      }).pipe(Effect.provide(life({ store, platform, settings: { inboxMessages: 1_000 } })))
      assert.deepStrictEqual(store.recordsOf("endpoints"), [])
    })
  )

  it.scoped("mail whose time came meanwhile has left, and mail whose time comes leaves then", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const network = new FakeNetwork()
      yield* Effect.gen(function* () {
        const plugin = yield* session(11)
        plugin.drop()
        network.deliver(
          mail(plugin.endpointId, "a", { expires_at: 1_000 }),
          mail(plugin.endpointId, "b"),
          mail(plugin.endpointId, "an id that no key can hold", { expires_at: 3_000 })
        )
        yield* settled
      }).pipe(Effect.provide(life({ store, network })))
      yield* pass(2_000)

      yield* Effect.gen(function* () {
        yield* pass(1)
        assert.deepInclude(yield* books, { accepted: 3, held: 2, expired: 1 })
        yield* pass(998)
        assert.deepInclude(yield* books, { held: 2, expired: 1 })
        const mailboxes = yield* Mailboxes
        assert.isTrue(mailboxes.unsafeHolds(MessageId("an id that no key can hold")))
        yield* pass(1)
        assert.isFalse(mailboxes.unsafeHolds(MessageId("an id that no key can hold")))
        assert.deepInclude(yield* books, { held: 1, expired: 2, unaccounted: 0 })
        assert.deepStrictEqual([store.recordsOf("mail").length, store.recordsOf("mail_expiry").length], [1, 0])
      }).pipe(Effect.provide(life({ store })))
    })
  )

  it.scoped("the times of mail that is gone go, each when it has come", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const goneAt = (time: number) => join(ordered(time), ordered(1), ordered(1), "1", "gone")
      yield* commit((transaction) => {
        for (const time of [0, 5_000]) transaction.put(table("mail_expiry", 1), goneAt(time), true)
      }).pipe(Effect.provide(life({ store })))
      yield* Effect.gen(function* () {
        yield* settled
        assert.deepStrictEqual(store.keysOf("mail_expiry"), [goneAt(5_000)])
        yield* pass(5_000)
        assert.deepStrictEqual(store.keysOf("mail_expiry"), [])
        assert.deepInclude(yield* books, { accepted: 0, expired: 0 })
      }).pipe(Effect.provide(life({ store })))
    })
  )

  it.scoped("mail that was on its way to the inbox when the broker died goes on, once and in order", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const network = new FakeNetwork()
      const ids = names("m", 700)
      yield* Effect.gen(function* () {
        const plugin = yield* session(11)
        plugin.drop()
        network.deliver(...ids.map((id) => mail(plugin.endpointId, id)))
        yield* settled
        store.hold()
        yield* Effect.fork((yield* Registry).unregister(plugin.endpointId))
        yield* settled
      }).pipe(Effect.provide(life({ store, network, settings: { windowMessages: 10 } })))
      store.release()
      assert.isAbove(store.recordsOf("mail").length, 0, "it died in the middle")

      yield* Effect.gen(function* () {
        yield* settled
        assert.deepStrictEqual(yield* undispatched, ids)
        assert.deepInclude(yield* books, { held: 0, inbox: 700, unaccounted: 0 })
      }).pipe(Effect.provide(life({ store })))
      assert.deepStrictEqual([store.recordsOf("mail"), store.recordsOf("mail_moves")], [[], []])
    })
  )

  const failures: ReadonlyArray<readonly [string, (plugin: FakePlugin) => void]> = [
    ["a refused push", (plugin) => plugin.refuse(plugin.received.at(-1)!)],
    ["a channel that ended before its receipt", (plugin) => plugin.drop()]
  ]
  for (const [what, fails] of failures) {
    it.scoped(`a failed delivery of stored mail counts over a restart: ${what}`, () =>
      Effect.gen(function* () {
        const store = new FakeStore()
        const network = new FakeNetwork()
        const settings = { deliveryLimit: 2 }
        yield* Effect.gen(function* () {
          const plugin = yield* session(11)
          plugin.drop()
          network.deliver(mail(plugin.endpointId, "m"))
          yield* settled
          yield* plugin.open
          yield* Effect.orDie(plugin.register())
          fails(plugin)
          yield* settled
        }).pipe(Effect.provide(life({ store, network, settings })))

        yield* Effect.gen(function* () {
          const plugin = new FakePlugin(11)
          yield* plugin.open
          yield* Effect.orDie(plugin.register())
          assert.deepStrictEqual(plugin.contents, ["m"])
          plugin.refuse(plugin.received[0]!)
          yield* settled
          assert.deepInclude(yield* books, { held: 0, dead: 1, unaccounted: 0 })
        }).pipe(Effect.provide(life({ store, settings })))
      })
    )
  }

  it.scoped("D4: no endpoint gets the key of one that ended: what that one left in the store stays its own", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const key = (plugin: { readonly endpointId: string }) =>
        Effect.map(Directory, (directory) => directory.unsafeGet(plugin.endpointId)!.key)
      const ended = yield* Effect.gen(function* () {
        const plugin = yield* session(11)
        const its = yield* key(plugin)
        yield* (yield* Registry).unregister(plugin.endpointId)
        yield* settled
        return its
      }).pipe(Effect.provide(life({ store })))

      yield* Effect.gen(function* () {
        assert.isAbove(yield* key(yield* session(12)), ended)
      }).pipe(Effect.provide(life({ store })))
    })
  )

  it.scoped("L3: a plugin that comes back makes its endpoint known to a platform that ended the record", () =>
    Effect.gen(function* () {
      const store = new FakeStore()
      const platform = new FakePlatform()
      let minted = 0
      platform.onRegister = () => Effect.sync(() => ({ endpointId: `ep_${++minted}`, heartbeatAfterMs: 30_000 }))
      yield* Effect.asVoid(session(11)).pipe(Effect.provide(life({ store, platform })))
      const lost = new FakePlatform()
      lost.onHeartbeat = () => Effect.fail(notFound)
      lost.onRegister = () => Effect.succeed({ endpointId: "ep_new", heartbeatAfterMs: 30_000 })
      yield* Effect.gen(function* () {
        yield* pass(60_000)
        assert.deepStrictEqual(lost.heartbeats, [], "nobody is back yet")
        const plugin = new FakePlugin(11)
        yield* plugin.open
        assert.isTrue((yield* Effect.orDie(plugin.register())).resumed)
        yield* pass(0)
        assert.strictEqual(lost.registrations[0]?.endpoint_nonce, platform.registrations[0]?.endpoint_nonce)
        assert.strictEqual((yield* Directory).unsafeGet("ep_1")?.id, "ep_new")
      }).pipe(Effect.provide(life({ store, platform: lost })))
    })
  )
})
