/**
 * Each fault of gateway and platform in each phase of a broker's life: it heals by itself, nothing that was accepted is lost,
 * order is kept, nothing comes twice, and there is never more than one connection to the gateway.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import type { Fault } from "../../src/services/devCloud/Faults.js"
import { eventually, type RunningBroker } from "../kit/broker.js"
import { type Cloud, startCloud, startCloudBroker, untilRegistered } from "../kit/cloud.js"
import { type Session, startSession } from "../kit/endToEnd.js"

interface Trouble {
  readonly name: string
  readonly faults: ReadonlyArray<Fault>
  /** The connection is cut, so that the fault meets a new one. */
  readonly cuts?: boolean
}

const receiving: ReadonlyArray<Trouble> = [
  { name: "the connection is cut", faults: [], cuts: true },
  { name: "the gateway refuses connections", faults: [{ at: "connect", does: "refuse", status: 503 }], cuts: true },
  { name: "the gateway cuts connections", faults: [{ at: "connect", does: "cut" }], cuts: true },
  { name: "the gateway never answers a handshake", faults: [{ at: "connect", does: "lose" }], cuts: true },
  { name: "registrations are refused", faults: [{ at: "register", does: "refuse" }], cuts: true },
  { name: "registrations are not answered", faults: [{ at: "register", does: "lose" }], cuts: true },
  { name: "registrations get a malformed answer", faults: [{ at: "register", does: "malformed" }], cuts: true },
  { name: "the connection is half-open", faults: [{ at: "connection", does: "stall" }] },
  { name: "messages are lost on the way", faults: [{ at: "deliver", does: "lose", times: 4 }] },
  { name: "messages come twice", faults: [{ at: "deliver", does: "duplicate" }] },
  { name: "messages come out of order", faults: [{ at: "deliver", does: "reorder" }] },
  { name: "messages are delayed", faults: [{ at: "deliver", does: "delay", ms: 30 }] },
  { name: "messages are held back", faults: [{ at: "deliver", does: "hold" }] },
  { name: "frames are malformed", faults: [{ at: "deliver", does: "malformed", times: 3 }] },
  { name: "the connection is cut in the middle of messages", faults: [{ at: "deliver", does: "cut", times: 2 }] },
  { name: "acknowledgements are lost", faults: [{ at: "delivery_ack", does: "lose", times: 3 }] },
  { name: "an acknowledgement cuts the connection", faults: [{ at: "delivery_ack", does: "cut", times: 1 }] },
  {
    name: "messages and the requests for them are lost",
    faults: [
      { at: "deliver", does: "lose", times: 2 },
      { at: "gap_fill", does: "lose", times: 2 }
    ]
  },
  { name: "the platform refuses everything", faults: [{ at: "platform", does: "refuse", status: 503 }] },
  { name: "the platform does not answer", faults: [{ at: "platform", does: "lose" }] },
  { name: "the platform answers nonsense", faults: [{ at: "platform", does: "malformed" }] },
  { name: "the platform cuts connections", faults: [{ at: "platform", does: "cut" }] }
]

const quick = {
  handshakeMs: 300,
  registerMs: 300,
  sendMs: 400,
  gapWaitMs: 2_000,
  platformMs: 500,
  closedLookupMs: 100
}

const connections = (cloud: Cloud) =>
  Effect.map(
    Effect.orDie(cloud.view("alice")),
    (view) => view.connections.filter(({ registered }) => registered).length
  )

describe("while a broker receives and sends", () => {
  const scope = Effect.runSync(Scope.make())
  let cloud: Cloud
  let broker: RunningBroker
  let session: Session
  beforeAll(async () => {
    const started = await Effect.runPromise(
      Scope.extend(
        Effect.gen(function* () {
          const cloud = yield* startCloud()
          const broker = yield* startCloudBroker(cloud, "alice", quick)
          yield* untilRegistered(cloud, "alice")
          return { cloud, broker, session: yield* startSession(broker, {}, { agent_id: "alice" }) }
        }),
        scope
      )
    )
    ;({ broker, cloud, session } = started)
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  for (const [n, { cuts = false, faults, name }] of receiving.entries()) {
    it.live(`${name}: every message comes, once and in order, and the link heals`, () =>
      Effect.gen(function* () {
        const expected = Array.from({ length: 24 }, (_, i) => `f${n}m${i}`)
        const inject = (from: number, to: number) =>
          Effect.forEach(expected.slice(from, to), (content) =>
            cloud.inject({ account: "alice", endpoint_id: session.id, content })
          )
        yield* inject(0, 8)
        for (const fault of faults) yield* cloud.fault(fault)
        if (cuts) yield* cloud.cut({ account: "alice" })
        yield* inject(8, 16)
        yield* Effect.sleep(60)
        yield* cloud.clear()
        yield* inject(16, 24)
        const messages = yield* session.plugin.take(expected.length, 15_000)
        assert.deepStrictEqual(
          messages.map(({ content }) => content),
          expected
        )
        yield* eventually(broker.status, ({ connector }) => connector.state === "up")
        yield* eventually(Effect.orDie(cloud.view("alice")), ({ mail }) => mail.waiting === 0)
        assert.strictEqual(yield* connections(cloud), 1)
      })
    )
  }

  for (const { faults, name, outcomes } of [
    {
      name: "the gateway never answers",
      faults: [{ at: "send", does: "lose" }],
      outcomes: ["503 connector_send_outcome_unknown"]
    },
    {
      name: "the gateway sends nonsense before its answer",
      faults: [{ at: "send", does: "malformed" }],
      outcomes: ["200 undefined"]
    },
    {
      name: "the gateway refuses",
      faults: [{ at: "send", does: "refuse", code: "mailbox_full" }],
      outcomes: ["502 connector_rejected"]
    },
    {
      name: "the connection is cut",
      faults: [{ at: "send", does: "cut" }],
      outcomes: ["503 connector_send_outcome_unknown", "503 connector_unavailable"]
    }
  ] satisfies ReadonlyArray<Trouble & { outcomes: ReadonlyArray<string> }>) {
    it.live(`F10: a send while ${name} is told as it is, and the next one works`, () =>
      Effect.gen(function* () {
        for (const fault of faults) yield* cloud.fault(fault as Fault)
        const failed = yield* session.send("mstp://dev/bob", "in trouble")
        assert.include(outcomes as ReadonlyArray<string>, `${failed.status} ${failed.body.error}`)
        yield* cloud.clear()
        yield* eventually(broker.status, ({ connector }) => connector.state === "up")
        const sent = yield* session.send("mstp://dev/bob", "fine again")
        assert.strictEqual(sent.status, 200, JSON.stringify(sent.body))
      })
    )
  }

  it.live("D9: a message sent with store while the gateway is away goes out once it is back", () =>
    Effect.gen(function* () {
      yield* cloud.fault({ at: "connect", does: "refuse", status: 503 })
      yield* cloud.cut({ account: "alice" })
      yield* eventually(broker.status, ({ connector }) => connector.state !== "up")
      const queued = yield* session.send("mstp://dev/bob", "kept", { store: true })
      assert.deepStrictEqual([queued.status, queued.body.status], [202, "queued"])
      yield* cloud.clear()
      yield* eventually(cloud.happened({ account: "alice", event: "SEND_MESSAGE" }), (frames) =>
        frames.some((it) => it.kind === "frame" && it.fields.messageId === queued.body.messageId)
      )
    })
  )
})

describe("D9: what waits for the gateway", () => {
  it.scopedLive("survives a kill, and leaves in order, once", () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const broker = yield* startCloudBroker(cloud, "alice", quick)
      yield* untilRegistered(cloud, "alice")
      const session = yield* startSession(broker, {}, { agent_id: "alice" })
      yield* cloud.fault({ at: "connect", does: "refuse", status: 503 })
      yield* cloud.cut({ account: "alice" })
      yield* eventually(broker.status, ({ connector }) => connector.state !== "up")

      const queued = yield* Effect.forEach(Array.from({ length: 30 }), (_, n) =>
        Effect.map(
          session.send("mstp://dev/bob", `${n} ${"x".repeat(50_000)}`, { store: true }),
          ({ body, status }) => {
            assert.strictEqual(status, 202)
            return body.messageId
          }
        )
      )

      yield* broker.end("SIGKILL")
      const next = yield* startCloudBroker(cloud, "alice", quick, broker.userData)
      assert.deepStrictEqual((yield* next.status).sends, { waiting: 30, given_up: 0 })
      yield* cloud.clear()
      yield* eventually(next.status, ({ sends }) => sends.waiting === 0)
      const sent = yield* cloud.happened({ account: "alice", event: "SEND_MESSAGE" })
      assert.deepStrictEqual(
        sent.flatMap((it) => (it.kind === "frame" ? [it.fields.messageId] : [])),
        queued
      )
    })
  )
})

describe("S9: a frame of the gateway that is too large", () => {
  /** A frame is read up to twice this. */
  const settings = { ...quick, gatewayFrameBytes: 4_096 }

  it.scopedLive(
    "is a dead letter, and the link stays; one beyond what can be read holds all behind it back, unhurriedly",
    () =>
      Effect.gen(function* () {
        const cloud = yield* startCloud()
        const broker = yield* startCloudBroker(cloud, "alice", settings)
        yield* untilRegistered(cloud, "alice")
        const session = yield* startSession(broker, {}, { agent_id: "alice" })
        const inject = (content: string) => cloud.inject({ account: "alice", endpoint_id: session.id, content })
        const opened = Effect.map(cloud.happened({ account: "alice", kind: "connection" }), (all) =>
          all.filter((it) => it.kind === "connection" && it.state === "registered")
        )
        for (const content of ["before", "x".repeat(6_000), "behind"]) yield* inject(content)
        const messages = yield* session.plugin.take(2, 5_000)
        assert.deepStrictEqual(
          messages.map(({ content }) => content),
          ["before", "behind"]
        )
        yield* eventually(Effect.orDie(cloud.view("alice")), ({ mail }) => mail.waiting === 0)
        const { items } = (yield* broker.operator("GET", "/v1/operator/dead")).body
        assert.deepInclude(items[0], { kind: "message", reason: "too_large" })
        assert.isAbove(items[0].bytes, 6_000)
        assert.lengthOf(yield* opened, 1, "the link stayed")

        yield* inject("x".repeat(10_000))
        yield* inject("held back")
        const stuck = yield* eventually(broker.status, ({ connector }) =>
          /again and again/.test(connector.reason ?? "")
        )
        assert.include(stuck.connector.reason, "behind message 3 again and again")
        assert.include(stuck.warnings.join(), "more than 8192 bytes")
        assert.strictEqual((yield* Effect.orDie(cloud.view("alice"))).mail.waiting, 2, "nothing is skipped")
        assert.strictEqual((yield* broker.end("SIGTERM")).code, 0)

        // A broker that may read it takes it, and what is behind it.
        const next = yield* startCloudBroker(cloud, "alice", { ...settings, gatewayFrameBytes: 8_192 }, broker.userData)
        yield* eventually(Effect.orDie(cloud.view("alice")), ({ mail }) => mail.waiting === 0)
        const { books, control_events } = yield* eventually(next.status, (it) => it.control_events.state === "open")
        assert.deepInclude(books, { unaccounted: 0 })
        assert.strictEqual(control_events.name, "http")
      })
  )
})

describe.concurrent("while a broker starts, and while it leaves", () => {
  for (const { faults, name } of receiving.filter(({ faults: [fault] }) =>
    ["connect", "register", "platform"].includes(String(fault?.at))
  )) {
    it.scopedLive(`${name}: it is healthy, heals once that is over, and leaves in time with code 0`, () =>
      Effect.gen(function* () {
        const cloud = yield* startCloud()
        const faulty = Effect.forEach(faults, (fault) => cloud.fault(fault))
        yield* faulty
        const broker = yield* startCloudBroker(cloud, "alice", quick)
        assert.isTrue((yield* broker.call("GET", "/health")).body.ok)
        yield* cloud.clear()
        yield* eventually(broker.status, ({ connector }) => connector.state === "up")
        yield* faulty
        const { code } = yield* broker.end("SIGTERM")
        assert.strictEqual(code, 0)
      })
    )
  }
})
