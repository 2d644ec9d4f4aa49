import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Mailboxes } from "../../src/services/Mailboxes.js"
import { Registry } from "../../src/services/Registry.js"
import { Router } from "../../src/services/Router.js"
import { type CoreOptions, core } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakeStore } from "../kit/FakeStore.js"
import { comeBack, drain, jitter, mail, names, pass, quiet, type Session, session, settled } from "../kit/steps.js"

const broker = (network: FakeNetwork, settings: Partial<Settings> = {}, variants: CoreOptions["variants"] = {}) =>
  core({ network, settings: { ...quiet, ...settings }, variants })
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())
const unregister = (endpointId: string) => Effect.flatMap(Registry, (registry) => registry.unregister(endpointId))
const heldBack = Effect.map(Router, (router) =>
  router.unsafeStatus().heldBack.map(({ destination, waiting }) => ({ destination, waiting }))
)

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
