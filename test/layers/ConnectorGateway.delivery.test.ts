import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { FakeGateway, until } from "../kit/FakeGateway.js"
import { FakeStore } from "../kit/FakeStore.js"
import {
  brisk,
  connectorOn,
  cursorOf,
  driven,
  heard,
  message,
  numbered,
  onGateway,
  withConnector
} from "../kit/gatewayConnector.js"
import { names } from "../kit/steps.js"

describe("a message", () => {
  it.scopedLive("is handed over as it came", () =>
    onGateway(({ got, items }, gateway) =>
      Effect.gen(function* () {
        const frame = gateway.keep("hällo", { contentType: "markdown", metadata: { correlation_id: "c" } })
        gateway.say(frame)
        yield* got(1)
        const { bytes, token, ...item } = items[0]!
        assert.deepStrictEqual(item, {
          messageId: "hällo",
          from: "mstp://acme.example/bob",
          content: "hällo",
          contentType: "markdown",
          metadata: { correlation_id: "c" },
          redeliverable: true
        })
        assert.strictEqual(bytes, Buffer.byteLength(JSON.stringify(frame)))
        assert.isDefined(token)
      })
    )
  )
  it.scopedLive("A1: in the same write as the registration's answer is not lost, nor one before it", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          yield* one.got(3)
          assert.deepStrictEqual(one.contents, ["early", "a", "b"])
          one.accept()
          yield* until("both were acknowledged", () => gateway.acknowledged.at(-1) === 2)
        }),
      {
        before: (gateway) => {
          gateway.redelivers = false
          gateway.register = () => {
            gateway.say(
              message("early"),
              { event: "REGISTER_ACK", status: "ok", protocolVersion: 4 },
              gateway.keep("a"),
              gateway.keep("b")
            )
            return undefined
          }
        }
      }
    )
  )
  it.scopedLive("of a burst comes with the others of it in one batch", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.deliver(...names("m", 100))
        yield* one.got(100)
        assert.deepStrictEqual(one.contents, names("m", 100))
        assert.isBelow(one.batches.length, 20)
        one.accept()
        yield* until("all were acknowledged", () => gateway.acknowledged.at(-1) === 100)
        assert.isBelow(gateway.acknowledged.length, 20, "and is acknowledged with them")
      })
    )
  )
})

describe("acknowledgement", () => {
  it.scopedLive("A7: follows acceptance, never arrival, and passes no number that is not accepted", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.deliver("a", "b", "c", "d")
        yield* one.got(4)
        yield* heard(gateway, one.send)
        assert.deepStrictEqual(gateway.acknowledged, [])
        one.accept("b", "d")
        yield* heard(gateway, one.send)
        assert.deepStrictEqual(gateway.acknowledged, [])
        one.accept("a")
        yield* until("a and b", () => gateway.acknowledged.at(-1) === 2)
        one.accept("c")
        yield* until("all", () => gateway.acknowledged.at(-1) === 4)
        assert.deepStrictEqual(gateway.acknowledged, [2, 4])
        assert.deepStrictEqual(gateway.mailbox, [])
      })
    )
  )
  it.scopedLive("the examples of the protocol", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          const step = (...frames: ReadonlyArray<object>) =>
            Effect.gen(function* () {
              const from = gateway.heard.length
              const count = one.items.length
              gateway.say(...frames)
              yield* heard(gateway, one.send)
              if (one.items.length > count) one.accept()
              yield* heard(gateway, one.send)
              return gateway.heard
                .slice(from)
                .flatMap(({ event, sinceSeq, upToSeq }) =>
                  event === "DELIVERY_ACK"
                    ? [`ACK ${upToSeq}`]
                    : event === "REQUEST_GAP_FILL"
                      ? [`FILL ${sinceSeq}`]
                      : []
                )
            })
          assert.deepStrictEqual(yield* step(numbered(1)), ["ACK 1"])
          assert.deepStrictEqual(yield* step(numbered(3)), ["FILL 1"])
          assert.deepStrictEqual(yield* step(numbered(2)), ["ACK 3"])
          assert.deepStrictEqual(yield* step(numbered(5)), ["FILL 3"])
          const skip = { event: "DELIVERY_SKIP", seq: 4, reason: "runtime_mailbox_dismissed" }
          assert.deepStrictEqual(yield* step(skip), ["ACK 4", "ACK 5"], "5 waited for 4")
          const cursor = { event: "DELIVERY_CURSOR", deliverySeq: 9, deliveredSeq: 7 }
          assert.deepStrictEqual(yield* step(cursor), ["FILL 7"])
          for (const seq of [8, 9]) gateway.say(numbered(seq))
          yield* heard(gateway, one.send)
          one.accept()
          yield* heard(gateway, one.send)
          assert.deepStrictEqual(yield* step({ ...cursor, deliveredSeq: 2 }), ["ACK 9"])
          assert.deepStrictEqual(yield* step({ event: "DELIVERY_CURSOR", deliverySeq: 9 }), [])
          assert.deepStrictEqual(yield* step({ ...skip, seq: 11 }), ["FILL 9"], "a skip beyond a gap")
          assert.deepStrictEqual(yield* step({ ...skip, seq: 10, reason: "other" }), [], "no skip")
        }),
      {
        before: (gateway) => {
          gateway.redelivers = false
        }
      }
    )
  )
  it.scopedLive("is said again when the gateway is behind what it was told", () =>
    Effect.gen(function* () {
      const gateway = yield* FakeGateway.make
      const store = new FakeStore()
      yield* withConnector(
        gateway,
        (one) =>
          Effect.gen(function* () {
            gateway.deliver("a", "b")
            yield* one.got(2)
            one.accept()
            yield* until("it was kept", () => cursorOf(store)[0]?.sequence === 2)
          }),
        { store, settings: brisk }
      )
      gateway.heard.length = 0
      gateway.register = () => ({ status: "ok", protocolVersion: 4, deliverySeq: 1 })
      yield* withConnector(
        gateway,
        () =>
          Effect.gen(function* () {
            assert.strictEqual(gateway.registered.at(-1)?.lastKnownSeq, 2)
            yield* until("it was told", () => gateway.acknowledged.length === 1)
            assert.deepStrictEqual(gateway.acknowledged, [2])
          }),
        { store }
      )
    })
  )
  it.scopedLive("of what was accepted while there was no link follows with the next one", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          gateway.deliver("a", "b")
          yield* one.got(2)
          gateway.register = () => {
            // Accepted after the cursor was told, before the answer.
            one.accept("b")
            return { status: "ok", protocolVersion: 4 }
          }
          gateway.close(1001)
          yield* until("the link is down", () => one.connector.unsafeLink().state === "down")
          one.accept("a")
          yield* until("both are acknowledged", () => gateway.acknowledged.at(-1) === 2)
          assert.strictEqual(gateway.registered.at(-1)?.lastKnownSeq, 1)
          assert.deepStrictEqual(one.contents, ["a", "b"], "and what is here does not come again")
        }),
      { settings: { ...brisk, backoffMs: 50 } }
    )
  )
})

describe("order and gaps", () => {
  it.scopedLive(
    "what comes out of order is handed over in order, and the gateway is asked once for what is missing",
    () =>
      onGateway((one, gateway) =>
        Effect.gen(function* () {
          gateway.redelivers = false
          const frames = names("m", 100).map((name) => gateway.keep(name))
          gateway.say(...frames.slice(1))
          yield* until("it was asked", () => gateway.askedSince.length === 1)
          yield* heard(gateway, one.send)
          assert.deepStrictEqual(gateway.askedSince, [0], "D19")
          assert.deepStrictEqual(one.contents, [])
          gateway.say(frames[0]!)
          yield* one.got(100)
          assert.deepStrictEqual(one.contents, names("m", 100))
        })
      )
  )
  it.scopedLive("a gap is filled by the gateway; B1: what comes twice is handed over once", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        const frames = names("m", 5).map((name) => gateway.keep(name))
        gateway.say(frames[0]!, frames[0]!, frames[4]!, frames[2]!)
        yield* one.got(5)
        assert.deepStrictEqual(one.contents, names("m", 5))
        one.accept()
        yield* until("all were acknowledged", () => gateway.acknowledged.at(-1) === 5)
        gateway.say(...frames)
        yield* heard(gateway, one.send)
        assert.lengthOf(one.contents, 5)
      })
    )
  )
  it.scopedLive("any shuffle with repetitions comes in order, each once", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.redelivers = false
        const given = names("m", 200)
        const frames = given.map((name) => gateway.keep(name))
        const shuffled = [...frames, ...frames].sort((a, b) => ((a.seq * 7919) % 211) - ((b.seq * 7919) % 211))
        for (const frame of shuffled) gateway.say(frame)
        yield* one.got(200)
        assert.deepStrictEqual(one.contents, given)
      })
    )
  )
  it.scopedLive("D18: a message under a second number is not handed over, and both numbers are acknowledged", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.say(numbered(1), numbered(2, { messageId: "m1" }), numbered(3))
        yield* one.got(2)
        assert.deepStrictEqual(one.contents, ["m1", "m3"])
        one.accept()
        yield* until("all three", () => gateway.acknowledged.at(-1) === 3)
        gateway.say(numbered(4, { messageId: "m1" }))
        yield* until("the fourth", () => gateway.acknowledged.at(-1) === 4)
      })
    )
  )
  it.scopedLive("D17: what the broker let go is asked for when the broker wants it, and blocks nothing meanwhile", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.deliver("a", "b", "c")
        yield* one.got(3)
        one.release("a", "b")
        one.accept("c")
        gateway.deliver("d")
        yield* one.got(4)
        yield* heard(gateway, one.send)
        assert.deepStrictEqual(gateway.askedSince, [])
        one.connector.unsafeRedeliver()
        yield* one.got(6)
        assert.deepStrictEqual(gateway.askedSince, [0])
        assert.deepStrictEqual(one.contents, ["a", "b", "c", "d", "a", "b"])
        one.accept("a", "b", "d")
        yield* until("all were acknowledged", () => gateway.acknowledged.at(-1) === 4)
      })
    )
  )
  it.scopedLive("F16: a message under half a number is handed over, and acknowledged under none", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.say(message("a", { seq: 4.5 }), numbered(1))
        yield* one.got(2)
        assert.deepStrictEqual(
          one.items.map(({ redeliverable }) => redeliverable),
          [false, true]
        )
        one.accept()
        yield* until("the other", () => gateway.acknowledged.at(-1) === 1)
      })
    )
  )
})

describe("before there is a handler", () => {
  const limit = 50
  it.scopedLive(
    "so much waits, then reading pauses until there is one; a link that is not read is not taken for dead",
    () =>
      Effect.gen(function* () {
        const gateway = yield* FakeGateway.make
        const given = names("m", 3_000)
        yield* Effect.gen(function* () {
          const one = yield* driven
          yield* one.isUp
          for (const name of given) gateway.say({ ...gateway.keep(name), content: name.padEnd(2_000) })
          // Longer than two pings, which go unanswered.
          yield* Effect.sleep(900)
          assert.lengthOf(gateway.registered, 1)
          yield* one.receive
          yield* one.got(given.length)
          assert.isBelow(one.batches[0]!, given.length / 2)
          assert.isAtLeast(one.batches[0]!, limit)
          assert.deepStrictEqual(
            one.contents.map((content) => content.trim()),
            given
          )
        }).pipe(
          Effect.scoped,
          Effect.provide(connectorOn(gateway.url, { settings: { ...brisk, waitingMessages: limit, linkPingMs: 300 } }))
        )
      })
  )
})
