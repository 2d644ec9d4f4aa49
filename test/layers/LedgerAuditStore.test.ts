import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { deadLetters, inbox, mail as mailTable } from "../../src/layers/internal/messageTables.js"
import { Ledger } from "../../src/services/Ledger.js"
import { LedgerAudit } from "../../src/services/LedgerAudit.js"
import { Store } from "../../src/services/Store.js"
import { type CoreOptions, core } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakeStore } from "../kit/FakeStore.js"
import { complaintOf } from "../kit/ground.js"
import { commit, jitter, mail, quiet, session, settled } from "../kit/steps.js"

const broker = ({ store, ...options }: Omit<CoreOptions, "variants"> & { readonly store: FakeStore }) =>
  core({ ...options, settings: { ...quiet, deliveryLimit: 1 }, variants: { store: store.layer } })
const audit = Effect.flatMap(LedgerAudit, (service) => service.audit)

/** Two messages held for an endpoint that is away, one in the inbox, one dead. */
const filled = (network: FakeNetwork) =>
  Effect.gen(function* () {
    yield* settled
    const plugin = yield* session(11)
    network.deliver(mail(plugin.endpointId, "poison"))
    yield* settled
    plugin.refuse(plugin.received[0]!)
    plugin.drop()
    network.deliver(mail(plugin.endpointId, "a"), mail(plugin.endpointId, "b"), { content: "for anybody" })
    yield* settled
    return plugin
  })

describe("D11: the audit of the books", () => {
  it.scoped("finds in the store what they say", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const { endpointId } = yield* filled(network)
      const { books, ...found } = yield* audit
      assert.deepStrictEqual(found, {
        settled: true,
        dead_letters: 1,
        stored: { held: 2, inbox: 1, dead_letters: 1 },
        endpoints: [{ endpoint_id: endpointId, held: 2, stored: 2 }],
        problems: []
      })
      assert.deepInclude(books, { accepted: 4, held: 2, inbox: 1, dead: 1, unaccounted: 0 })
    }).pipe(Effect.provide(broker({ network, store: new FakeStore() })))
  })

  it.scoped("waits for what is on its way", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      const { endpointId } = yield* filled(network)
      store.hold()
      network.deliver(mail(endpointId, "c"))
      yield* settled
      const asked = yield* Effect.fork(audit)
      yield* settled
      store.release()
      assert.deepInclude(yield* asked, { settled: true, problems: [] })
      assert.strictEqual((yield* asked).stored.held, 3)
    }).pipe(Effect.provide(broker({ network, store })))
  })

  it.scoped("names what is missing in the store or is too much, by place and endpoint", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const { endpointId } = yield* filled(network)
      const store = yield* Store
      const all = { from: "", until: "~" }
      const [first] = store.unsafeRange(mailTable, all)
      const [item] = store.unsafeRange(inbox, all)
      const [letter] = store.unsafeRange(deadLetters, all)
      yield* commit((transaction) => {
        transaction.delete(mailTable, first![0])
        transaction.put(inbox, `${item![0]}x`, item![1])
        transaction.delete(deadLetters, letter![0])
      })
      ;(yield* Ledger).unsafeCount("accepted", 5)
      const { problems } = yield* audit
      assert.deepStrictEqual(problems, [
        "5 messages are unaccounted for.",
        "Messages in mailboxes: the broker counts 2, and the store holds 1.",
        `Mail of ${endpointId}: the broker counts 2, and the store holds 1.`,
        "Messages in the inbox: the broker counts 1, and the store holds 2.",
        "Dead letters: the broker counts 1, and the store holds 0."
      ])
      ;(yield* Ledger).unsafeCount("accepted", -5)
    }).pipe(Effect.provide(broker({ network, store: new FakeStore() })))
  })

  it.scoped("counts a broker that is never still all the same, and says so", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const { endpointId } = yield* filled(network)
      const store = yield* Store
      const ledger = yield* Ledger
      // Something is accepted whenever a write has ended.
      let n = 0
      const busy: Store["Type"]["flush"] = Effect.tap(store.flush, () =>
        Effect.sync(() => ledger.unsafeCount("accepted", ++n % 2 === 0 ? -1 : 1))
      )
      Object.assign(store, { flush: busy })
      const { settled: isSettled, stored } = yield* audit
      assert.deepStrictEqual([isSettled, stored.held], [false, 2])
      if (n % 2 !== 0) ledger.unsafeCount("accepted", -1)
      assert.isAbove(n, 1)
      assert.isString(endpointId)
    }).pipe(Effect.provide(broker({ network, store: new FakeStore() })))
  })

  it.scoped("is refused while the store cannot be written", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const { endpointId } = yield* filled(network)
      store.failure = "no space left"
      yield* commit((transaction) => transaction.put(inbox, "y", {} as never)).pipe(Effect.fork)
      yield* settled
      assert.include(yield* complaintOf(audit), "no space left")
      assert.isString(endpointId)
    }).pipe(Effect.provide(broker({ network, store })))
  })
})
