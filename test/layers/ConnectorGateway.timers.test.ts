/** Every wait of the gateway connector, on the test's clock: both sides of each. The sockets are real. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { FakeGateway, until } from "../kit/FakeGateway.js"
import { FakeStore } from "../kit/FakeStore.js"
import { connectorOn, cursorOf, driven, idsOf, onGateway } from "../kit/gatewayConnector.js"
import { KeptLog } from "../kit/ground.js"
import { jitter, names, pass } from "../kit/steps.js"

/** Nothing comes to pass one millisecond before it is due; then it does. */
const due = (ms: number, what: string, count: () => number) =>
  Effect.gen(function* () {
    const before = count()
    yield* pass(ms - 1)
    assert.strictEqual(count(), before, `${what}: not before ${ms} ms`)
    yield* pass(1)
    yield* until(`${what} after ${ms} ms`, () => count() === before + 1)
  })

const disconnected = (log: KeptLog) => () => log.events.filter((event) => event === "connector_disconnected").length

/** A connector that is not registered, perhaps never will be. */
const unregistered = <A, E>(
  change: (gateway: FakeGateway) => void,
  use: (one: Effect.Effect.Success<typeof driven>, gateway: FakeGateway, log: KeptLog) => Effect.Effect<A, E>
) =>
  Effect.gen(function* () {
    const gateway = yield* FakeGateway.make
    const log = new KeptLog()
    change(gateway)
    return yield* Effect.flatMap(driven, (one) => use(one, gateway, log)).pipe(
      Effect.provide(connectorOn(gateway.url, { log }))
    )
  })

describe("opening a connection", () => {
  it.scoped("takes no more than 10 s", () =>
    unregistered(
      (gateway) => {
        gateway.handshake = "hang"
      },
      (one, gateway, log) =>
        Effect.gen(function* () {
          yield* until("it hangs", () => gateway.handshakes === 1)
          yield* due(10_000, "it is given up", disconnected(log))
          assert.strictEqual(one.connector.unsafeLink().reason, "the connection did not open within 10000 ms")
        })
    )
  )
  it.scoped("is not over when the other side says a little now and then", () =>
    unregistered(
      (gateway) => {
        gateway.handshake = "hang"
      },
      (_, gateway, log) =>
        Effect.gen(function* () {
          yield* until("it hangs", () => gateway.handshakes === 1)
          gateway.dribble("HTTP/1.1 101 Sw")
          yield* pass(6_000)
          gateway.dribble("itching")
          yield* due(4_000, "it is given up", disconnected(log))
        })
    )
  )
  it.scoped("and registering takes no more than 15 s more: 4000 Register timeout", () =>
    unregistered(
      (gateway) => {
        gateway.register = () => undefined
      },
      (one, gateway, log) =>
        Effect.gen(function* () {
          yield* until("it registers", () => gateway.registered.length === 1)
          yield* due(15_000, "it is given up", disconnected(log))
          yield* until("it was closed", () => gateway.closes.length === 1)
          assert.deepStrictEqual(gateway.closes, [{ code: 4000, reason: "Register timeout" }])
          assert.strictEqual(one.connector.unsafeLink().state, "down")
        })
    )
  )
})

describe("the next connection", () => {
  it.scoped("comes after 1, 2, 4, 8, 16, 30, 30 s, and after a registration that worked at once after 1 s", () =>
    unregistered(
      (gateway) => {
        gateway.handshake = 503
      },
      (one, gateway, log) =>
        Effect.gen(function* () {
          yield* jitter(1)
          let failures = 1
          for (const wait of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
            yield* until("it failed", () => disconnected(log)() === failures)
            yield* due(wait, "it tries again", () => gateway.handshakes)
            failures++
          }
          gateway.handshake = "take"
          yield* until("it failed once more", () => disconnected(log)() === failures)
          yield* pass(30_000)
          yield* one.isUp
          gateway.cut()
          yield* until("it is down", () => disconnected(log)() === failures + 1)
          yield* due(1_000, "it tries again", () => gateway.registered.length)
        }).pipe(Effect.scoped)
    )
  )
  it.scoped("comes after 75 % of that at the earliest", () =>
    unregistered(
      (gateway) => {
        gateway.handshake = 503
      },
      (_, gateway, log) =>
        Effect.gen(function* () {
          yield* jitter(0)
          for (const [index, wait] of [750, 1_500, 3_000].entries()) {
            yield* until("it failed", () => disconnected(log)() === index + 1)
            yield* due(wait, "it tries again", () => gateway.handshakes)
          }
        }).pipe(Effect.scoped)
    )
  )
  it.scoped("after Already connected comes after 2 s, whatever chance says", () =>
    unregistered(
      (gateway) => {
        gateway.register = () => ({ status: "error", reason: "Already connected" })
      },
      (_, gateway, log) =>
        Effect.gen(function* () {
          yield* jitter(0)
          for (const index of [1, 2, 3]) {
            yield* until("it was refused", () => disconnected(log)() === index)
            yield* due(2_000, "it tries again", () => gateway.registered.length)
          }
        }).pipe(Effect.scoped)
    )
  )
  it.scoped("does not keep the broker from leaving", () =>
    unregistered(
      (gateway) => {
        gateway.handshake = 503
      },
      (_, __, log) => until("it waits", () => disconnected(log)() === 1)
    )
  )
})

describe("a silent link", () => {
  it.scoped("is pinged every 15 s and stays while the gateway answers, though it says nothing else", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        for (const pings of [1, 2, 3, 4]) {
          yield* due(15_000, "a ping", () => gateway.pings)
          yield* gateway.roundTrip
          assert.strictEqual(gateway.pings, pings)
        }
        assert.strictEqual(one.connector.unsafeLink().state, "up")
        assert.lengthOf(gateway.registered, 1)
      })
    )
  )
  it.scoped("that is silent because nobody reads it is not taken for half-open", () =>
    Effect.gen(function* () {
      const gateway = yield* FakeGateway.make
      gateway.redelivers = false
      yield* Effect.gen(function* () {
        const one = yield* driven
        yield* one.isUp
        const [first, ...others] = names("m", 10).map((name) => gateway.keep(name))
        gateway.say(...others)
        // In the turn in which reading pauses.
        yield* until("it asked for the first", () => gateway.askedSince.length === 1)
        gateway.freeze()
        for (let intervals = 0; intervals < 4; intervals++) yield* pass(15_000)
        assert.lengthOf(gateway.registered, 1)
        gateway.say(first!)
        yield* one.receive
        yield* one.got(10)
        assert.strictEqual(one.connector.unsafeLink().state, "up")
      }).pipe(Effect.scoped, Effect.provide(connectorOn(gateway.url, { settings: { waitingMessages: 5 } })))
    })
  )
  it.scoped("that is half-open is found within two of these", () => {
    const log = new KeptLog()
    return onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          gateway.freeze()
          const sending = yield* Effect.fork(Effect.exit(one.send("a")))
          yield* pass(15_000)
          yield* due(15_000, "it is down", disconnected(log))
          assert.strictEqual(one.connector.unsafeLink().reason, "the gateway gave no sign of life")
          assert.isTrue(Exit.isFailure(yield* sending))
        }),
      { log, settings: { sendMs: 1_000_000 } }
    )
  })
})

describe("a send", () => {
  it.scoped("that is not answered has an unknown outcome after 15 s; the late answer changes nothing", () => {
    const log = new KeptLog()
    return onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          gateway.answer = () => undefined
          const sending = yield* Effect.fork(Effect.flip(one.send("a")))
          yield* until("it was sent", () => gateway.of("SEND_MESSAGE").length === 1)
          yield* pass(14_999)
          assert.isNull(sending.unsafePoll())
          yield* pass(1)
          const error = yield* sending
          assert.deepInclude(error, { _tag: "SendOutcomeUnknown", messageId: "a" })
          gateway.say({ event: "SEND_ACK", messageId: "a", status: "delivered" })
          yield* until("it was heard", () => log.events.includes("late_send_ack"))
          assert.strictEqual(one.connector.unsafeLink().state, "up")
        }),
      { log }
    )
  })
})

describe("a gap", () => {
  it.scoped("is waited for 5 s, by every message behind it for itself; then they go without, in order", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.redelivers = false
        const [m1, m2, m3, m4, m5] = ["m1", "m2", "m3", "m4", "m5"].map((name) => gateway.keep(name))
        gateway.say(m3!)
        yield* gateway.roundTrip
        yield* pass(2_000)
        gateway.say(m2!, m5!)
        yield* gateway.roundTrip
        yield* pass(2_999)
        assert.deepStrictEqual(one.contents, [])
        yield* pass(1)
        yield* one.got(2)
        assert.deepStrictEqual(one.contents, ["m2", "m3"])
        yield* pass(1_999)
        assert.lengthOf(one.contents, 2)
        yield* pass(1)
        yield* one.got(3)
        gateway.say(m1!, m4!)
        yield* one.got(5)
        assert.deepStrictEqual(one.contents, ["m2", "m3", "m5", "m1", "m4"], "late ones at once")
      })
    )
  )
  it.scoped("D17: is asked for again after 5 s, 10 s and so on to 60 s, until it is filled", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          yield* jitter(1)
          gateway.redelivers = false
          const [m1, m2] = ["m1", "m2"].map((name) => gateway.keep(name))
          gateway.say(m2!)
          yield* until("it asked", () => gateway.askedSince.length === 1)
          for (const wait of [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]) {
            yield* due(wait, "it asks again", () => gateway.askedSince.length)
          }
          gateway.say(m1!)
          yield* one.got(2)
          yield* pass(200_000)
          yield* gateway.roundTrip
          assert.lengthOf(gateway.askedSince, 7)
        }).pipe(Effect.scoped),
      // Nothing else moves the clock's sleepers.
      { settings: { linkPingMs: 1e9 } }
    )
  )
  it.scoped("is asked for when the gateway says what there is, twice in a second at most", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.redelivers = false
        const there = { event: "DELIVERY_CURSOR", deliverySeq: 2, deliveredSeq: 0 }
        const asked = () => gateway.askedSince.length
        const frames = ["m1", "m2"].map((name) => gateway.keep(name))
        gateway.say(frames[1]!)
        yield* until("it asked for the gap", () => asked() === 1)
        gateway.say(there, there)
        yield* gateway.roundTrip
        yield* due(500, "it asks again", asked)
        gateway.cut()
        yield* pass(1_000)
        yield* one.isUp
        gateway.say(there)
        yield* until("it asks at once over a new link", () => asked() === 3)
        gateway.say(...frames, there)
        yield* one.got(2)
        yield* pass(10_000)
        yield* gateway.roundTrip
        assert.strictEqual(asked(), 3, "nothing is missing")
      })
    )
  )
  it.scoped("is waited for although the link is lost meanwhile, and no longer than otherwise", () =>
    onGateway((one, gateway) =>
      Effect.gen(function* () {
        gateway.redelivers = false
        gateway.handshake = "hang"
        gateway.keep("m1")
        gateway.say(gateway.keep("m2"))
        yield* gateway.roundTrip
        gateway.cut()
        yield* until("it is down", () => one.connector.unsafeLink().state === "down")
        yield* pass(4_999)
        assert.deepStrictEqual(one.contents, [])
        yield* pass(1)
        yield* one.got(1)
      })
    )
  )
})

it.scoped("D5: the cursor and the ids are durable within 50 ms", () => {
  const store = new FakeStore()
  return onGateway(
    (one, gateway) =>
      Effect.gen(function* () {
        gateway.deliver("a", "b")
        yield* one.got(2)
        one.accept("a")
        yield* pass(10)
        one.accept("b")
        yield* pass(14)
        assert.deepStrictEqual(cursorOf(store), [])
        yield* pass(26)
        assert.strictEqual(cursorOf(store)[0]?.sequence, 2)
        assert.deepStrictEqual(idsOf(store), ["a", "b"])
      }),
    { store }
  )
})
