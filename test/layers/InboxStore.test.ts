import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as InboxStore from "../../src/layers/InboxStore.js"
import * as LedgerMemory from "../../src/layers/LedgerMemory.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Emitters } from "../../src/services/Emitters.js"
import { Inbox, type UndispatchedItem } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { MessageId } from "../../src/services/model/Ids.js"
import { ordered } from "../../src/services/model/StoreKey.js"
import { Store, Transaction, table } from "../../src/services/Store.js"
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

const ids = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.id as string))

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

describe("what it holds", () => {
  it.scoped("lies in the store alone once it is durable", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const inbox = yield* Inbox
      const added = item("a")
      store.hold()
      const transaction = new Transaction()
      inbox.unsafeAdd(transaction, added)
      ;(yield* Store).unsafeCommit(transaction)
      yield* settle
      assert.strictEqual(inbox.unsafeGet("a"), added, "it can be dispatched before it is durable")
      store.release()
      yield* settle
      assert.notStrictEqual(inbox.unsafeGet("a"), added)
      assert.deepStrictEqual(inbox.unsafeGet("a"), added)
    }).pipe(Effect.provide(layer({ store })))
  })

  it.scoped("is read from there one after the other, as it is asked for", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* add(item("a"), item("b"), item("c"))
      const before = store.read
      const listed = (yield* Inbox).unsafeItems()
      assert.strictEqual(store.read, before)
      listed.next()
      assert.strictEqual(store.read, before + 1)
    }).pipe(Effect.provide(layer({ store })))
  })

  it.scoped(
    "is listed as it was at the beginning, each once: what left meanwhile is left out, what came is not in it",
    () =>
      Effect.gen(function* () {
        const inbox = yield* Inbox
        yield* add(item("a"), item("b"), item("c"), item("d"))
        const listed = inbox.unsafeItems()
        const first = listed.next().value as UndispatchedItem
        yield* commit((transaction) => inbox.unsafeTake(transaction, "b"))
        yield* add(item("c", { content: "again", bytes: 101 }), item("a", { content: "again", bytes: 101 }), item("e"))
        const contents = [first, ...listed].map(({ message }) => message.content)
        assert.deepStrictEqual(contents, ["a", "again", "d"])
      }).pipe(Effect.provide(layer()))
  )

  it.scoped("is listed behind a place, also where nothing is at it any more", () =>
    Effect.gen(function* () {
      const inbox = yield* Inbox
      yield* add(item("c"), item("b"), item("a"))
      const behind = (place?: number) => Array.from(inbox.unsafeItems(place), ({ message }) => message.id as string)
      const [c, b, a] = ["c", "b", "a"].map((id) => inbox.unsafePlaceOf(id))
      assert.deepStrictEqual([behind(c), behind(b), behind(a)], [["b", "a"], ["a"], []])
      yield* commit((transaction) => inbox.unsafeTake(transaction, "b"))
      assert.isUndefined(inbox.unsafePlaceOf("b"))
      assert.deepStrictEqual([behind(), behind(b)], [["c", "a"], ["a"]])
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("is in the order of its places, whenever these are taken", () =>
    Effect.gen(function* () {
      const inbox = yield* Inbox
      const place = inbox.unsafeReserve(2)
      yield* add(item("c"))
      yield* commit((transaction) => {
        inbox.unsafeAdd(transaction, item("b"), place + 1)
        inbox.unsafeAdd(transaction, item("a"), place)
      })
      assert.deepStrictEqual(yield* ids, ["a", "b", "c"])
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("is left out and stays, where its record is damaged", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const inbox = yield* Inbox
      yield* add(item("a"), item("b"))
      store.damage("inbox", store.keysOf("inbox")[0]!)
      assert.deepStrictEqual(yield* ids, ["b"])
      assert.isUndefined(yield* commit((transaction) => inbox.unsafeTake(transaction, "a")))
      assert.isTrue(inbox.unsafeHas("a"))
      assert.lengthOf(store.keysOf("inbox"), 2)
      assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 2, inbox: 2, unaccounted: 0 })
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

  it.scoped("L5: what is to be known of the messages is in their keys: none is read", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* add(...Array.from({ length: 50 }, (_, n) => item(`m-${n}`, { bytes: n }))).pipe(
        Effect.provide(layer({ store }))
      )
      const before = store.read
      yield* Effect.gen(function* () {
        assert.deepInclude((yield* Inbox).unsafeUsage(), { messages: 50, bytes: 1_225 })
        assert.isTrue((yield* Inbox).unsafeHas("m-49"))
        assert.strictEqual(store.read, before)
      }).pipe(Effect.provide(layer({ store })))
    })
  })

  it.scoped("whatever their ids, sizes and times, and under keys of earlier versions", () => {
    const store = new FakeStore()
    const odd = [
      item("plain", { bytes: 0, expiresAt: 60_000 }),
      item("with/slash", { bytes: 1 }),
      item("~", { bytes: 2, expiresAt: 60_000.5 }),
      item("\ud800", { bytes: 2 ** 40, expiresAt: 2 ** 52 }),
      item("", { bytes: 4 }),
      item("l".repeat(129), { bytes: 5, expiresAt: 60_001 }),
      item("at once", { bytes: 6, expiresAt: -1.5 })
    ]
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        yield* commit((transaction) =>
          transaction.put(table<UndispatchedItem>("inbox", 1), ordered(1), item("earlier"))
        )
      }).pipe(Effect.provide(layer({ store })))
      yield* add(...odd.slice(0, -1)).pipe(Effect.provide(layer({ store })))
      store.hold()
      yield* Effect.gen(function* () {
        const inbox = yield* Inbox
        assert.deepStrictEqual([...inbox.unsafeItems()], [item("earlier"), ...odd.slice(0, -1)])
        assert.strictEqual(inbox.unsafeUsage().bytes, 100 + 0 + 1 + 2 + 2 ** 40 + 4 + 5)
        for (const { message } of odd.slice(0, -1)) assert.isTrue(inbox.unsafeHas(message.id), message.id)
      }).pipe(Effect.provide(layer({ store })))
      store.release()
      const removed: Array<string> = []
      yield* Effect.gen(function* () {
        yield* add(odd.at(-1)!)
        yield* pass(60_000)
        assert.deepStrictEqual(removed, ["at once expired", "plain expired"])
        yield* pass(1)
        assert.deepStrictEqual(removed.slice(2).toSorted(), [`${"l".repeat(129)} expired`, "~ expired"])
        assert.deepStrictEqual(yield* ids, ["earlier", "with/slash", "\ud800", ""])
      }).pipe(Effect.provide(layer({ store, removed })))
    })
  })
})
