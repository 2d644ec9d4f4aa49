import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as InboxStore from "../../src/layers/InboxStore.js"
import * as LedgerMemory from "../../src/layers/LedgerMemory.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Emitters } from "../../src/services/Emitters.js"
import { Inbox, type UndispatchedItem } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { MessageId } from "../../src/services/model/Ids.js"
import { Store, Transaction } from "../../src/services/Store.js"
import { groundWith, settle } from "../kit/core.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, pass } from "../kit/steps.js"

interface Given {
  readonly bytes?: number
  readonly content?: string
  readonly expiresAt?: number
}

const item = (id: string, given: Given = {}): UndispatchedItem => ({
  message: {
    id: MessageId(id),
    from: "mstp://peer",
    content: given.content ?? id,
    contentType: "text",
    metadata: {},
    arrivedAt: 0,
    bytes: given.bytes ?? 100,
    ...(given.expiresAt === undefined ? {} : { expiresAt: given.expiresAt })
  },
  reason: "unaddressed"
})

const nothing = () => {}

interface Options {
  readonly settings?: Partial<Settings>
  readonly store?: FakeStore
  /** Ids whose arrival was reported. */
  readonly reported?: Array<string>
  /** Ids whose removal was reported, with the reason. */
  readonly removed?: Array<string>
}

const layer = ({ removed = [], reported = [], settings = {}, store = new FakeStore() }: Options = {}) =>
  InboxStore.layer.pipe(
    Layer.provide(
      Layer.succeed(Emitters, {
        unsafeAdded: (_, { message }) => {
          reported.push(message.id)
        },
        unsafeDispatched: nothing,
        unsafeRemoved: (_, id, reason) => {
          removed.push(`${id} ${reason}`)
        },
        unsafePresence: nothing,
        unsafeTaskHint: nothing
      })
    ),
    Layer.provideMerge(store.layer),
    Layer.provideMerge(LedgerMemory.layer),
    Layer.provideMerge(groundWith({ settings }))
  )

/** Adds what the broker has accepted just now. */
const add = (...items: ReadonlyArray<UndispatchedItem>) =>
  Effect.gen(function* () {
    const inbox = yield* Inbox
    const ledger = yield* Ledger
    yield* commit((transaction) => {
      for (const one of items) {
        ledger.unsafeCount("accepted", 1)
        inbox.unsafeAdd(transaction, one)
      }
    })
  })

const ids = Effect.map(Inbox, (inbox) => inbox.unsafeList().map(({ message }) => message.id as string))

describe("the inbox", () => {
  it.scoped("lists messages in arrival order and reports each arrival", () => {
    const reported: Array<string> = []
    return Effect.gen(function* () {
      yield* add(item("b"), item("a"))
      yield* add(item("c"))
      assert.deepStrictEqual(yield* ids, ["b", "a", "c"])
      assert.deepStrictEqual(reported, ["b", "a", "c"])
      assert.deepStrictEqual((yield* Inbox).unsafeGet("a"), item("a"))
      assert.isUndefined((yield* Inbox).unsafeGet("d"))
    }).pipe(Effect.provide(layer({ reported })))
  })

  it.scoped("an id that is there already is replaced in its place and counts once", () =>
    Effect.gen(function* () {
      yield* add(item("a"), item("b"), item("c"))
      yield* add(item("b", { content: "again", bytes: 150 }))
      assert.deepStrictEqual(yield* ids, ["a", "b", "c"])
      assert.strictEqual((yield* Inbox).unsafeGet("b")?.message.content, "again")
      assert.deepInclude((yield* Inbox).unsafeUsage(), { messages: 3, bytes: 350 })
      assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 3, inbox: 3, unaccounted: 0 })
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("what is taken is out, once; the others keep their order", () =>
    Effect.gen(function* () {
      const inbox = yield* Inbox
      yield* add(item("a"), item("b"), item("c"))
      assert.deepStrictEqual(yield* commit((transaction) => inbox.unsafeTake(transaction, "b")), item("b"))
      assert.isUndefined(yield* commit((transaction) => inbox.unsafeTake(transaction, "b")))
      yield* add(item("b"))
      assert.deepStrictEqual(yield* ids, ["a", "c", "b"])
      assert.strictEqual(inbox.unsafeUsage().bytes, 300)
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("tells of freed space when that is durable, not before", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const inbox = yield* Inbox
      let freed = 0
      inbox.unsafeOnSpace(() => {
        freed++
      })
      yield* add(item("a"), item("b"))
      assert.strictEqual(freed, 0)
      store.hold()
      const transaction = new Transaction()
      inbox.unsafeTake(transaction, "a")
      ;(yield* Store).unsafeCommit(transaction)
      yield* settle
      assert.strictEqual(freed, 0)
      store.release()
      yield* settle
      assert.strictEqual(freed, 1)
    }).pipe(Effect.provide(layer({ store })))
  })
})

describe("a message whose time is over", () => {
  it.scoped("leaves when it is, counted and reported; those that may stay, stay", () => {
    const removed: Array<string> = []
    const store = new FakeStore()
    return Effect.gen(function* () {
      const inbox = yield* Inbox
      let freed = 0
      inbox.unsafeOnSpace(() => {
        freed++
      })
      yield* add(
        item("a", { expiresAt: 2_000 }),
        item("b"),
        item("c", { expiresAt: 1_000 }),
        item("d", { expiresAt: 3_000 })
      )
      yield* pass(999)
      assert.deepStrictEqual(yield* ids, ["a", "b", "c", "d"])
      yield* pass(1)
      assert.deepStrictEqual(yield* ids, ["a", "b", "d"])
      yield* pass(1_500)
      assert.deepStrictEqual(yield* ids, ["b", "d"])
      assert.deepStrictEqual(removed, ["c expired", "a expired"])
      assert.strictEqual(freed, 2)
      assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 4, inbox: 2, expired: 2, unaccounted: 0 })
      assert.lengthOf(store.recordsOf("inbox"), 2)
    }).pipe(Effect.provide(layer({ removed, store })))
  })

  it.scoped("leaves at once when the time passed while no broker ran", () => {
    const store = new FakeStore()
    const removed: Array<string> = []
    return Effect.gen(function* () {
      yield* add(item("a", { expiresAt: 2_000 }), item("b")).pipe(Effect.provide(layer({ store })))
      yield* pass(5_000)
      yield* Effect.gen(function* () {
        yield* settle
        assert.deepStrictEqual(yield* ids, ["b"])
        assert.deepStrictEqual(removed, ["a expired"])
        assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 2, inbox: 1, expired: 1, unaccounted: 0 })
      }).pipe(Effect.provide(layer({ store, removed })))
    })
  })
})

describe("its capacity", () => {
  it.scoped("counts messages: the last place is free, then none is", () =>
    Effect.gen(function* () {
      const inbox = yield* Inbox
      yield* add(item("a"))
      assert.isTrue(inbox.unsafeHasRoom(100))
      yield* add(item("b"))
      assert.isFalse(inbox.unsafeHasRoom(0))
      yield* commit((transaction) => inbox.unsafeTake(transaction, "a"))
      assert.isTrue(inbox.unsafeHasRoom(100))
    }).pipe(Effect.provide(layer({ settings: { inboxMessages: 2 } })))
  )

  it.scoped("counts bytes: what fits exactly has room, a byte more has not", () =>
    Effect.gen(function* () {
      const inbox = yield* Inbox
      yield* add(item("a", { bytes: 700 }))
      assert.isTrue(inbox.unsafeHasRoom(300))
      assert.isFalse(inbox.unsafeHasRoom(301))
    }).pipe(Effect.provide(layer({ settings: { inboxBytes: 1_000 } })))
  )

  it.scoped("does not stop mail that was accepted before", () =>
    Effect.gen(function* () {
      yield* add(item("a"), item("b"), item("c"))
      assert.deepStrictEqual(yield* ids, ["a", "b", "c"])
      assert.deepInclude((yield* Inbox).unsafeUsage(), { messages: 3, capacityMessages: 1, capacityBytes: 100 })
    }).pipe(Effect.provide(layer({ settings: { inboxMessages: 1, inboxBytes: 100 } })))
  )
})

describe("A6: after a restart", () => {
  it.scoped("everything is there, in order, and opens the new books", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        yield* add(item("z"), item("y"), item("x"))
        const inbox = yield* Inbox
        yield* commit((transaction) => inbox.unsafeTake(transaction, "y"))
      }).pipe(Effect.provide(layer({ store })))
      yield* Effect.gen(function* () {
        assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 2, inbox: 2, unaccounted: 0 })
        yield* add(item("a"))
        assert.deepStrictEqual(yield* ids, ["z", "x", "a"])
        assert.strictEqual((yield* Inbox).unsafeUsage().bytes, 300)
      }).pipe(Effect.provide(layer({ store })))
      assert.deepStrictEqual(yield* ids.pipe(Effect.provide(layer({ store }))), ["z", "x", "a"])
    })
  })

  it.scoped("old messages are not reported again", () => {
    const store = new FakeStore()
    const reported: Array<string> = []
    return Effect.gen(function* () {
      yield* add(item("a")).pipe(Effect.provide(layer({ store })))
      yield* ids.pipe(Effect.provide(layer({ store, reported })))
      assert.deepStrictEqual(reported, [])
    })
  })
})
