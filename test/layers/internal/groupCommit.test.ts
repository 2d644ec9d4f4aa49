import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Scope, TestClock } from "effect"
import { groupCommit, type StoreDriver } from "../../../src/layers/internal/groupCommit.js"
import { type Store, Transaction, table } from "../../../src/services/Store.js"
import { KeptLog, turns } from "../../kit/ground.js"

const things = table<number>("things", 1)

/** A driver that writes down what it is given; it can fail the next writes, or let them hang. */
class FakeDriver implements StoreDriver {
  /** Keys of each write that was tried, and of each that succeeded. */
  readonly tried: Array<string> = []
  readonly written: Array<string> = []
  failNext = 0
  /** So many transactions are written together at most. */
  together = Number.POSITIVE_INFINITY
  shortage = (): { readonly since: number; readonly reason: string } | undefined => undefined
  isHanging = false
  private hanging: Array<() => void> = []

  readonly write = (batch: ReadonlyArray<Transaction>) =>
    new Promise<number>((resolve, reject) => {
      const first = batch.slice(0, this.together)
      const keys = first.flatMap(({ ops }) => ops.map(({ key }) => key)).join("")
      this.tried.push(keys)
      const finish = () => {
        if (this.failNext > 0) {
          this.failNext--
          return reject(new Error(`disk full at ${keys}`))
        }
        this.written.push(keys)
        resolve(first.length)
      }
      if (this.isHanging) this.hanging.push(finish)
      else finish()
    })

  /** The writes that hang come to their end, and later ones do not hang. */
  letGo(): void {
    this.isHanging = false
    for (const finish of this.hanging.splice(0)) finish()
  }

  readonly get = () => undefined
  readonly range = () => []
  readonly keys = () => []
  readonly count = () => 0
}

const retry = { base: 100, cap: 400, waitMs: 1_000 }
const setup = Effect.gen(function* () {
  const driver = new FakeDriver()
  const log = new KeptLog()
  const store = yield* groupCommit(driver, log.service, retry)
  const told: Array<string> = []
  /** A transaction of one record, which tells its key when durable. */
  const put = (key: string, onDurable?: () => void) => {
    const transaction = new Transaction()
    transaction.put(things, key, 1)
    transaction.onDurable(() => told.push(key))
    if (onDurable !== undefined) transaction.onDurable(onDurable)
    store.unsafeCommit(transaction)
  }
  return { driver, log, store, told, put }
})
const transactionOf = (key: string) => {
  const transaction = new Transaction()
  transaction.put(things, key, 1)
  return transaction
}
const isFailing = (store: Store["Type"]) => store.unsafeHealth()._tag === "Failing"

describe("what waits together", () => {
  it.scoped("is one write: all of one turn, then all that came while that was under way", () =>
    Effect.gen(function* () {
      const { driver, put, told } = yield* setup
      driver.isHanging = true
      put("a")
      put("b")
      yield* turns
      put("c")
      put("d")
      yield* turns
      assert.deepStrictEqual(driver.tried, ["ab"])
      assert.deepStrictEqual(told, [])
      driver.letGo()
      yield* turns
      assert.deepStrictEqual(driver.written, ["ab", "cd"])
      assert.deepStrictEqual(told, ["a", "b", "c", "d"])
    })
  )
  it.scoped("is not there before the call returns: a commit never runs its effects within it", () =>
    Effect.gen(function* () {
      const { driver, put, told } = yield* setup
      put("a")
      assert.deepStrictEqual([driver.tried, told], [[], []])
      yield* turns
      assert.deepStrictEqual(told, ["a"])
    })
  )
  it.scoped("includes what effects of the one before commit, in order", () =>
    Effect.gen(function* () {
      const { driver, put, told } = yield* setup
      driver.isHanging = true
      put("a", () => put("d"))
      yield* turns
      put("b")
      put("c")
      driver.letGo()
      yield* turns
      assert.deepStrictEqual(driver.written, ["a", "bcd"])
      assert.deepStrictEqual(told, ["a", "b", "c", "d"])
    })
  )
})

describe("what is too much for one write", () => {
  it.scoped("is written in several, in order, before what comes meanwhile; each tells when it is durable", () =>
    Effect.gen(function* () {
      const { driver, put, told } = yield* setup
      driver.together = 2
      put("a", () => put("x"))
      for (const key of ["b", "c", "d", "e"]) put(key)
      yield* turns
      assert.deepStrictEqual(driver.written, ["ab", "cd", "ex"])
      assert.deepStrictEqual(told, ["a", "b", "c", "d", "e", "x"])
    })
  )
  it.scoped("stays in order when a part of it fails", () =>
    Effect.gen(function* () {
      const { driver, put, told } = yield* setup
      driver.together = 2
      put("a", () => {
        driver.failNext = 1
      })
      for (const key of ["b", "c"]) put(key)
      yield* turns
      assert.deepStrictEqual(
        [driver.tried, told],
        [
          ["ab", "c"],
          ["a", "b"]
        ]
      )
      put("d")
      yield* TestClock.adjust("100 millis")
      yield* turns
      assert.deepStrictEqual(
        [driver.written, told],
        [
          ["ab", "cd"],
          ["a", "b", "c", "d"]
        ]
      )
    })
  )
})

describe("a store with too little room", () => {
  const shortage = { since: 7, reason: "3 MiB are left" }
  it.scoped("is full, and commits go on", () =>
    Effect.gen(function* () {
      const { driver, put, store, told } = yield* setup
      driver.shortage = () => shortage
      assert.deepStrictEqual(store.unsafeHealth(), { _tag: "Full", ...shortage })
      put("a")
      yield* turns
      assert.deepStrictEqual(told, ["a"])
      driver.shortage = () => undefined
      assert.deepStrictEqual(store.unsafeHealth(), { _tag: "Healthy" })
    })
  )
  it.scoped("is failing when its writes fail", () =>
    Effect.gen(function* () {
      const { driver, put, store } = yield* setup
      driver.shortage = () => shortage
      driver.failNext = 1
      put("a")
      yield* turns
      assert.isTrue(isFailing(store))
      yield* TestClock.adjust("100 millis")
      yield* turns
      assert.strictEqual(store.unsafeHealth()._tag, "Full")
    })
  )
})

describe("a write that fails", () => {
  it.scoped("is retried until it works, in order, with what came meanwhile; effects wait", () =>
    Effect.gen(function* () {
      const { driver, put, told } = yield* setup
      driver.failNext = 2
      put("a")
      put("b")
      yield* turns
      put("c")
      yield* turns
      assert.deepStrictEqual(driver.tried, ["ab"], "nothing passes a write that has to be repeated")
      yield* TestClock.adjust("100 millis")
      yield* turns
      put("d")
      yield* turns
      assert.deepStrictEqual(driver.tried, ["ab", "abc"])
      assert.deepStrictEqual(told, [])
      yield* TestClock.adjust("200 millis")
      yield* turns
      assert.deepStrictEqual(driver.written, ["abcd"])
      assert.deepStrictEqual(told, ["a", "b", "c", "d"])
    })
  )
  it.scoped("is retried after a wait that doubles, up to the cap", () =>
    Effect.gen(function* () {
      const { driver, put } = yield* setup
      driver.failNext = 1_000
      put("a")
      yield* turns
      const step = 20
      for (const full of [100, 200, 400, 400]) {
        const before = driver.tried.length
        let waited = 0
        for (; driver.tried.length === before && waited <= full; waited += step) {
          yield* TestClock.adjust(step)
          yield* turns
        }
        assert.strictEqual(driver.tried.length, before + 1)
        // Tries come within a step, not at its end.
        assert.isTrue(waited >= full * 0.75 - step && waited <= full + step, `${waited} ms of ${full}`)
      }
    })
  )
  it.scoped("shows in the health from the first failure until a write works, and is logged once", () =>
    Effect.gen(function* () {
      const { driver, log, put, store } = yield* setup
      assert.deepStrictEqual(store.unsafeHealth(), { _tag: "Healthy" })
      yield* TestClock.setTime(5_000)
      driver.failNext = 3
      put("a")
      yield* turns
      assert.deepStrictEqual(store.unsafeHealth(), { _tag: "Failing", since: 5_000, reason: "disk full at a" })
      yield* TestClock.adjust("300 millis")
      yield* turns
      assert.isTrue(isFailing(store))
      assert.deepInclude(store.unsafeHealth(), { since: 5_000 })
      yield* TestClock.adjust("10 seconds")
      yield* turns
      assert.deepStrictEqual(store.unsafeHealth(), { _tag: "Healthy" })
      assert.deepStrictEqual(log.events, ["store_write_failed", "store_recovered"])
    })
  )
  it.scoped("is healthy already when its effects run", () =>
    Effect.gen(function* () {
      const { driver, put, store } = yield* setup
      let seen: boolean | undefined
      driver.failNext = 1
      put("a", () => {
        seen = isFailing(store)
      })
      yield* turns
      yield* TestClock.adjust("100 millis")
      yield* turns
      assert.isFalse(seen)
    })
  )
  it.effect("is not repeated once the store is closed", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { driver, put } = yield* Scope.extend(setup, scope)
      driver.failNext = 1
      put("a")
      yield* turns
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("1 minute")
      yield* turns
      assert.deepStrictEqual(driver.tried, ["a"])
    })
  )
})

describe("an effect that throws", () => {
  it.scoped("is logged and stops neither the others nor the next writes", () =>
    Effect.gen(function* () {
      const { driver, log, put, told } = yield* setup
      put("a", () => {
        throw new Error("a fault")
      })
      put("b")
      yield* turns
      put("c")
      yield* turns
      assert.deepStrictEqual(told, ["a", "b", "c"])
      assert.deepStrictEqual(driver.written, ["ab", "c"])
      assert.deepStrictEqual(log.events, ["after_commit_failed"])
    })
  )
  it.scoped("of a transaction without records does not reach its caller", () =>
    Effect.gen(function* () {
      const { log, store } = yield* setup
      const transaction = new Transaction()
      transaction.onDurable(() => {
        throw new Error("a fault")
      })
      store.unsafeCommit(transaction)
      assert.deepStrictEqual(log.events, ["after_commit_failed"])
    })
  )
})

describe("a transaction without records", () => {
  it.scoped("waits for all before it when it is a barrier, and runs at once where nothing is before it", () =>
    Effect.gen(function* () {
      const { driver, put, store, told } = yield* setup
      const barrier = (name: string) => {
        const transaction = new Transaction()
        transaction.isBarrier = true
        transaction.onDurable(() => told.push(name))
        store.unsafeCommit(transaction)
      }
      barrier("first")
      assert.deepStrictEqual(told, ["first"])
      driver.isHanging = true
      put("a")
      barrier("second")
      yield* turns
      assert.deepStrictEqual(told, ["first"])
      driver.letGo()
      yield* turns
      assert.deepStrictEqual(told, ["first", "a", "second"])
    })
  )
  it.scoped("runs its effects at once, whatever is being written", () =>
    Effect.gen(function* () {
      const { driver, put, store, told } = yield* setup
      driver.isHanging = true
      put("a")
      yield* turns
      const empty = new Transaction()
      empty.onDurable(() => told.push("empty"))
      store.unsafeCommit(empty)
      assert.deepStrictEqual(told, ["empty"])
      assert.deepStrictEqual(driver.tried, ["a"])
    })
  )
})

describe("a caller that waits", () => {
  it.scoped("is answered when its transaction is durable, also where the store failed for a moment", () =>
    Effect.gen(function* () {
      const { driver, store } = yield* setup
      driver.failNext = 1
      const waiting = yield* Effect.fork(store.unsafeCommitWithin(transactionOf("a")))
      yield* turns
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(driver.written, ["a"])
    })
  )
  it.scoped(
    "is refused once the store has failed for that long, and who comes later at once; all is written later",
    () =>
      Effect.gen(function* () {
        const { driver, put, store } = yield* setup
        driver.failNext = 1_000
        put("a")
        yield* turns
        yield* TestClock.adjust("600 millis")
        const waiting = yield* Effect.fork(Effect.flip(store.unsafeCommitWithin(transactionOf("b"))))
        yield* TestClock.adjust("399 millis")
        yield* turns
        assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
        yield* TestClock.adjust("1 millis")
        assert.deepInclude(yield* Fiber.join(waiting), { _tag: "store_unavailable", retryable: true })
        assert.match((yield* Effect.flip(store.unsafeCommitWithin(transactionOf("c")))).message, /disk full at a/)
        driver.failNext = 0
        yield* TestClock.adjust("400 millis")
        yield* turns
        assert.deepStrictEqual(driver.written, ["abc"])
        yield* store.unsafeCommitWithin(transactionOf("d"))
      })
  )
})

describe("a caller of a store that fails", () => {
  it.scoped("is answered in time also where the clock was set back meanwhile", () =>
    Effect.gen(function* () {
      const clock = Object.create(yield* Effect.clock, { unsafeCurrentTimeMillis: { value: () => 0 } })
      const { driver, store } = yield* Effect.withClock(setup, clock)
      driver.failNext = 100
      const waiting = yield* Effect.fork(Effect.flip(store.unsafeCommitWithin(transactionOf("a"))))
      yield* turns
      yield* TestClock.adjust(1_000)
      assert.match((yield* Fiber.join(waiting)).message, /disk full at a/)
    })
  )
})

describe("a write that hangs", () => {
  it.scoped("fails after a while: who waits is answered, and it is healthy again when the write ends", () =>
    Effect.gen(function* () {
      const { driver, log, store } = yield* setup
      yield* store.unsafeCommitWithin(transactionOf("a"))
      yield* TestClock.adjust(600)
      driver.isHanging = true
      const waiting = yield* Effect.fork(Effect.flip(store.unsafeCommitWithin(transactionOf("b"))))
      yield* turns
      // Watched since the write of "a"; the one of "b" has not lasted long then.
      yield* TestClock.adjust(999)
      assert.isFalse(isFailing(store))
      yield* TestClock.adjust(1)
      assert.match((yield* Fiber.join(waiting)).message, /has not ended for 1000 ms/)
      assert.isTrue(isFailing(store))
      assert.deepStrictEqual(log.events, ["store_write_hangs"])
      // Neither is waited for again, nor told of again.
      assert.match((yield* Effect.flip(store.unsafeCommitWithin(transactionOf("c")))).message, /has not ended/)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(driver.tried, ["a", "b"])
      driver.letGo()
      yield* turns
      assert.isFalse(isFailing(store))
      assert.deepStrictEqual(driver.written, ["a", "b", "c"])
      assert.deepStrictEqual(log.events, ["store_write_hangs", "store_recovered"])
    })
  )
  it.scoped("and fails in the end is retried as any other", () =>
    Effect.gen(function* () {
      const { driver, put, store, told } = yield* setup
      driver.isHanging = true
      driver.failNext = 1
      put("a")
      yield* TestClock.adjust(1_000)
      assert.isTrue(isFailing(store))
      driver.letGo()
      yield* turns
      assert.isTrue(isFailing(store))
      yield* TestClock.adjust(100)
      yield* turns
      assert.isFalse(isFailing(store))
      assert.deepStrictEqual(told, ["a"])
    })
  )
})

describe("waiting for the store", () => {
  it.scoped("commit is done when its transaction is durable, not before", () =>
    Effect.gen(function* () {
      const { driver, store } = yield* setup
      driver.isHanging = true
      const transaction = new Transaction()
      transaction.put(things, "a", 1)
      const commit = yield* Effect.fork(store.commit(transaction))
      yield* turns
      assert.isTrue(Option.isNone(yield* Fiber.poll(commit)))
      driver.letGo()
      yield* Fiber.join(commit)
      assert.deepStrictEqual(driver.written, ["a"])
    })
  )
  it.scoped("flush is done when all that was handed over is durable, retries included", () =>
    Effect.gen(function* () {
      const { driver, put, store, told } = yield* setup
      driver.isHanging = true
      driver.failNext = 1
      put("a")
      yield* turns
      put("b")
      const seen = yield* Deferred.make<ReadonlyArray<string>>()
      yield* Effect.fork(
        Effect.zipRight(
          store.flush,
          Deferred.complete(
            seen,
            Effect.sync(() => [...told])
          )
        )
      )
      yield* turns
      driver.letGo()
      yield* turns
      assert.isFalse(yield* Deferred.isDone(seen))
      yield* TestClock.adjust("100 millis")
      assert.deepStrictEqual(yield* Deferred.await(seen), ["a", "b"])
    })
  )
  it.scoped("flush of a store at rest is done at once and writes nothing", () =>
    Effect.gen(function* () {
      const { driver, put, store } = yield* setup
      yield* store.flush
      put("a")
      yield* turns
      yield* store.flush
      assert.deepStrictEqual(driver.tried, ["a"])
    })
  )
})
