/** Clients that do not read their answers, or say something wrong while these are written: every answer stands in its place. */
import { connect } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker } from "../kit/broker.js"
import { type Session, sharedBroker, startSession } from "../kit/endToEnd.js"
import { makeFlood } from "../kit/flood.js"
import { AnswerReader, converse } from "../kit/pipeline.js"
import { head } from "../kit/rawHttp.js"

const block = "x".repeat(500_000)
const count = 20

/** The lines of a request with the plugin's token. */
const lines = (broker: RunningBroker, ...others: ReadonlyArray<string>) => [
  `Host: 127.0.0.1:${broker.port}`,
  `Authorization: Bearer ${broker.token}`,
  ...others
]

const statuses = (broker: RunningBroker, pieces: ReadonlyArray<string>) =>
  Effect.map(
    Effect.promise(() =>
      converse(
        broker.port,
        pieces.map((piece) => Buffer.from(piece)),
        "end"
      )
    ),
    (answers) => answers.map(({ status }) => status)
  )

/** Says all of it, and ends nothing; reads when it is told to. */
const lateReader = (broker: RunningBroker, said: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const reader = new AnswerReader()
        let isClosed = false
        const socket = connect({ port: broker.port, host: "127.0.0.1", allowHalfOpen: true })
        socket.on("error", () => undefined).on("close", () => (isClosed = true))
        socket.on("data", (chunk: Buffer) => reader.push(chunk)).on("end", () => (isClosed = true))
        socket.pause()
        socket.write(said)
        return { socket, reader, isClosed: () => isClosed }
      }),
      ({ socket }) => Effect.sync(() => socket.destroy())
    ),
    ({ isClosed, reader, socket }) => ({
      say: (more: string) => Effect.sync(() => void socket.write(more)),
      /** All answers until the broker ends the connection. */
      read: Effect.suspend(() => {
        socket.resume()
        return Effect.as(eventually(Effect.sync(isClosed), Boolean, 10_000), reader.answers)
      })
    })
  )

describe("a client", { timeout: 60_000 }, () => {
  const shared = sharedBroker({ settings: { unreadMs: 1_000, bodyMs: 1_000, headersMs: 1_000, bodyBytes: 1_000_000 } })

  /** The inbox is long: its list is written for as long as nobody reads it. */
  const filled = Effect.gen(function* () {
    const broker = yield* shared
    const session = yield* startSession(broker)
    const { inbox } = yield* broker.status
    if (inbox.messages >= count) return { broker, session }
    const send = yield* makeFlood(broker, session)
    for (let n = 0; n < count; n++) yield* send(`local:${session.agent}`, block)
    return { broker, session }
  })

  const sendOf = ({ broker, session }: { readonly broker: RunningBroker; readonly session: Session }) => {
    const body = JSON.stringify({ endpoint_id: session.id, to: `local:${session.agent}`, content: "half-closed" })
    const about = [`x-plugin-pid: ${session.plugin.pid}`, `Content-Length: ${Buffer.byteLength(body)}`]
    return `${head("POST /v1/send", lines(broker, ...about))}${body}`
  }

  it.scopedLive("whose body turns out wrong while a long answer is written gets that whole, and nothing else", () =>
    Effect.gen(function* () {
      const { broker } = yield* filled
      const wrong = [
        { about: "Transfer-Encoding: chunked", garbage: "ZZZ\r\n" },
        { about: "Content-Length: 5", garbage: "" }
      ]
      for (const { about, garbage } of wrong) {
        const client = yield* lateReader(broker, head("GET /v1/undispatched", lines(broker, about)))
        yield* Effect.sleep(200)
        yield* client.say(garbage)
        yield* Effect.sleep(200)
        const answers = yield* client.read
        assert.deepStrictEqual(
          answers.map(({ status }) => status),
          [200]
        )
        assert.isAtLeast(JSON.parse(answers[0]!.text).items.length, count)
      }
      assert.strictEqual((yield* broker.call("GET", "/health")).status, 200)
    })
  )

  it.scopedLive("whose request has its answer already gets no second one for its body", () =>
    Effect.gen(function* () {
      const { broker } = yield* filled
      const garbage = "ZZZ\r\n"
      const chunked = "Transfer-Encoding: chunked"
      const nobody = [`Host: 127.0.0.1:${broker.port}`, chunked]
      assert.deepStrictEqual(yield* statuses(broker, [head("POST /v1/send", nobody), garbage]), [401])
      for (const [said, expected] of [
        [head("GET /health", lines(broker, "Content-Length: 5")), 200],
        [head("POST /v1/send", lines(broker, "Content-Length: 2000000")), 413]
      ] as const) {
        const client = yield* lateReader(broker, said)
        const answers = yield* client.read
        assert.deepStrictEqual(
          answers.map(({ status }) => status),
          [expected]
        )
      }
    })
  )

  it.scopedLive("that says no more after its request is answered; one that says half of it, too", () =>
    Effect.gen(function* () {
      const { broker, session } = yield* filled
      const send = sendOf({ broker, session })
      assert.deepStrictEqual(yield* statuses(broker, [send]), [200])
      assert.deepStrictEqual(yield* statuses(broker, [send + head("GET /health", lines(broker))]), [200, 200])
      assert.deepStrictEqual(yield* statuses(broker, [send, send.slice(0, -5)]), [200, 400])
      assert.deepStrictEqual(yield* statuses(broker, [send, send.slice(0, 50)]), [200, 400])
      const list = head("GET /v1/undispatched", lines(broker))
      const [answer] = yield* Effect.promise(() => converse(broker.port, [Buffer.from(list)], "end"))
      assert.isAtLeast(JSON.parse(answer!.text).items.length, count)
    })
  )

  it.scopedLive("that does not read what it asked for is cut off", () =>
    Effect.gen(function* () {
      const { broker } = yield* filled
      const before = (yield* broker.status).limits_hit.unread_answers ?? 0
      yield* lateReader(broker, head("GET /openapi.json", lines(broker)).repeat(300))
      yield* eventually(broker.status, ({ limits_hit }) => limits_hit.unread_answers === before + 1, 10_000)
    })
  )
})
