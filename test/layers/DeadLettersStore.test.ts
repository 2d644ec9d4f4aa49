import { assert, it } from "@effect/vitest"
import { Effect, Layer, TestClock } from "effect"
import * as DeadLettersStore from "../../src/layers/DeadLettersStore.js"
import { deadLetters as records } from "../../src/layers/internal/messageTables.js"
import * as LedgerMemory from "../../src/layers/LedgerMemory.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { type DeadLetter, DeadLetters } from "../../src/services/DeadLetters.js"
import { Ledger } from "../../src/services/Ledger.js"
import { MessageId } from "../../src/services/model/Ids.js"
import { ordered } from "../../src/services/model/StoreKey.js"
import { groundWith, type LogLine } from "../kit/core.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, deadLetters } from "../kit/steps.js"

const letter = (id: string, at = 0): DeadLetter => ({
  message: {
    id: MessageId(id),
    from: "mstp://peer",
    content: `secret of ${id}`,
    contentType: "text",
    metadata: {},
    arrivedAt: 0,
    bytes: 100
  },
  endpointId: "ep_1",
  reason: "delivery_limit",
  at
})

const layer = (settings: Partial<Settings> = {}, store = new FakeStore(), log: Array<LogLine> = []) =>
  DeadLettersStore.layer.pipe(
    Layer.provideMerge(store.layer),
    Layer.provideMerge(LedgerMemory.layer),
    Layer.provideMerge(groundWith({ settings, log }))
  )

const add = (...letters: ReadonlyArray<DeadLetter>) =>
  Effect.flatMap(DeadLetters, (dead) =>
    commit((transaction) => {
      for (const one of letters) dead.unsafeAdd(transaction, one)
    })
  )
const ids = Effect.map(DeadLetters, (dead) => dead.unsafeList().map(([, { message }]) => message.id as string))

it.scoped("dead letters are listed with the oldest first, counted, and booked as dead", () =>
  Effect.gen(function* () {
    yield* add(letter("b"), letter("a"))
    assert.deepStrictEqual(yield* deadLetters, [letter("b"), letter("a")])
    assert.strictEqual((yield* DeadLetters).unsafeCount(), 2)
    assert.strictEqual((yield* Ledger).unsafeBooks().dead, 2)
  }).pipe(Effect.provide(layer()))
)

it.scoped("the log names the message and never its content", () => {
  const log: Array<LogLine> = []
  return Effect.gen(function* () {
    yield* add(letter("a"))
    const fields = { message_id: "a", endpoint_id: "ep_1", reason: "delivery_limit", bytes: letter("a").message.bytes }
    assert.deepStrictEqual(log, [{ level: "warn", event: "message_dead", fields }])
  }).pipe(Effect.provide(layer({}, new FakeStore(), log)))
})

it.scoped("one too many lets the oldest go, in memory and in the store", () => {
  const store = new FakeStore()
  return Effect.gen(function* () {
    yield* add(letter("a"), letter("b"), letter("c"))
    assert.deepStrictEqual(yield* ids, ["a", "b", "c"])
    yield* add(letter("d"))
    assert.deepStrictEqual(yield* ids, ["b", "c", "d"])
    assert.deepStrictEqual(store.recordsOf("dead_letters"), [letter("b"), letter("c"), letter("d")])
  }).pipe(Effect.provide(layer({ deadLetters: 3 }, store)))
})

it.scoped("too many bytes let the oldest go, with a line in the log; the newest stays, however large", () => {
  const store = new FakeStore()
  const log: Array<LogLine> = []
  const sized = (id: string, bytes: number): DeadLetter => {
    const { message, ...rest } = letter(id)
    return { ...rest, message: { ...message, bytes } }
  }
  return Effect.gen(function* () {
    yield* add(sized("a", 400), sized("b", 600))
    assert.deepStrictEqual(yield* ids, ["a", "b"])
    yield* add(sized("c", 1))
    assert.deepStrictEqual(yield* ids, ["b", "c"])
    // Of one that is too large little is kept.
    yield* add({ ...sized("d", 20_000_000), reason: "too_large" })
    assert.deepStrictEqual(yield* ids, ["b", "c", "d"])
    yield* add(sized("e", 2_000))
    assert.deepStrictEqual(yield* ids, ["e"])
    assert.deepStrictEqual(store.recordsOf("dead_letters"), [sized("e", 2_000)])
    const dropped = log.filter(({ event }) => event === "dead_letter_dropped")
    assert.deepStrictEqual(
      dropped.map(({ fields }) => fields.message_id),
      ["a", "b", "c", "d"]
    )
  }).pipe(Effect.provide(layer({ deadLetterBytes: 1_000 }, store, log)))
})

it.scoped("a letter whose record is damaged is listed, cannot be read, and can be purged", () => {
  const store = new FakeStore()
  return Effect.gen(function* () {
    yield* add(letter("a"))
    const [[id]] = (yield* entries) as [[string, unknown]]
    yield* commit((transaction) => transaction.delete(records, ordered(Number.parseInt(id, 36))))
    assert.isUndefined((yield* DeadLetters).unsafeGet(id))
    assert.deepStrictEqual(yield* ids, ["a"])
    assert.isTrue(yield* purge(id))
    assert.deepStrictEqual(yield* ids, [])
  }).pipe(Effect.provide(layer({}, store)))
})

it.scoped("after 30 days a letter goes when the next one comes, not before", () =>
  Effect.gen(function* () {
    const month = 30 * 24 * 3_600_000
    yield* add(letter("a", 0), letter("b", 10))
    yield* add(letter("c", month - 1))
    assert.deepStrictEqual(yield* ids, ["a", "b", "c"])
    yield* add(letter("d", month))
    assert.deepStrictEqual(yield* ids, ["b", "c", "d"])
  }).pipe(Effect.provide(layer()))
)

it.scoped("they survive a restart in order, and new ones come behind them", () => {
  const store = new FakeStore()
  return Effect.gen(function* () {
    yield* add(letter("b"), letter("a")).pipe(Effect.provide(layer({}, store)))
    yield* Effect.gen(function* () {
      yield* add(letter("c"))
      assert.deepStrictEqual(yield* ids, ["b", "a", "c"])
      assert.strictEqual((yield* Ledger).unsafeBooks().dead, 1, "the dead of earlier processes are not booked again")
    }).pipe(Effect.provide(layer({}, store)))
    assert.deepStrictEqual(yield* ids.pipe(Effect.provide(layer({}, store))), ["b", "a", "c"])
  })
})

const entries = Effect.map(DeadLetters, (dead) => dead.unsafeList())
const revive = (id: string) =>
  Effect.flatMap(DeadLetters, (dead) => commit((transaction) => dead.unsafeRevive(transaction, id)))
const purge = (id: string) =>
  Effect.flatMap(DeadLetters, (dead) => commit((transaction) => dead.unsafePurge(transaction, id)))
const books = Effect.map(Ledger, (ledger) => ledger.unsafeBooks())

it.scoped(
  "D11: a letter of this life that is revived is not dead any more, and one of an earlier life is accepted",
  () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* add(letter("old")).pipe(Effect.provide(layer({}, store)))
      yield* Effect.gen(function* () {
        yield* add(letter("new"))
        const [[old], [fresh]] = (yield* entries) as [[string, unknown], [string, unknown]]
        assert.deepInclude(yield* books, { accepted: 0, dead: 1 })
        yield* revive(fresh)
        assert.deepInclude(yield* books, { accepted: 0, dead: 0 })
        yield* revive(old)
        assert.deepInclude(yield* books, { accepted: 1, dead: 0 })
        yield* revive(old)
        assert.deepInclude(yield* books, { accepted: 1, dead: 0 })
        assert.deepStrictEqual([yield* ids, store.recordsOf("dead_letters")], [[], []])
      }).pipe(Effect.provide(layer({}, store)))
    })
  }
)

it.scoped("D11: a letter that is purged is gone for good, and its message stays dead in the books", () => {
  const store = new FakeStore()
  return Effect.gen(function* () {
    yield* add(letter("a"), letter("b"))
    const [[id]] = (yield* entries) as [[string, unknown]]
    assert.isTrue(yield* purge(id))
    assert.isFalse(yield* purge(id))
    assert.isUndefined((yield* DeadLetters).unsafeGet(id))
    assert.deepInclude(yield* books, { accepted: 0, dead: 2 })
    assert.deepStrictEqual([yield* ids, store.recordsOf("dead_letters")], [["b"], [letter("b")]])
  }).pipe(Effect.provide(layer({}, store)))
})

it.scoped("the id of a letter is never another one's, though it is purged and the broker starts again", () => {
  const store = new FakeStore()
  const life = <A>(body: Effect.Effect<A, never, DeadLetters | Effect.Effect.Context<ReturnType<typeof commit>>>) =>
    body.pipe(Effect.provide(layer({}, store)))
  return Effect.gen(function* () {
    const [[first]] = (yield* life(Effect.zipRight(add(letter("a")), entries))) as [[string, unknown]]
    yield* TestClock.adjust(10)
    yield* life(purge(first))
    const [[second]] = (yield* life(Effect.zipRight(add(letter("b")), entries))) as [[string, unknown]]
    assert.notStrictEqual(second, first)
    const found = yield* life(Effect.map(DeadLetters, (dead) => [dead.unsafeGet(first), dead.unsafeGet(second)]))
    assert.deepStrictEqual(found, [undefined, letter("b")])
  })
})
