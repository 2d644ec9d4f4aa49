import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Dispatch } from "../../src/services/Dispatch.js"
import { Inbox } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Mailboxes } from "../../src/services/Mailboxes.js"
import { Registry } from "../../src/services/Registry.js"
import { Router } from "../../src/services/Router.js"
import { type CoreOptions, core, type LogLine } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { comeBack, drain, jitter, mail, names, pass, quiet, type Session, session, settled } from "../kit/steps.js"

const broker = (network: FakeNetwork, settings: Partial<Settings> = {}, variants: CoreOptions["variants"] = {}) =>
  core({ network, settings: { ...quiet, ...settings }, variants })
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())
const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))
const unregister = (endpointId: string) => Effect.flatMap(Registry, (registry) => registry.unregister(endpointId))
const heldBack = Effect.map(Router, (router) =>
  router.unsafeStatus().heldBack.map(({ destination, waiting }) => ({ destination, waiting }))
)

describe("the quota", () => {
  it.scoped("of messages refuses what is beyond; others go on; it comes in, in order, when there is room", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const away = yield* session(11)
      const other = yield* session(12)
      away.drop()
      const ids = names("m", 5)
      network.deliver(...ids.map((id) => mail(away.endpointId, id)), mail(other.endpointId, "n"))
      yield* settled
      assert.deepStrictEqual(network.accepted, ["m1", "m2", "m3"])
      assert.deepStrictEqual(network.releasedIds, ["m4", "m5"])
      assert.deepStrictEqual(other.contents, ["n"])
      assert.deepStrictEqual(yield* heldBack, [{ destination: away.endpointId, waiting: 2 }])
      yield* comeBack(away)
      yield* drain(away)
      yield* pass(10)
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ids)
      assert.deepStrictEqual(yield* heldBack, [])
      assert.deepInclude(yield* books, { accepted: 5, delivered: 5, held: 0 })
    }).pipe(Effect.provide(broker(network, { mailboxMessages: 3 })))
  })

  it.scoped("of bytes is used to the byte, and a smaller message does not slip past one that waits", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const away = yield* session(11)
      away.drop()
      const sized = (id: string, bytes: number) => ({ ...mail(away.endpointId, id), bytes })
      network.deliver(sized("a", 100), sized("b", 100), sized("c", 51), sized("d", 1))
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a", "b"])
      assert.deepStrictEqual(network.releasedIds, ["c", "d"])
      yield* comeBack(away)
      yield* drain(away)
      yield* pass(10)
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ["a", "b", "c", "d"])
      network.deliver(sized("e", 200), sized("f", 50))
      away.drop()
      yield* settled
      assert.deepStrictEqual(network.accepted.slice(-2), ["e", "f"])
    }).pipe(Effect.provide(broker(network, { mailboxBytes: 250 })))
  })

  for (const [what, settings] of [
    ["messages", { totalMessages: 3 }],
    ["bytes", { totalBytes: 300 }]
  ] as const) {
    it.scoped(`of all ${what} refuses for any mailbox, and room in one is room for all`, () => {
      const network = new FakeNetwork()
      return Effect.gen(function* () {
        const a = yield* session(11)
        const b = yield* session(12)
        a.drop()
        b.drop()
        network.deliver(mail(a.endpointId, "a1"), mail(a.endpointId, "a2"), mail(b.endpointId, "b1"))
        network.deliver(mail(b.endpointId, "b2"))
        yield* settled
        assert.deepStrictEqual(network.accepted, ["a1", "a2", "b1"])
        assert.deepStrictEqual(network.releasedIds, ["b2"])
        yield* comeBack(a)
        yield* drain(a)
        yield* pass(10)
        assert.deepStrictEqual(network.releasedIds, [], "asked for as soon as there is room")
        assert.include(network.accepted, "b2")
      }).pipe(Effect.provide(broker(network, settings)))
    })
  }

  it.scoped("A19: does not stop what nobody else has, nor what the broker accepted before", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const away = yield* session(11)
      away.drop()
      network.deliver({ content: "from the inbox" }, mail(away.endpointId, "a"))
      network.deliver({ ...mail(away.endpointId, "unrepeatable"), redeliverable: false })
      yield* settled
      yield* (yield* Dispatch).dispatch("from the inbox", away.endpointId)
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "from the inbox", "unrepeatable"])
      assert.deepInclude(yield* books, { held: 3 })
      yield* comeBack(away)
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ["a", "unrepeatable", "from the inbox"])
    }).pipe(Effect.provide(broker(network, { mailboxMessages: 1 })))
  })
})

describe("expiry", () => {
  it.scoped("held mail is pushed until its time, not from it on, and is booked as expired", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      const iso = new Date(10_000).toISOString()
      network.deliver(
        mail(plugin.endpointId, "a", { expires_at: 10_000 }),
        mail(plugin.endpointId, "b", { expires_at: iso }),
        mail(plugin.endpointId, "c", { expires_at: 10_001 }),
        mail(plugin.endpointId, "d", { expires_at: "soon" })
      )
      yield* pass(10_000)
      yield* comeBack(plugin)
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["c", "d"])
      yield* drain(plugin)
      assert.deepInclude(yield* books, { accepted: 4, delivered: 2, expired: 2, held: 0 })
    }).pipe(Effect.provide(broker(network)))
  })

  it.scoped("what was in flight when its channel ended does not come again after its time", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a", { expires_at: 10_000 }), mail(plugin.endpointId, "b"))
      yield* pass(10_000)
      yield* plugin.open
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["b"])
      assert.deepInclude(yield* books, { expired: 1, held: 1 })
    }).pipe(Effect.provide(broker(network)))
  })
})

describe("mail of an endpoint that is away", () => {
  it.scoped("leaves at its time, not 1 ms before, and makes room for what was held back", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const away = yield* session(11)
      away.drop()
      network.deliver(
        mail(away.endpointId, "a", { expires_at: 1_000 }),
        mail(away.endpointId, "b", { expires_at: 999.5 }),
        mail(away.endpointId, "c")
      )
      yield* pass(999)
      assert.deepInclude(yield* books, { accepted: 2, held: 2, expired: 0 })
      assert.deepStrictEqual(yield* heldBack, [{ destination: away.endpointId, waiting: 1 }])
      yield* pass(1)
      assert.deepInclude(yield* books, { accepted: 2, held: 0, expired: 2 })
      yield* pass(10)
      assert.deepInclude(yield* books, { accepted: 3, held: 1, expired: 2 })
      assert.deepStrictEqual(yield* heldBack, [])
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "b", "c"])
      assert.deepStrictEqual(store.recordsOf("mail_expiry"), [])
      yield* comeBack(away)
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ["c"])
      assert.deepStrictEqual((yield* Mailboxes).unsafeTotals(), { messages: 0, bytes: 0 })
    }).pipe(Effect.provide(broker(network, { mailboxMessages: 2 }, { store: store.layer })))
  })

  it.scoped("leaves a little at a time, however much is over at once; the rest stays in order", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const away = yield* session(11)
      const other = yield* session(12)
      away.drop()
      other.drop()
      const over = (id: string, n: number) => ({ expires_at: n % 2 === 0 ? 1_000 : undefined, id })
      const ids = names("m", 1_200)
      network.deliver(...ids.map((id, n) => mail((n % 3 === 0 ? other : away).endpointId, id, over(id, n))))
      yield* settled
      assert.strictEqual(store.recordsOf("mail_expiry").length, 600)
      store.largestWrite = 0
      yield* pass(1_000)
      assert.deepInclude(yield* books, { accepted: 1_200, held: 600, expired: 600 })
      assert.isAtMost(store.largestWrite, 600)
      assert.deepStrictEqual([store.recordsOf("mail").length, store.recordsOf("mail_expiry").length], [600, 0])
      yield* comeBack(away)
      yield* drain(away)
      assert.deepStrictEqual(
        away.contents,
        ids.filter((_, n) => n % 2 !== 0 && n % 3 !== 0)
      )
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("comes in full when its plugin returns before the leaving is written", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const away = yield* session(11)
      away.drop()
      network.deliver(mail(away.endpointId, "a", { expires_at: 1_000 }), mail(away.endpointId, "b"))
      yield* settled
      store.hold()
      yield* pass(1_000)
      yield* Effect.fork(comeBack(away))
      yield* settled
      store.release()
      yield* settled
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ["b"])
      assert.deepInclude(yield* books, { accepted: 2, delivered: 1, expired: 1, held: 0 })
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("does not leave while the store cannot be written, but after", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const away = yield* session(11)
      away.drop()
      network.deliver(mail(away.endpointId, "a", { expires_at: 1_000 }))
      yield* settled
      store.failure = "no space left"
      network.deliver(mail(away.endpointId, "b"))
      yield* pass(1_000)
      assert.deepInclude(yield* books, { expired: 0 })
      store.failure = undefined
      yield* pass(5_000)
      assert.deepInclude(yield* books, { expired: 1, held: 1 })
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })
})

describe("stored mail in flight", () => {
  it.scoped("stays at its time: its receipt counts, and only its channel's end makes it leave", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const ids = ["a", "b", "c"]
      network.deliver(...ids.map((id) => mail(plugin.endpointId, id, { expires_at: 8_000 })))
      yield* pass(9_000)
      assert.deepInclude(yield* books, { accepted: 3, held: 3, expired: 0 })
      plugin.acknowledge(plugin.received[1]!)
      yield* settled
      assert.deepInclude(yield* books, { delivered: 1, held: 2 })
      plugin.drop()
      yield* pass(1)
      assert.deepInclude(yield* books, { delivered: 1, held: 0, expired: 2 })
      assert.deepStrictEqual([store.recordsOf("mail"), store.recordsOf("mail_expiry")], [[], []])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("leaves when it is refused after its time, not only when it would be pushed again", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a", { expires_at: 8_000 }))
      yield* pass(8_500)
      assert.deepInclude(yield* books, { held: 1, expired: 0 })
      plugin.refuse(plugin.received[0]!)
      yield* pass(1)
      assert.deepInclude(yield* books, { held: 0, expired: 1 })
      yield* pass(5_000)
      assert.deepStrictEqual(plugin.contents, ["a"])
    }).pipe(Effect.provide(broker(network)))
  })
})

describe("stored mail that stays at its time", () => {
  it.scoped("is not read again for whatever else is over", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const away = yield* session(9)
      away.drop()
      for (const pid of [11, 12]) {
        const plugin = yield* session(pid)
        network.deliver(...names(`p${pid}-`, 100).map((id) => mail(plugin.endpointId, id, { expires_at: 8_000 })))
      }
      network.deliver(...names("m", 10).map((id, n) => mail(away.endpointId, id, { expires_at: 9_000 + n })))
      yield* pass(8_500)
      assert.deepInclude(yield* books, { held: 210, expired: 0 })
      store.read = 0
      for (let n = 0; n < 10; n++) yield* pass(100)
      assert.deepInclude(yield* books, { held: 200, expired: 10 })
      assert.isAtMost(store.read, 50)
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("because its mailbox waits for a write leaves after that, also when more is over meanwhile", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const [one, two] = [yield* session(11), yield* session(12)]
      one.drop()
      two.drop()
      network.deliver(
        ...[1_000, 1_001].map((time) => mail(one.endpointId, `a${time}`, { expires_at: time })),
        mail(two.endpointId, "b", { expires_at: 1_002 })
      )
      yield* settled
      store.hold()
      for (const ms of [1_000, 1, 1]) yield* pass(ms)
      assert.deepInclude(yield* books, { held: 1, expired: 2 })
      store.release()
      yield* pass(1)
      assert.deepInclude(yield* books, { held: 0, expired: 3 })
      assert.deepStrictEqual([store.keysOf("mail"), store.keysOf("mail_expiry")], [[], []])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  interface Given {
    readonly network: FakeNetwork
    readonly plugin: Session
    readonly store: FakeStore
  }
  const deliver = ({ network, plugin }: Given) =>
    Effect.sync(() => network.deliver(mail(plugin.endpointId, "a", { expires_at: 1_000 })))
  const whileItIsWritten = (given: Given) =>
    Effect.gen(function* () {
      yield* pass(500)
      given.plugin.drop()
      yield* settled
      given.store.hold()
      yield* deliver(given)
    })
  type Way = readonly [
    what: string,
    before: (given: Given) => Effect.Effect<void, never, Ledger>,
    after: (given: Given) => Effect.Effect<void, never, Registry>
  ]
  const ways: ReadonlyArray<Way> = [
    ["is refused", deliver, ({ plugin }) => Effect.sync(() => plugin.refuse(plugin.received[0]!))],
    ["was in flight when its channel ended", deliver, ({ plugin }) => Effect.sync(() => plugin.drop())],
    ["was in flight when its endpoint ended", deliver, ({ plugin }) => Effect.orDie(unregister(plugin.endpointId))],
    ["was being written", whileItIsWritten, ({ store }) => Effect.sync(() => store.release())]
  ]
  for (const [what, before, after] of ways) {
    it.scoped(`leaves as soon as it can when it ${what}`, () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      return Effect.gen(function* () {
        const other = yield* session(9)
        const given = { network, plugin: yield* session(11), store }
        // These are over after it, and stay: by then the look has passed it.
        network.deliver(...["m", "n"].map((id) => mail(other.endpointId, id, { expires_at: 1_100 })))
        yield* before(given)
        yield* pass(1_500)
        assert.deepInclude(yield* books, { held: 3, expired: 0 })
        yield* after(given)
        yield* pass(1)
        assert.deepInclude(yield* books, { held: 2, inbox: 0, expired: 1 })
        other.drop()
        yield* pass(1)
        assert.deepInclude(yield* books, { held: 0, inbox: 0, expired: 3 })
        assert.deepStrictEqual([store.keysOf("mail"), store.keysOf("mail_expiry")], [[], []])
      }).pipe(Effect.provide(broker(network, { receiptMs: 300 }, { store: store.layer })))
    })
  }
})

describe("a store that cannot be written", () => {
  it.scoped("C4: takes nothing new; what was decided is accepted when it can be written again", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const away = yield* session(11)
      const live = yield* session(12)
      away.drop()
      yield* settled
      store.failure = "no space left"
      network.deliver(mail(away.endpointId, "a"))
      yield* settled
      network.deliver(mail(away.endpointId, "b"), { content: "unaddressed" }, mail(live.endpointId, "live"))
      yield* settled
      assert.deepStrictEqual(network.accepted, [])
      assert.deepStrictEqual([...network.releasedIds].sort(), ["b", "unaddressed"])
      live.acknowledge(...live.received)
      yield* settled
      assert.deepStrictEqual(network.accepted, ["live"], "D6: live delivery needs no store")
      store.failure = undefined
      yield* pass(5_000)
      yield* settled
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "b", "live", "unaddressed"])
      yield* comeBack(away)
      yield* drain(away)
      assert.deepStrictEqual(away.contents, ["a", "b"])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("A21: that is slow: a message is accepted when the conversation it belongs to is durable as well", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      store.hold()
      network.deliver(mail(plugin.endpointId, "asked", { correlation_id: "c" }))
      yield* settled
      plugin.acknowledge(...plugin.received)
      yield* settled
      assert.deepStrictEqual(network.accepted, [])
      store.release()
      yield* settled
      assert.deepStrictEqual(network.accepted, ["asked"])
      assert.strictEqual(store.recordsOf("correlation_received").length, 1)
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })

  it.scoped("leaves a push without receipt unaccepted, until it can be written", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      const away = yield* session(12)
      away.drop()
      yield* settled
      store.failure = "no space left"
      network.deliver(mail(away.endpointId, "a"), mail(plugin.endpointId, "live"))
      yield* pass(10_000)
      assert.deepStrictEqual(network.accepted, [])
      store.failure = undefined
      yield* pass(30_100)
      yield* settled
      assert.deepStrictEqual([...network.accepted].sort(), ["a", "live"])
      assert.deepStrictEqual(plugin.contents, ["live"])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })
})

describe("a store with too little room", () => {
  it.scoped(
    "takes no new mail, and what it holds leaves: to plugins that come back, from the inbox, at the end of an endpoint",
    () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      return Effect.gen(function* () {
        yield* jitter(1)
        const away = yield* session(11)
        const ending = yield* session(12)
        const live = yield* session(13)
        away.drop()
        ending.drop()
        yield* settled
        network.deliver(mail(away.endpointId, "a"), mail(ending.endpointId, "b"), { content: "c" })
        yield* settled
        store.shortage = { since: 0, reason: "the disk has 3 MiB free" }
        network.deliver(mail(away.endpointId, "new"), { content: "unaddressed" }, mail(live.endpointId, "live"))
        yield* settled
        assert.deepStrictEqual([...network.releasedIds].sort(), ["new", "unaddressed"])
        yield* drain(live)
        assert.deepStrictEqual(network.accepted, ["a", "b", "c", "live"], "D6: live delivery needs no room")
        yield* comeBack(away)
        yield* drain(away)
        assert.deepStrictEqual(away.contents, ["a"])
        yield* (yield* Registry).unregister(ending.endpointId)
        yield* (yield* Dispatch).dispatch("c", live.endpointId)
        yield* settled
        yield* drain(live)
        assert.deepStrictEqual([yield* undispatched, live.contents], [["b"], ["live", "c"]])
        assert.strictEqual(yield* Effect.map(session(14), ({ contents }) => contents.length), 0)
        away.drop()
        store.shortage = undefined
        yield* pass(10_000)
        yield* settled
        assert.deepStrictEqual([...network.accepted].sort(), ["a", "b", "c", "live", "new", "unaddressed"])
        assert.deepInclude(yield* books, { accepted: 6, delivered: 3, held: 1, inbox: 2, unaccounted: 0 })
      }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
    }
  )

  it.scoped("stores no push that waits for its receipt, until there is room", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      store.shortage = { since: 0, reason: "the disk has 3 MiB free" }
      network.deliver(mail(plugin.endpointId, "live"))
      yield* pass(10_000)
      assert.deepStrictEqual([network.accepted, store.recordsOf("mail")], [[], []])
      store.shortage = undefined
      yield* pass(10_000)
      yield* settled
      assert.deepStrictEqual(network.accepted, ["live"])
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })
})

describe("stored mail that is damaged", () => {
  /** The second of four messages for an endpoint that is away can no longer be read, when all room is taken. */
  const damaged = (network: FakeNetwork, store: FakeStore) =>
    Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      network.deliver(...names("m", 4).map((id) => mail(plugin.endpointId, id)))
      yield* settled
      store.damage("mail", store.keysOf("mail")[1]!)
      return plugin
    })

  it.scoped("is in no books and takes no room, once its mailbox was read", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* damaged(network, store)
      network.deliver(mail(plugin.endpointId, "n"))
      yield* settled
      assert.strictEqual((yield* heldBack).length, 1)
      yield* comeBack(plugin)
      yield* drain(plugin)
      yield* pass(1_000)
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, ["m1", "m3", "m4", "n"])
      assert.deepStrictEqual((yield* Mailboxes).unsafeTotals(), { messages: 0, bytes: 0 })
      assert.deepInclude(yield* books, { accepted: 4, delivered: 4, held: 0 })
    }).pipe(Effect.provide(broker(network, { mailboxMessages: 4 }, { store: store.layer })))
  })

  it.scoped("nor when its mailbox ends", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* damaged(network, store)
      yield* unregister(plugin.endpointId)
      yield* settled
      assert.deepStrictEqual(yield* undispatched, ["m1", "m3", "m4"])
      assert.deepStrictEqual((yield* Mailboxes).unsafeTotals(), { messages: 0, bytes: 0 })
      assert.deepInclude(yield* books, { accepted: 3, held: 0, inbox: 3 })
    }).pipe(Effect.provide(broker(network, {}, { store: store.layer })))
  })
})

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
