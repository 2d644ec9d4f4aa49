import { EventEmitter } from "node:events"
import type { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Exit, Fiber, Stream, TestClock } from "effect"
import { makeListings } from "../../../src/layers/ipc/listings.js"
import * as LimitsMemory from "../../../src/layers/LimitsMemory.js"
import { Limits } from "../../../src/services/Limits.js"
import { eventually } from "../../kit/broker.js"
import { settle } from "../../kit/core.js"

/** An answer of a connection, which has its turn or waits behind others. */
class Answer extends EventEmitter {
  socket: object | null
  isDestroyed = false
  constructor(isNext: boolean) {
    super()
    this.socket = isNext ? {} : null
  }
  assign() {
    this.socket = {}
    this.emit("socket", this.socket)
  }
  destroy() {
    this.isDestroyed = true
  }
}

const requestOf = (response = new Answer(true), connection: object = new EventEmitter()) =>
  ({ response, source: { socket: connection } }) as unknown as HttpServerRequest.HttpServerRequest

const make = (settings: { readonly inboxLists?: number; readonly inboxListMs?: number } = {}) =>
  Effect.map(Limits, (limits) => ({
    listings: makeListings({ inboxLists: 1, inboxListMs: 1_000, ...settings }, limits),
    refused: () => limits.unsafeHits().inbox_lists ?? 0
  }))

const textOf = ({ body }: HttpServerResponse.HttpServerResponse) =>
  body._tag === "Uint8Array"
    ? Effect.succeed(new TextDecoder().decode(body.body))
    : body._tag === "Stream"
      ? Stream.mkString(Stream.decodeText(body.stream))
      : Effect.dieMessage(body._tag)

/** A list that keeps its place until `latch` opens; its name is in `began` when it has one. */
const held = (name: string, began: Array<string>, latch: Effect.Latch) =>
  Effect.as(
    Effect.zipRight(
      Effect.sync(() => began.push(name)),
      latch.await
    ),
    [name].values()
  )

const provided = Effect.provide(LimitsMemory.layer)
const tenth = "x".repeat(10_000)

describe("a list", () => {
  it.scoped("that is short is one piece, whose length is told", () =>
    Effect.gen(function* () {
      const { listings } = yield* make()
      const lists: ReadonlyArray<ReadonlyArray<unknown>> = [[], [{ a: "ä" }], [1, 2, 3]]
      for (const items of lists) {
        const { body, headers } = yield* Effect.scoped(listings.answer(requestOf(), Effect.succeed(items.values())))
        assert.strictEqual(headers["content-type"], "application/json; charset=utf-8")
        assert.strictEqual(body.contentLength, Buffer.byteLength(JSON.stringify({ items })))
      }
    }).pipe(provided)
  )

  it.scoped("is the same whole, however long; its items are asked for as it is read", () =>
    Effect.gen(function* () {
      const { listings } = yield* make()
      for (const length of [0, 1, 6, 7, 50, 333]) {
        const items = Array.from({ length }, (_, n) => ({ n, tenth }))
        const text = yield* Effect.scoped(
          Effect.flatMap(listings.answer(requestOf(), Effect.succeed(items.values())), textOf)
        )
        assert.strictEqual(text, JSON.stringify({ items }), String(length))
      }
      const part = function* () {
        yield 1
        return "behind"
      }
      const text = yield* Effect.scoped(Effect.flatMap(listings.answer(requestOf(), Effect.sync(part)), textOf))
      assert.strictEqual(text, JSON.stringify({ items: [1], next: "behind" }))
      let asked = 0
      const endless = function* () {
        for (; asked < 10_000; asked++) yield { n: asked, tenth }
        return undefined
      }
      const { body } = yield* listings.answer(requestOf(), Effect.succeed(endless()))
      assert.isBelow(asked, 10)
      if (body._tag !== "Stream") throw new Error(body._tag)
      yield* Stream.runDrain(Stream.take(body.stream, 3)).pipe(Effect.ignore)
      assert.isBelow(asked, 40)
    }).pipe(provided)
  )

  it.scoped("that fails in the middle ends the connection", () =>
    Effect.gen(function* () {
      const { listings } = yield* make()
      const failing = function* () {
        for (let n = 0; n < 20; n++) yield tenth
        throw new Error("no more")
      }
      const answer = new Answer(true)
      const response = yield* listings.answer(requestOf(answer), Effect.succeed(failing()))
      assert.isFalse(answer.isDestroyed)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(textOf(response))))
      assert.isTrue(answer.isDestroyed)
    }).pipe(provided)
  )
})

describe("of several lists", () => {
  it.scoped("so many are written at a time, the others in order when one ends", () =>
    Effect.gen(function* () {
      const { listings } = yield* make({ inboxLists: 2 })
      const began: Array<string> = []
      const latches = yield* Effect.replicateEffect(Effect.makeLatch(), 4)
      const fibers = yield* Effect.forEach(["a", "b", "c", "d"], (name, n) =>
        Effect.fork(Effect.scoped(listings.answer(requestOf(), held(name, began, latches[n]!))))
      )
      yield* settle
      assert.deepStrictEqual(began.splice(0).toSorted(), ["a", "b"])
      yield* latches[1]!.open
      yield* settle
      assert.deepStrictEqual(began, ["c"])
      yield* Fiber.interrupt(fibers[0]!)
      yield* settle
      assert.deepStrictEqual(began, ["c", "d"])
      for (const latch of latches) yield* latch.open
      yield* Fiber.joinAll(fibers.slice(1))
    }).pipe(provided)
  )

  it.scoped("one that waits too long is refused and counted, and takes no place later", () =>
    Effect.gen(function* () {
      const { listings, refused } = yield* make()
      const began: Array<string> = []
      const latch = yield* Effect.makeLatch()
      const ask = (name: string) =>
        Effect.fork(Effect.either(Effect.scoped(listings.answer(requestOf(), held(name, began, latch)))))
      const first = yield* ask("a")
      yield* settle
      const second = yield* ask("b")
      yield* settle
      yield* TestClock.adjust(999)
      assert.strictEqual(refused(), 0)
      const third = yield* ask("c")
      yield* settle
      yield* TestClock.adjust(1)
      const answer = yield* Fiber.join(second)
      assert.isTrue(Either.isLeft(answer) && answer.left._tag === "broker_busy" && answer.left.retryable)
      assert.strictEqual(refused(), 1)
      yield* settle
      assert.deepStrictEqual(began, ["a"])
      yield* latch.open
      assert.isTrue(Either.isRight(yield* Fiber.join(first)))
      assert.isTrue(Either.isRight(yield* Fiber.join(third)))
      assert.deepStrictEqual(began, ["a", "c"])
    }).pipe(provided)
  )

  it.scoped("one whose place is given back in the moment it goes away leaves it to the next", () =>
    Effect.gen(function* () {
      const { listings } = yield* make()
      const began: Array<string> = []
      const latch = yield* Effect.makeLatch()
      const ask = (name: string) => Effect.fork(Effect.scoped(listings.answer(requestOf(), held(name, began, latch))))
      const [a, b, c] = [yield* ask("a"), yield* ask("b"), yield* ask("c")]
      yield* settle
      b.unsafeInterruptAsFork(a.id())
      a.unsafeInterruptAsFork(b.id())
      yield* settle
      assert.deepStrictEqual(began, ["a", "c"])
      yield* latch.open
      yield* Fiber.join(c)
    }).pipe(provided)
  )

  it.scoped("on one connection each begins when those before it were given, and takes no place before", () =>
    Effect.gen(function* () {
      const { listings } = yield* make()
      const began: Array<string> = []
      const latch = yield* Effect.makeLatch()
      yield* latch.open
      const connection = new EventEmitter()
      const [queued, lost] = [new Answer(false), new Answer(false)]
      const waits = yield* Effect.fork(
        Effect.scoped(listings.answer(requestOf(queued, connection), held("queued", began, latch)))
      )
      const gone = yield* Effect.fork(
        Effect.scoped(listings.answer(requestOf(lost, connection), held("lost", began, latch)))
      )
      yield* settle
      yield* Effect.scoped(listings.answer(requestOf(), held("other", began, latch)))
      assert.deepStrictEqual(began, ["other"])
      queued.assign()
      yield* Fiber.join(waits)
      assert.deepStrictEqual(began, ["other", "queued"])
      assert.strictEqual(queued.listenerCount("socket"), 0)
      connection.emit("close")
      assert.isTrue(Exit.isInterrupted(yield* Fiber.await(gone)))
      assert.strictEqual(connection.listenerCount("close"), 0)
    }).pipe(provided)
  )

  it.scoped("no more than 1,024 wait for a place; those whose turn on their connection has not come do not count", () =>
    Effect.gen(function* () {
      const { listings, refused } = yield* make()
      const list = Effect.succeed([].values())
      const connection = new EventEmitter()
      const behind = listings.answer(requestOf(new Answer(false), connection), list)
      const waits = yield* Effect.replicateEffect(Effect.fork(Effect.scoped(behind)), 2_000)
      const latch = yield* Effect.makeLatch()
      const first = yield* Effect.fork(Effect.scoped(listings.answer(requestOf(), held("first", [], latch))))
      yield* settle
      const ask = Effect.suspend(() => listings.answer(requestOf(), list))
      const inLine = yield* Effect.replicateEffect(Effect.fork(Effect.scoped(ask)), 1_024)
      yield* settle
      assert.strictEqual(refused(), 0)
      assert.isTrue(Either.isLeft(yield* Effect.either(ask)))
      assert.strictEqual(refused(), 1)
      yield* latch.open
      yield* Fiber.joinAll([first, ...inLine])
      connection.emit("close")
      yield* Effect.forEach(waits, Fiber.await)
    }).pipe(provided)
  )

  it.scopedLive("one whose client does not read on is cut off soon where others wait, and late where none does", () =>
    Effect.gen(function* () {
      const { listings, refused } = yield* make({ inboxListMs: 15_000 })
      const answer = new Answer(true)
      const long = Array.from({ length: 20 }, () => tenth)
      yield* Effect.fork(
        Effect.scoped(Effect.zipRight(listings.answer(requestOf(answer), Effect.succeed(long.values())), Effect.never))
      )
      yield* Effect.sleep(400)
      assert.isFalse(answer.isDestroyed)
      const other = yield* Effect.fork(Effect.scoped(listings.answer(requestOf(), Effect.succeed([].values()))))
      yield* eventually(
        Effect.sync(() => answer.isDestroyed),
        (isDestroyed) => isDestroyed
      )
      assert.strictEqual(refused(), 1)
      yield* Fiber.interrupt(other)
    }).pipe(provided)
  )
})
