import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { idInKey } from "../../src/layers/internal/idInKey.js"
import { Store } from "../../src/services/Store.js"
import { FakeGateway, until } from "../kit/FakeGateway.js"
import { FakeStore } from "../kit/FakeStore.js"
import {
  brisk,
  cursorOf,
  type Driven,
  type driven,
  heard,
  idsOf,
  message,
  numbered,
  onGateway,
  withConnector
} from "../kit/gatewayConnector.js"
import { names } from "../kit/steps.js"

describe("the older form", () => {
  const pending = (upTo: string) => ({ event: "DELIVERY_PENDING", count: 1, upTo })
  const words = (gateway: FakeGateway) => gateway.of("DELIVERY_ACK").map(({ upTo }) => upTo)

  it.scopedLive("A7: is acknowledged when everything before it is safe, not before", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.numbers = false
        gateway.say(message("a"), message("b"), pending("cur-77"), message("c"), pending("cur-78"))
        yield* one.got(3)
        assert.isFalse(one.items.some(({ redeliverable }) => redeliverable))
        one.accept("b", "c")
        yield* heard(gateway, one.send)
        assert.deepStrictEqual(words(gateway), [])
        one.accept("a")
        yield* until("both", () => words(gateway).length === 2)
        assert.deepStrictEqual(gateway.of("DELIVERY_ACK"), [
          { event: "DELIVERY_ACK", upTo: "cur-77" },
          { event: "DELIVERY_ACK", upTo: "cur-78" }
        ])
        gateway.say(pending("cur-79"))
        yield* until("at once, when nothing is open", () => words(gateway).length === 3)
        gateway.say(message("a"), message("d"), message("d"))
        yield* one.got(4)
        assert.deepStrictEqual(one.contents, ["a", "b", "c", "d"], "B1")
      })
    )
  )
  it.scopedLive("is not the gateway's own once a message carried a number", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.numbers = false
        gateway.say(message("a"), pending("cur-1"), numbered(1), pending("cur-2"))
        yield* one.got(2)
        one.accept()
        yield* until("the number", () => gateway.acknowledged.at(-1) === 1)
        yield* heard(gateway, one.send)
        assert.deepStrictEqual(gateway.of("DELIVERY_ACK"), [{ event: "DELIVERY_ACK", upToSeq: 1 }])
      })
    )
  )
  it.scopedLive("starts anew with each connection", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          gateway.numbers = false
          gateway.say(message("a"), pending("old"))
          yield* one.got(1)
          gateway.cut()
          yield* until("it is back", () => gateway.registered.length === 2)
          yield* one.isUp
          one.accept()
          gateway.say(message("a"), pending("new"))
          yield* until("the new word", () => words(gateway).length > 0)
          assert.deepStrictEqual(words(gateway), ["new"])
          assert.deepStrictEqual(one.contents, ["a"])
        }),
      { settings: brisk }
    )
  )
})

describe("a runtime session", () => {
  const settings = { ...brisk, runtimeSessionId: "s 1" }
  const before = (gateway: FakeGateway) => {
    gateway.redelivers = false
    gateway.register = () => ({ status: "ok", protocolVersion: 4, deliveryRuntimeSessionId: " s 1 " })
  }

  it.scopedLive("is in every frame that concerns deliveries, and only its own frames count", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          const runtimeSessionId = "s 1"
          assert.strictEqual(gateway.registered[0]?.runtimeSessionId, runtimeSessionId)
          const skip = { event: "DELIVERY_SKIP", reason: "runtime_mailbox_dismissed" }
          for (const other of [{}, { runtimeSessionId: "s 2" }]) {
            gateway.say(
              numbered(7, other),
              { ...skip, seq: 1, ...other },
              { event: "DELIVERY_CURSOR", deliverySeq: 9, ...other }
            )
          }
          yield* heard(gateway, one.send)
          assert.deepStrictEqual(gateway.of("REQUEST_GAP_FILL"), [])
          gateway.say(numbered(2, { runtimeSessionId: " s 1" }))
          yield* until("it was asked", () => gateway.askedSince.length === 1)
          gateway.say(numbered(1, { runtimeSessionId }), { ...skip, seq: 3, runtimeSessionId })
          yield* one.got(2)
          assert.deepStrictEqual(one.contents, ["m1", "m2"])
          one.accept()
          yield* until("all", () => gateway.acknowledged.at(-1) === 3)
          assert.deepStrictEqual(gateway.of("REQUEST_GAP_FILL"), [
            { event: "REQUEST_GAP_FILL", sinceSeq: 0, runtimeSessionId }
          ])
          for (const frame of gateway.of("DELIVERY_ACK")) assert.strictEqual(frame.runtimeSessionId, runtimeSessionId)
        }),
      { settings, before }
    )
  )
  it.scopedLive("that the answer does not name, or names otherwise, is no registration", () =>
    onGateway(
      (_, gateway) =>
        Effect.gen(function* () {
          yield* until("both were closed", () => gateway.closes.length === 2)
          assert.deepStrictEqual(gateway.closes, Array(2).fill({ code: 4001, reason: "Runtime session mismatch" }))
        }),
      {
        settings,
        before: (gateway) => {
          const answers = [{}, { deliveryRuntimeSessionId: "s 2" }, { deliveryRuntimeSessionId: "s 1" }]
          gateway.register = (_, attempt) => ({ status: "ok", protocolVersion: 4, ...answers[attempt - 1] })
        }
      }
    )
  )
  it.scopedLive("has a cursor of its own", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const gateway = yield* FakeGateway.make
      const accepting = (content: string) => (one: Effect.Effect.Success<typeof driven>) =>
        Effect.gen(function* () {
          const from = cursorOf(store).length
          gateway.say(
            numbered(1, { messageId: content, runtimeSessionId: gateway.registered.at(-1)?.runtimeSessionId })
          )
          yield* one.got(1)
          one.accept()
          yield* until("it was kept", () => cursorOf(store).length === from + 1)
        })
      for (const runtimeSessionId of ["", "s 1", "s 2"]) {
        gateway.register = () => ({
          status: "ok",
          protocolVersion: 4,
          ...(runtimeSessionId === "" ? {} : { deliveryRuntimeSessionId: runtimeSessionId })
        })
        yield* withConnector(gateway, accepting("same id"), { store, settings: { ...brisk, runtimeSessionId } })
      }
      assert.deepStrictEqual(
        gateway.registered.map(({ lastKnownSeq }) => lastKnownSeq),
        [0, 0, 0]
      )
    })
  })
})

describe("over a restart", () => {
  it.scopedLive("D5: the cursor is told, and what was accepted beyond it does not come again", () =>
    Effect.gen(function* () {
      const gateway = yield* FakeGateway.make
      const store = new FakeStore()
      const given = names("m", 6)
      yield* withConnector(
        gateway,
        (one) =>
          Effect.gen(function* () {
            gateway.deliver(...given)
            yield* one.got(6)
            one.accept("m1", "m2", "m4", "m6")
            yield* until("it was kept", () => idsOf(store).length === 4)
            // The crash: nothing is said any more.
            gateway.cut()
          }),
        { store, settings: { ...brisk, backoffMs: 60_000, backoffMaxMs: 60_000 } }
      )
      assert.deepStrictEqual(cursorOf(store) as unknown, [
        {
          sequence: 2,
          beyond: [
            [4, 4],
            [6, 6]
          ]
        }
      ])
      assert.deepStrictEqual(idsOf(store), ["m1", "m2", "m4", "m6"])
      yield* withConnector(
        gateway,
        (one) =>
          Effect.gen(function* () {
            assert.strictEqual(gateway.registered.at(-1)?.lastKnownSeq, 2)
            yield* one.got(2)
            gateway.deliver("m7")
            // A message that was accepted comes under another number.
            gateway.say(gateway.keep("again", { messageId: "m4" }))
            yield* one.got(3)
            yield* heard(gateway, one.send)
            assert.deepStrictEqual(one.contents, ["m3", "m5", "m7"])
            one.accept()
            yield* until("all", () => gateway.acknowledged.at(-1) === 8)
          }),
        { store }
      )
    })
  )
  it.scopedLive(
    "D5: what may have been handed over before a crash says so when it comes again, what is new after a leave does not",
    () =>
      Effect.gen(function* () {
        const gateway = yield* FakeGateway.make
        const store = new FakeStore()
        const known = (one: Driven) => one.items.map(({ content, mayBeKnown = false }) => [content, mayBeKnown])
        gateway.deliver(...names("m", 3))
        yield* withConnector(
          gateway,
          (one) =>
            Effect.gen(function* () {
              yield* one.got(3)
              assert.deepStrictEqual(
                known(one),
                names("m", 3).map((name) => [name, false])
              )
              one.accept("m1")
              yield* until("it was kept", () => cursorOf(store)[0]?.sequence === 1)
              // The crash: nothing is written any more.
              store.hold()
            }),
          { store }
        )
        store.dropHeld()
        yield* withConnector(
          gateway,
          (one) =>
            Effect.gen(function* () {
              yield* one.got(2)
              assert.deepStrictEqual(known(one), [
                ["m2", true],
                ["m3", true]
              ])
              one.accept()
              yield* until("all", () => gateway.acknowledged.at(-1) === 3)
            }),
          { store }
        )
        yield* withConnector(
          gateway,
          (one) =>
            Effect.gen(function* () {
              // Up to where the crashed life had marked ahead.
              gateway.deliver(...names("x", 40))
              yield* one.got(40)
              assert.deepInclude(known(one), ["x1", true])
              assert.deepInclude(known(one), ["x40", false])
              one.accept()
              yield* until("all", () => gateway.acknowledged.at(-1) === 43)
            }),
          { store }
        )
        gateway.deliver("y1")
        yield* withConnector(
          gateway,
          (one) =>
            Effect.gen(function* () {
              yield* one.got(1)
              assert.deepStrictEqual(known(one), [["y1", false]])
            }),
          { store }
        )
      })
  )
  it.scopedLive("nothing is handed over before it is durable that it may be, unless the store fails", () => {
    const store = new FakeStore()
    return onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          store.hold()
          // Marks are no mail.
          store.shortage = { since: 0, reason: "the disk has 3 MiB free" }
          gateway.deliver(...names("m", 3_000))
          yield* heard(gateway, one.send)
          const marked = store.recordsOf<{ readonly upTo: number }>("gateway_marks")[0]!.upTo
          assert.isAtMost(one.items.length, marked)
          store.release()
          yield* one.got(3_000)
          store.failure = "disk full"
          gateway.deliver(...names("n", 6_000))
          yield* one.got(9_000)
          assert.isBelow(store.recordsOf<{ readonly upTo: number }>("gateway_marks")[0]!.upTo, 9_000)
        }),
      { store, settings: brisk }
    )
  })
  it.scopedLive("F17: a cursor the gateway gave is kept, too", () => {
    const store = new FakeStore()
    return onGateway(
      (_, gateway) =>
        Effect.gen(function* () {
          gateway.say({ event: "DELIVERY_CURSOR", deliverySeq: 7, deliveredSeq: 7 })
          yield* until("it was kept", () => cursorOf(store)[0]?.sequence === 7)
        }),
      { store, settings: brisk }
    )
  })
  it.scopedLive("ids that differ only in halves of characters are of different messages, however long", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          for (const [index, half] of ["\ud800", "\ud801"].entries()) {
            gateway.say(numbered(index + 1, { messageId: `${"x".repeat(200)}${half}` }))
          }
          yield* one.got(2)
          assert.strictEqual(one.items.length, 2)
        }),
      { store: new FakeStore(), settings: brisk }
    )
  )
  it.scopedLive("an id of any length takes little room", () => {
    const store = new FakeStore()
    const messageId = "x".repeat(100_000)
    return onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          gateway.say(numbered(1, { messageId }))
          yield* one.got(1)
          assert.strictEqual(one.items[0]?.messageId, messageId)
          one.accept()
          yield* until("it was kept", () => idsOf(store).length === 1)
          assert.deepStrictEqual(idsOf(store), [idInKey(messageId)])
          gateway.say(numbered(2, { messageId }))
          yield* until("it is known", () => gateway.acknowledged.at(-1) === 2)
          yield* until("that is kept, too", () => cursorOf(store)[0]?.sequence === 2)
        }),
      { store, settings: brisk }
    )
  })
  it.scopedLive("C7: while the store fails, deliveries go on, and no more than two writes wait for it", () => {
    const store = new FakeStore()
    let commits = 0
    const counting = (given: Store["Type"]): Store["Type"] => ({
      ...given,
      unsafeCommit: (transaction) => {
        commits++
        given.unsafeCommit(transaction)
      }
    })
    Object.assign(store, {
      layer: Layer.map(store.layer, (context) => Context.make(Store, counting(Context.get(context, Store))))
    })
    return onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          store.failure = "disk full"
          commits = 0
          for (const name of names("m", 20)) {
            gateway.deliver(name)
            yield* one.got(Number(name.slice(1)))
            one.accept(name)
            yield* until("it was acknowledged", () => gateway.acknowledged.at(-1) === Number(name.slice(1)))
          }
          assert.deepStrictEqual(cursorOf(store), [])
          assert.isAtMost(commits, 2, "the cursor, and the mark of what is handed over")
          store.failure = undefined
          yield* until("everything is kept", () => idsOf(store).length === 20)
          assert.strictEqual(cursorOf(store)[0]?.sequence, 20)
        }),
      { store, settings: brisk }
    )
  })
  it.scopedLive("what is not written when the broker leaves is written then", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* onGateway(
        (one, gateway) =>
          Effect.gen(function* () {
            gateway.deliver("a")
            yield* one.got(1)
            one.accept()
          }),
        { store, settings: { cursorMs: 1_000_000 } }
      )
      yield* until("it was kept", () => cursorOf(store)[0]?.sequence === 1)
    })
  })
})
