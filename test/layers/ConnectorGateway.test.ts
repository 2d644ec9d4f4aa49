import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Stream } from "effect"
import { Connector, type SendError } from "../../src/services/Connector.js"
import { connectorContract, Outside } from "../../src/services/contracts/ConnectorContract.js"
import { version } from "../../src/services/model/Version.js"
import { FakeGateway, until } from "../kit/FakeGateway.js"
import { FakeStore } from "../kit/FakeStore.js"
import { brisk, connectorOn, driven, onGateway } from "../kit/gatewayConnector.js"
import { KeptLog } from "../kit/ground.js"

/** One life of a connector on the gateway, with the gateway as its outside. */
const lifeOn = (gateway: FakeGateway, store: FakeStore) =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const context = yield* Layer.build(connectorOn(gateway.url, { settings: brisk, store }))
      yield* Effect.provide(
        Effect.flatMap(driven, ({ isUp }) => isUp),
        context
      )
      return yield* Layer.build(
        Layer.merge(
          Layer.succeedContext(context),
          Layer.succeed(Outside, {
            deliver: (...contents) => Effect.sync(() => gateway.deliver(...contents)),
            reachable: "mstp://acme.example/bob",
            unreachable: "mstp://nobody",
            arrived: Effect.sync(() =>
              gateway.of("SEND_MESSAGE").flatMap(({ content, to }) => (to === "mstp://nobody" ? [] : [content]))
            )
          })
        )
      )
    })
  )
const ownGateway = Effect.map(FakeGateway.make, (gateway) => lifeOn(gateway, new FakeStore()))
connectorContract("ConnectorGateway", Layer.unwrapScoped(ownGateway), { reopened: ownGateway })

describe("the registration", () => {
  it.scopedLive("says who we are, from where on, and no session where there is none", () =>
    onGateway(
      ({ connector }, gateway) =>
        Effect.sync(() => {
          assert.deepStrictEqual(gateway.registered, [
            {
              event: "REGISTER",
              token: "rk_live_x",
              protocolVersion: 4,
              clientVersion: version,
              clientKind: "runtime-broker",
              lastKnownSeq: 0
            }
          ])
          const { agent, owner, reason, state } = connector.unsafeLink()
          assert.deepStrictEqual([state, agent, owner, reason], ["up", "builder", "ana", undefined])
        }),
      {
        before: (gateway) => {
          gateway.register = () => ({
            status: "ok",
            protocolVersion: 4,
            agent: { handle: "builder", name: "Builder" },
            owner: { handle: "ana" },
            deliverySeq: 0
          })
        }
      }
    )
  )

  const refusals = [
    {
      case: "another protocol version",
      ack: { status: "ok", protocolVersion: 5 },
      says: "Unsupported protocol version: 5"
    },
    { case: "no protocol version", ack: { status: "ok" }, says: "Unsupported protocol version: undefined" },
    {
      case: "the reason Unsupported protocol version",
      ack: { status: "error", reason: "Unsupported protocol version" },
      says: "Unsupported protocol version"
    }
  ]
  for (const { ack, case: what, says } of refusals) {
    it.scopedLive(`answered with ${what} is the end: 4001, and the broker is asked to leave`, () =>
      Effect.gen(function* () {
        const gateway = yield* FakeGateway.make
        gateway.register = () => ack
        yield* Effect.gen(function* () {
          const { connector, shutdown } = yield* driven
          assert.strictEqual(yield* shutdown.requested, "unsupported_protocol")
          yield* until("it was closed", () => gateway.closes.length === 1)
          assert.deepStrictEqual(gateway.closes, [{ code: 4001, reason: says }])
          const { reason, state } = connector.unsafeLink()
          assert.strictEqual(state, "down")
          assert.include(reason, says)
          assert.lengthOf(gateway.registered, 1)
        }).pipe(Effect.provide(connectorOn(gateway.url, { settings: brisk })))
      })
    )
  }

  const passing = [
    { case: "Already connected", ack: { status: "error", reason: "Already connected" }, says: "Already connected" },
    { case: "another reason", ack: { status: "error", reason: "Try later" }, says: "Try later" },
    { case: "no reason", ack: { status: "error" }, says: "Unknown registration error" },
    { case: "no status", ack: { protocolVersion: 4 }, says: "Unknown registration error" },
    {
      case: "a session nobody asked for",
      ack: { status: "ok", protocolVersion: 4, deliveryRuntimeSessionId: "s" },
      says: "Runtime session mismatch"
    },
    {
      case: "a reason too long for a close frame, in many bytes a character",
      ack: { status: "error", reason: "ü".repeat(500) },
      says: "ü".repeat(61)
    }
  ]
  for (const { ack, case: what, says } of passing) {
    it.scopedLive(`answered with ${what} is tried again after 4001`, () =>
      onGateway(
        (_, gateway) =>
          Effect.gen(function* () {
            assert.lengthOf(gateway.registered, 3)
            yield* until("both were closed", () => gateway.closes.length === 2)
            assert.deepStrictEqual(gateway.closes, Array(2).fill({ code: 4001, reason: says }))
          }),
        {
          settings: brisk,
          before: (gateway) => {
            gateway.register = (_, attempt) => (attempt <= 2 ? ack : { status: "ok", protocolVersion: 4 })
          }
        }
      )
    )
  }

  it.scopedLive("once answered is not answered again", () =>
    onGateway(({ connector, send }, gateway) =>
      Effect.gen(function* () {
        gateway.say({ event: "REGISTER_ACK", status: "error", reason: "Unsupported protocol version" })
        yield* send("a")
        assert.strictEqual(connector.unsafeLink().state, "up")
        assert.deepStrictEqual(gateway.closes, [])
      })
    )
  )
})

describe("a connection", () => {
  it.scopedLive("4001 Replaced by new Runtime: another runtime took over, and the broker is asked to leave", () =>
    onGateway(
      ({ connector, shutdown }, gateway) =>
        Effect.gen(function* () {
          gateway.close(4001, "Replaced by new Runtime")
          assert.strictEqual(yield* shutdown.requested, "superseded")
          assert.strictEqual(connector.unsafeLink().state, "down")
          assert.strictEqual(connector.unsafeLink().reason, "another runtime of this agent has taken over")
          assert.lengthOf(gateway.registered, 1)
        }),
      { settings: brisk }
    )
  )
  it.scopedLive("that is replaced before it was registered ends the broker, too", () =>
    Effect.gen(function* () {
      const gateway = yield* FakeGateway.make
      gateway.register = () => {
        gateway.close(4001, "Replaced by new Runtime")
        return undefined
      }
      const requested = Effect.flatMap(driven, ({ shutdown }) => shutdown.requested)
      assert.strictEqual(
        yield* requested.pipe(Effect.provide(connectorOn(gateway.url, { settings: brisk }))),
        "superseded"
      )
    })
  )

  const endings: ReadonlyArray<readonly [string, (gateway: FakeGateway) => void]> = [
    ["closed with 1000", (gateway) => gateway.close(1000)],
    ["closed with 1001 and a reason", (gateway) => gateway.close(1001, "restart")],
    ["closed with 1011", (gateway) => gateway.close(1011)],
    ["closed with 4001 and another reason", (gateway) => gateway.close(4001, "replaced by new runtime")],
    ["closed with another code and that reason", (gateway) => gateway.close(4002, "Replaced by new Runtime")],
    ["closed with 4999", (gateway) => gateway.close(4999)],
    ["cut", (gateway) => gateway.cut()],
    ["spoilt by bytes that are no frame", (gateway) => gateway.write(Buffer.from("HTTP/1.1 200 OK\r\n\r\n"))],
    ["spoilt by a text that is no UTF-8", (gateway) => gateway.write(Buffer.from([0x81, 0x02, 0xc3, 0x28]))],
    ["spoilt by a masked frame", (gateway) => gateway.write(Buffer.from([0x81, 0x81, 1, 2, 3, 4, 5]))],
    ["spoilt by a frame of more than may be", (gateway) => gateway.sayRaw("x".repeat(3_000))]
  ]
  for (const [how, end] of endings) {
    it.scopedLive(`that is ${how} is followed by another`, () =>
      onGateway(
        ({ connector, got, isUp, shutdown }, gateway) =>
          Effect.gen(function* () {
            end(gateway)
            yield* until("it registered again", () => gateway.registered.length === 2)
            yield* isUp
            assert.isFalse(shutdown.unsafeIsLeaving())
            gateway.deliver("a")
            yield* got(1)
            assert.strictEqual(connector.unsafeLink().state, "up")
          }),
        { settings: { ...brisk, gatewayFrameBytes: 1_024 } }
      )
    )
  }

  it.scopedLive("C1: that cannot be opened is tried again, and the broker starts without it", () => {
    const log = new KeptLog()
    return Effect.gen(function* () {
      const gateway = yield* FakeGateway.make
      gateway.handshake = 503
      yield* Effect.gen(function* () {
        const { connector, isUp } = yield* driven
        yield* until("it failed three times", () => gateway.handshakes === 3)
        yield* until("it is down", () => connector.unsafeLink().state === "down")
        assert.strictEqual(connector.unsafeLink().reason, "the gateway answered the handshake with 503")
        const { since } = connector.unsafeLink()
        yield* until("it failed again", () => gateway.handshakes === 5)
        assert.strictEqual(connector.unsafeLink().since, since, "down since the first failure")
        gateway.handshake = "take"
        yield* isUp
      }).pipe(Effect.provide(connectorOn(gateway.url, { settings: brisk, log })))
      assert.include(log.events, "connector_connected")
      for (const { fields } of log.lines) assert.notInclude(JSON.stringify(fields), "rk_live_x", "S11")
    })
  })
  for (const url of ["ws://127.0.0.1:1/gateway", "ws://127.0.0.1:1/#no", "no address"]) {
    it.scopedLive(`to ${url} fails, and is tried again`, () => {
      const log = new KeptLog()
      return Effect.gen(function* () {
        const { connector, send } = yield* driven
        yield* until(
          "it failed twice",
          () => log.events.filter((event) => event === "connector_disconnected").length > 1
        )
        assert.strictEqual(connector.unsafeLink().state, "down")
        assert.strictEqual((yield* Effect.flip(send("a")))._tag, "ConnectorUnavailable")
      }).pipe(Effect.provide(connectorOn(url, { settings: brisk, log })))
    })
  }

  it.scopedLive("ends with 1000 Client disconnect when the broker leaves", () =>
    Effect.gen(function* () {
      const gateway = yield* FakeGateway.make
      yield* Effect.flatMap(driven, ({ isUp }) => isUp).pipe(Effect.provide(connectorOn(gateway.url)))
      yield* until("it was closed", () => gateway.closes.length === 1)
      assert.deepStrictEqual(gateway.closes, [{ code: 1000, reason: "Client disconnect" }])
    })
  )
  it.scopedLive("C6: that hangs in its handshake does no harm when the broker leaves", () =>
    Effect.gen(function* () {
      const gateway = yield* FakeGateway.make
      gateway.handshake = "hang"
      yield* until("it hangs", () => gateway.handshakes === 1).pipe(
        Effect.zipLeft(Connector),
        Effect.provide(connectorOn(gateway.url))
      )
    })
  )

  it.scopedLive("is told of by every change of the link", () =>
    onGateway(
      ({ connector, isUp }, gateway) =>
        Effect.gen(function* () {
          const states: Array<string> = []
          const down = yield* Deferred.make<void>()
          yield* connector.links.pipe(
            Stream.runForEach(({ state }) => {
              states.push(state)
              return state === "down" ? Deferred.succeed(down, undefined) : Effect.void
            }),
            Effect.forkScoped
          )
          yield* until("it listens", () => states.length === 1)
          gateway.cut()
          yield* Deferred.await(down)
          yield* isUp
          yield* until("it heard", () => states.length >= 3)
          assert.deepStrictEqual(states, ["up", "down", "up"])
        }),
      { settings: brisk }
    )
  )
})

describe("a send", () => {
  const failing = (send: Effect.Effect<unknown, SendError>) => Effect.map(Effect.flip(send), (error) => error)

  it.scopedLive("carries what it was given, and the answer's status", () =>
    onGateway(({ send }, gateway) =>
      Effect.gen(function* () {
        const metadata = { correlation_id: "c", require_live: true }
        gateway.answer = ({ messageId }) => ({ event: "SEND_ACK", messageId, status: "delivered" })
        assert.deepStrictEqual(yield* send("hi", { messageId: "b1f7", contentType: "markdown", metadata }), {
          messageId: "b1f7",
          status: "delivered"
        })
        assert.deepStrictEqual(gateway.heard, [
          {
            event: "SEND_MESSAGE",
            messageId: "b1f7",
            to: "mstp://acme.example/bob",
            content: "hi",
            contentType: "markdown",
            metadata
          }
        ])
      })
    )
  )
  it.scopedLive("is rejected with the gateway's code and words", () =>
    onGateway(({ send }) =>
      Effect.gen(function* () {
        const error = yield* failing(send("a", { to: "mstp://nobody" }))
        assert.deepInclude(error, { _tag: "SendRejected", code: "recipient_unknown", reason: "nobody" })
      })
    )
  )
  it.scopedLive("has an unknown outcome when the connection is lost before the answer", () =>
    onGateway(
      ({ send }, gateway) =>
        Effect.gen(function* () {
          gateway.answer = () => {
            gateway.cut()
            return undefined
          }
          const [first, second] = yield* Effect.all([failing(send("a")), failing(send("b"))], { concurrency: 2 })
          assert.strictEqual(first._tag, "SendOutcomeUnknown")
          assert.include(["SendOutcomeUnknown", "ConnectorUnavailable"], second._tag)
        }),
      { settings: brisk }
    )
  )
  it.scopedLive("is surely not sent while there is no connection, and the reason is told", () =>
    onGateway(({ connector, send }, gateway) =>
      Effect.gen(function* () {
        gateway.handshake = 503
        gateway.close(1001, "restart")
        yield* until("it is down", () => connector.unsafeLink().state === "down")
        const error = yield* failing(send("a"))
        assert.deepInclude(error, { _tag: "ConnectorUnavailable", reason: "restart (1001)" })
        assert.deepStrictEqual(gateway.heard, [])
      })
    )
  )
  it.scopedLive("is not confused by answers to nobody, and two under one id get one answer", () => {
    const log = new KeptLog()
    return onGateway(
      ({ send }, gateway) =>
        Effect.gen(function* () {
          gateway.answer = () => undefined
          const both = yield* Effect.fork(Effect.all([send("a"), send("a")], { concurrency: 2 }))
          yield* until("both are there", () => gateway.of("SEND_MESSAGE").length === 2)
          gateway.say(
            { event: "SEND_ACK", messageId: "never sent", status: "stored" },
            { event: "ERROR", messageId: "never sent", code: "c", message: "secret" },
            { event: "ERROR", code: "general", message: "secret" },
            { event: "DELIVERY_STATUS", messageId: "a", status: "read" },
            { event: "SEND_ACK", messageId: "a", status: "stored" },
            { event: "SEND_ACK", messageId: "a", status: "delivered" }
          )
          assert.deepStrictEqual(yield* both, Array(2).fill({ messageId: "a", status: "stored" }))
          yield* until("all was heard", () => log.events.filter((event) => event === "late_send_ack").length === 2)
          assert.strictEqual(log.events.filter((event) => event === "gateway_error").length, 2, "C3")
          assert.notInclude(JSON.stringify(log.lines), "secret", "S11")
        }),
      { log }
    )
  })
  it.scopedLive("that its caller gives up leaves nothing behind", () =>
    onGateway(({ send }, gateway) =>
      Effect.gen(function* () {
        gateway.answer = () => undefined
        assert.isTrue((yield* Effect.option(Effect.timeout(send("a"), 20)))._tag === "None")
        gateway.answer = ({ messageId }) => ({ event: "SEND_ACK", messageId, status: "stored" })
        assert.strictEqual((yield* send("a")).status, "stored")
      })
    )
  )
})
