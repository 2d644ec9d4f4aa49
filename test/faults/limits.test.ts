import { connect } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker, startBroker, startPlugin } from "../kit/broker.js"
import { contentsOf, inboxOf, refused, type Session, sharedBroker, startSession, untilState } from "../kit/endToEnd.js"
import { Pipeline } from "../kit/pipeline.js"
import { head, rawRequest, upgradeHeaders } from "../kit/rawHttp.js"
import { idleProcess } from "../kit/startedProcess.js"

const numbers = (count: number, from = 0): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, n) => String(from + n))

/** Waits until status says that the limit was hit so often. */
const hits = (broker: RunningBroker, limit: string, count: number) =>
  eventually(broker.status, ({ limits_hit }) => limits_hit[limit] === count)

const warned = (broker: RunningBroker, ...words: ReadonlyArray<string>) =>
  Effect.map(broker.status, ({ warnings }) => {
    assert.isTrue(
      warnings.some((warning) => words.every((word) => warning.includes(word))),
      warnings.join("\n")
    )
  })

/** Raw connections, closed when the test ends; each is ended by the broker, or says nothing. */
const connections = (broker: RunningBroker, count: number, text?: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      Array.from({ length: count }, () => {
        const socket = connect(broker.port, "127.0.0.1").on("error", () => undefined)
        socket.resume()
        if (text !== undefined) socket.write(text)
        return socket
      })
    ),
    (sockets) =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
      })
  )

const sendAll = ({ send }: Session, to: string, contents: ReadonlyArray<string>) =>
  Effect.forEach(contents, (content) =>
    Effect.map(send(to, content), ({ status }) => assert.strictEqual(status, 200, content))
  )

/** The plugin goes, and its endpoint waits for it. */
const leave = (broker: RunningBroker, { id, plugin }: Session) =>
  Effect.zipRight(plugin.drop, untilState(broker, id, "reconnecting"))

/** It comes back, by registering again. */
const comeBack = (broker: RunningBroker, { agent, plugin }: Session) =>
  startSession(broker, { process: plugin.process }, { agent_id: agent })

const nothingHeld = (broker: RunningBroker) =>
  Effect.map(
    eventually(
      broker.status,
      ({ books, held_back }) => held_back.length === 0 && books.held === 0 && books.accepted > 0
    ),
    ({ books, warnings }) => assert.deepStrictEqual([books.unaccounted, warnings], [0, []])
  )

describe("S9: what the surface takes", () => {
  const shared = sharedBroker({ settings: { channels: 2, headersMs: 200, bodyMs: 400 } })

  it.scopedLive("connections: those beyond the limit are cut, status counts them and warns before", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { sockets: 10 } })
      yield* broker.status
      const open = yield* connections(broker, 8)
      const { sockets } = yield* eventually(broker.status, ({ sockets }) => sockets.open >= 9)
      assert.strictEqual(sockets.limit, 10)
      yield* warned(broker, "of 10 connections are in use")
      const more = yield* connections(broker, 6)
      yield* eventually(
        Effect.sync(() => more.filter(({ destroyed }) => destroyed).length),
        (cut) => cut >= 5
      )
      for (const socket of [...open, ...more]) socket.destroy()
      const after = yield* eventually(broker.status, ({ sockets }) => sockets.open <= 2)
      assert.isAtLeast(after.limits_hit.sockets!, 5)
      assert.deepStrictEqual(after.warnings, [])
    })
  )

  it.scopedLive(
    "channels: 503 too_many_channels beyond the limit; status shows the limit, the refusal and a warning",
    () =>
      Effect.gen(function* () {
        const broker = yield* shared
        const [one, two] = [yield* startPlugin(broker), yield* startPlugin(broker)]
        yield* one.open
        yield* two.open
        const { pid } = yield* idleProcess
        const lines = [
          `Host: 127.0.0.1:${broker.port}`,
          `Authorization: Bearer ${broker.token}`,
          `x-plugin-pid: ${pid}`
        ]
        const answer = yield* rawRequest(broker.port, head("GET /v1/stream", [...upgradeHeaders, ...lines]))
        refused(answer, 503, "too_many_channels", "2")
        const { channels } = yield* hits(broker, "channels", 1)
        assert.deepStrictEqual(channels, { open: 2, limit: 2 })
        yield* warned(broker, "2 of 2 plugin channels")
        yield* one.drop
        yield* two.drop
        yield* eventually(broker.status, ({ channels, warnings }) => channels.open === 0 && warnings.length === 0)
      })
  )

  it.scopedLive("time: headers and bodies that do not come are 408, and counted", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const lines = [`Host: 127.0.0.1:${broker.port}`, `Authorization: Bearer ${broker.token}`, "Content-Length: 9"]
      const answers = yield* Effect.all(
        [
          rawRequest(broker.port, "GET /health HTTP/1.1\r\nHost: "),
          rawRequest(broker.port, `${head("POST /v1/send", lines)}{`)
        ],
        { concurrency: "unbounded" }
      )
      for (const answer of answers) refused(answer, 408, "request_timeout")
      yield* hits(broker, "slow_requests", 2)
    })
  )

  it.scopedLive("bodies: 413 beyond 1 MiB, 400 beyond 64 levels, both counted", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const deep = `${'{"a":'.repeat(64)}{}${"}".repeat(64)}`
      refused(yield* broker.call("POST", "/v1/initialize", deep), 400, "bad_request", "64")
      refused(yield* broker.call("POST", "/v1/initialize", `"${"x".repeat(1024 * 1024)}"`), 413, "body_too_large")
      yield* hits(broker, "body_bytes", 1)
      yield* hits(broker, "json_depth", 1)
    })
  )

  it.scopedLive(
    "bodies: 503 where those of unanswered requests take all the room; small ones are read, and then all again",
    () =>
      Effect.gen(function* () {
        const broker = yield* startBroker({ settings: { requestBytes: 100_000 } })
        /** What is read is answered with 400. */
        const post = (bytes: number) => broker.call("POST", "/v1/initialize", JSON.stringify("x".repeat(bytes)))
        const lines = [
          `Host: 127.0.0.1:${broker.port}`,
          `Authorization: Bearer ${broker.token}`,
          "Content-Length: 90000"
        ]
        const [one] = yield* connections(broker, 1, `${head("POST /v1/initialize", lines)}${"x".repeat(89_999)}`)
        const answer = yield* eventually(post(90_000), ({ status }) => status !== 400)
        refused(answer, 503, "broker_busy", "try again")
        assert.deepInclude(answer.body, { retryable: true })
        assert.strictEqual((yield* post(10_000)).status, 400)
        yield* hits(broker, "request_bytes", 1)
        one!.destroy()
        yield* eventually(post(90_000), ({ status }) => status === 400)
        for (let n = 0; n < 5; n++) assert.strictEqual((yield* post(90_000)).status, 400)
      })
  )

  it.scopedLive("requests: 503 where too many have no answer yet, and then all again", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { requests: 2 } })
      const { address, id } = yield* startSession(broker)
      // Answered when it is on disk.
      const body = JSON.stringify({ endpoint_id: id, to: address, content: "x" })
      const lines = [
        `Host: 127.0.0.1:${broker.port}`,
        `Authorization: Bearer ${broker.token}`,
        `Content-Length: ${body.length}`
      ]
      const request = head("POST /v1/send", lines) + body
      const pipeline = new Pipeline(broker.port)
      const statuses = Effect.promise(async () => {
        const methods = numbers(5).map(() => "POST")
        return (await pipeline.exchange(Buffer.from(request.repeat(5)), methods)).map(({ status }) => status)
      })
      assert.deepStrictEqual(yield* statuses, [200, 200, 200, 503, 503])
      yield* hits(broker, "requests", 2)
      assert.deepStrictEqual(yield* statuses, [200, 200, 200, 503, 503])
      pipeline.close()
    })
  )

  it.scopedLive(
    "frames: one that nests too deep is ignored, one over 1 MiB ends the stream with 1009; both counted",
    () =>
      Effect.gen(function* () {
        const broker = yield* startBroker()
        const session = yield* startSession(broker)
        session.socket.send(`{"event":"push_ack","push_id":"x","deep":${"[".repeat(64)}${"]".repeat(64)}}`)
        yield* hits(broker, "json_depth", 1)
        assert.isUndefined(session.plugin.closed())
        session.socket.send("x".repeat(1024 * 1024 + 1))
        const closed = yield* eventually(Effect.sync(session.plugin.closed), (closed) => closed !== undefined)
        assert.strictEqual(closed!.code, 1009)
        yield* hits(broker, "frame_bytes", 1)
      })
  )
})

describe.concurrent("S9: what the broker stores", () => {
  const again = { holdBackMs: 50, holdBackMaxMs: 100 }

  it.scopedLive(
    "D8: for one endpoint: the rest waits, status names the endpoint, others are served, all of it comes",
    () =>
      Effect.gen(function* () {
        const broker = yield* startBroker({ settings: { ...again, mailboxMessages: 10 } })
        const [away, other] = [yield* startSession(broker), yield* startSession(broker)]
        yield* leave(broker, away)
        yield* sendAll(other, away.address, numbers(9))
        yield* eventually(broker.status, ({ books }) => books.held === 9)
        yield* warned(broker, `mailbox of ${away.id} is nearly full`)
        yield* sendAll(other, away.address, numbers(11, 9))
        const { books, held_back } = yield* eventually(broker.status, ({ held_back }) => held_back[0]?.waiting === 10)
        assert.deepInclude(held_back[0], { destination: away.id })
        assert.strictEqual(books.held, 10)
        yield* warned(broker, "10 messages", away.id)
        yield* sendAll(other, other.address, ["served"])
        assert.deepStrictEqual(yield* contentsOf(other.plugin, 1), ["served"])
        const back = yield* comeBack(broker, away)
        assert.deepStrictEqual(yield* contentsOf(back.plugin, 20), numbers(20))
        yield* nothingHeld(broker)
      })
  )

  it.scopedLive("D8, weakness D5: for one endpoint in bytes: none overtakes one that does not fit", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { ...again, mailboxBytes: 20_000 } })
      const [away, other] = [yield* startSession(broker), yield* startSession(broker)]
      const contents = ["a".repeat(15_000), "b".repeat(15_000), "c"]
      yield* leave(broker, away)
      yield* sendAll(other, away.address, contents)
      yield* eventually(broker.status, ({ held_back }) => held_back[0]?.waiting === 2)
      const back = yield* comeBack(broker, away)
      assert.deepStrictEqual(yield* contentsOf(back.plugin, 3), contents)
      yield* nothingHeld(broker)
    })
  )

  it.scopedLive("D8: for all endpoints together: status shows the limit and warns; room anywhere lets all in", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { ...again, totalMessages: 10 } })
      const [one, two] = [yield* startSession(broker), yield* startSession(broker)]
      const other = yield* startSession(broker)
      yield* leave(broker, one)
      yield* leave(broker, two)
      yield* sendAll(other, one.address, numbers(10))
      yield* sendAll(other, two.address, numbers(5))
      const { held_back, mailboxes } = yield* eventually(broker.status, ({ held_back }) => held_back[0]?.waiting === 5)
      assert.deepInclude(mailboxes, { messages: 10, limit_messages: 10 })
      assert.strictEqual(held_back[0]!.destination, two.id)
      yield* warned(broker, "mailboxes are nearly full", "10")
      yield* sendAll(other, other.address, ["served"])
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 1), ["served"])
      const [first, second] = [yield* comeBack(broker, one), yield* comeBack(broker, two)]
      assert.deepStrictEqual(yield* contentsOf(first.plugin, 10), numbers(10))
      assert.deepStrictEqual(yield* contentsOf(second.plugin, 5), numbers(5))
      yield* nothingHeld(broker)
    })
  )

  it.scopedLive(
    "A8, D8, weakness D23: in the inbox: what does not fit in bytes waits, addressed mail passes, and order is kept",
    () =>
      Effect.gen(function* () {
        const broker = yield* startBroker({ settings: { ...again, inboxBytes: 20_000 } })
        const session = yield* startSession(broker)
        const contents = ["a", "b", "c"].map((letter) => letter.repeat(12_000))
        yield* sendAll(session, `local:${session.agent}`, contents)
        const { inbox } = yield* eventually(broker.status, ({ held_back }) => held_back[0]?.waiting === 2)
        assert.deepInclude(inbox, { messages: 1, limit_bytes: 20_000 })
        yield* warned(broker, "2 messages for inbox")
        yield* sendAll(session, session.address, ["served"])
        assert.deepStrictEqual(yield* contentsOf(session.plugin, 1), ["served"])
        for (const content of contents) {
          const [{ id }] = yield* inboxOf(broker, content)
          yield* broker.call("POST", "/v1/dispatch", { undispatched_id: id, target_endpoint_id: session.id })
        }
        assert.deepStrictEqual(yield* contentsOf(session.plugin, 3), contents)
        yield* nothingHeld(broker)
      })
  )

  it.scopedLive(
    "D6: on the loopback network: who does not take its mail fills its own share of it, and nobody else's",
    () =>
      Effect.gen(function* () {
        const broker = yield* startBroker({ settings: { ...again, mailboxMessages: 2, loopbackPending: 3 } })
        const [away, other] = [yield* startSession(broker), yield* startSession(broker)]
        yield* leave(broker, away)
        yield* sendAll(other, away.address, numbers(5))
        yield* eventually(broker.status, ({ held_back }) => held_back[0]?.waiting === 3)
        const sent = yield* other.send(away.address, "5")
        refused(sent, 503, "connector_unavailable", "same receiver")
        assert.strictEqual(sent.body.retryable, true)
        for (const content of numbers(10)) {
          yield* sendAll(other, other.address, [content])
          assert.deepStrictEqual(yield* contentsOf(other.plugin, 1), [content])
        }
        const back = yield* comeBack(broker, away)
        assert.deepStrictEqual(yield* contentsOf(back.plugin, 5), numbers(5))
        // There is room again once the receipts have arrived.
        yield* eventually(other.send(away.address, "5"), ({ status }) => status === 200)
        assert.deepStrictEqual(yield* contentsOf(back.plugin, 1), ["5"])
      })
  )
})
