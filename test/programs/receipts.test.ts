import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { WebSocket } from "ws"
import type { MessageReceived } from "../../src/services/ipc/StreamFrame.js"
import { eventually, type Plugin, type RunningBroker, startBroker } from "../kit/broker.js"
import { contentsOf, reopen, type Session, sharedBroker, startSession, statusOf, untilState } from "../kit/endToEnd.js"

/** A session that answers no push by itself. */
const manual = (broker: RunningBroker, capabilities = ["push_receipt_ack_v1", "push_nack_v1"]) =>
  startSession(broker, { acknowledges: false, capabilities })

const acknowledge = (socket: WebSocket, ...frames: ReadonlyArray<MessageReceived>) =>
  Effect.sync(() => {
    for (const { push_id } of frames) socket.send(JSON.stringify({ event: "push_ack", push_id }))
  })

const refuse = (socket: WebSocket, { push_id }: MessageReceived, reason?: string) =>
  Effect.sync(() => socket.send(JSON.stringify({ event: "push_nack", push_id, reason })))

const sendAll = ({ address, send }: Session, contents: ReadonlyArray<string>) =>
  Effect.forEach(contents, (content) =>
    Effect.map(send(address, content), ({ status }) => assert.strictEqual(status, 200))
  )

const next = (plugin: Plugin) => Effect.map(plugin.take(1), ([frame]) => frame!)
const marks = (frames: ReadonlyArray<MessageReceived>) =>
  frames.map(({ content, redelivered }) => (redelivered ? `${content} again` : content))

const usual = sharedBroker({})

describe.concurrent("a plugin with receipts", () => {
  const shared = sharedBroker({ settings: { nackDelayMs: 50, deliveryLimit: 3, windowMessages: 4 } })

  it.scopedLive("gets each push under an id of its own, and the receipt takes it out of flight", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* manual(broker)
      const { id, socket } = session
      yield* sendAll(session, ["a", "b"])
      const frames = yield* session.plugin.take(2)
      assert.notStrictEqual(frames[0]!.push_id, frames[1]!.push_id)
      for (const { push_id, redelivered } of frames) {
        assert.match(push_id!, /^push_./)
        assert.isUndefined(redelivered)
      }
      assert.deepInclude(yield* statusOf(broker, id), { undelivered: 2, in_flight: 2 })
      yield* acknowledge(socket, frames[1]!)
      yield* eventually(statusOf(broker, id), (endpoint) => endpoint!.in_flight === 1)
      yield* acknowledge(socket, frames[0]!)
      yield* eventually(statusOf(broker, id), (endpoint) => endpoint!.undelivered === 0)
    })
  )

  it.scopedLive("D5: gets nothing again that it acknowledged, and everything else, first and marked, in order", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* manual(broker)
      const { socket } = session
      yield* sendAll(session, ["a", "b", "c", "d"])
      const [a, , c] = yield* session.plugin.take(4)
      yield* acknowledge(socket, a!, c!)
      yield* eventually(statusOf(broker, session.id), (endpoint) => endpoint!.in_flight === 2)
      yield* session.plugin.drop
      yield* untilState(broker, session.id, "reconnecting")
      const second = yield* reopen(session)
      yield* sendAll(session, ["e"])
      const again = yield* session.plugin.take(3)
      assert.deepStrictEqual(marks(again), ["b again", "d again", "e"])
      yield* acknowledge(second, ...again)
      yield* eventually(statusOf(broker, session.id), (endpoint) => endpoint!.undelivered === 0)
      const { books } = yield* broker.status
      assert.strictEqual(books.unaccounted, 0)
    })
  )

  it.scopedLive("gets a refused push again under another id, before everything that came after it", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* manual(broker)
      const { socket } = session
      yield* sendAll(session, ["a"])
      const first = yield* next(session.plugin)
      yield* refuse(socket, first, "busy")
      yield* sendAll(session, ["b"])
      const [again, b] = yield* session.plugin.take(2)
      assert.deepStrictEqual(marks([again!, b!]), ["a again", "b"])
      assert.strictEqual(again!.sourceMessageId, first.sourceMessageId)
      assert.notStrictEqual(again!.push_id, first.push_id)
      yield* acknowledge(socket, again!, b!)
      yield* eventually(statusOf(broker, session.id), (endpoint) => endpoint!.undelivered === 0)
    })
  )

  it.scopedLive("that refuses a message too often never sees it again; it is a dead letter, and others come", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* manual(broker)
      const { socket } = session
      yield* sendAll(session, ["poison"])
      for (let n = 0; n < 3; n++) yield* refuse(socket, yield* next(session.plugin))
      yield* eventually(broker.status, ({ dead_letters }) => dead_letters === 1)
      yield* sendAll(session, ["good"])
      assert.strictEqual((yield* next(session.plugin)).content, "good")
      // No other message of this broker is refused that often.
      const { books } = yield* broker.status
      assert.deepInclude(books, { dead: 1, unaccounted: 0 })
    })
  )

  it.scopedLive("cannot acknowledge or refuse what was pushed to another", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const [one, other] = [yield* manual(broker), yield* manual(broker)]
      yield* sendAll(one, ["mine"])
      const frame = yield* next(one.plugin)
      yield* acknowledge(other.socket, frame)
      yield* refuse(other.socket, frame)
      // What it sends afterwards on the same stream shows that the broker has read the two before.
      yield* sendAll(other, ["yours"])
      yield* acknowledge(other.socket, yield* next(other.plugin))
      yield* eventually(statusOf(broker, other.id), (endpoint) => endpoint!.undelivered === 0)
      assert.deepInclude(yield* statusOf(broker, one.id), { undelivered: 1, in_flight: 1 })
    })
  )

  it.scopedLive("cannot acknowledge on a new stream what was pushed on the old one", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* manual(broker)
      yield* sendAll(session, ["a"])
      const old = yield* next(session.plugin)
      const socket = yield* reopen(session)
      yield* acknowledge(socket, old)
      const again = yield* next(session.plugin)
      assert.deepStrictEqual(marks([again]), ["a again"])
      assert.notStrictEqual(again.push_id, old.push_id)
      assert.strictEqual((yield* statusOf(broker, session.id))!.in_flight, 1)
    })
  )

  it.scopedLive("that never acknowledges has its mail stored after receiptMs, and pushed once only", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { receiptMs: 150 } })
      const session = yield* manual(broker)
      yield* sendAll(session, ["a", "b"])
      yield* session.plugin.take(2)
      const { books } = yield* eventually(broker.status, ({ mailboxes }) => mailboxes.messages === 2)
      assert.deepInclude(books, { accepted: 2, held: 2, delivered: 0, unaccounted: 0 })
      assert.deepInclude(yield* statusOf(broker, session.id), { undelivered: 2, in_flight: 2 })
      yield* sendAll(session, ["c"])
      yield* eventually(broker.status, ({ mailboxes }) => mailboxes.messages === 3)
      assert.deepStrictEqual(marks(session.plugin.messages), ["a", "b", "c"])
      const socket = yield* reopen(session)
      const again = yield* Effect.map(session.plugin.take(4), (frames) => frames.slice(1))
      assert.deepStrictEqual(marks(again), ["a again", "b again", "c again"])
      yield* acknowledge(socket, ...again)
      yield* eventually(broker.status, ({ mailboxes }) => mailboxes.messages === 0)
    })
  )

  it.scopedLive("gets no more than its window at a time, and the rest as it acknowledges", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* manual(broker)
      const { socket } = session
      const contents = Array.from({ length: 10 }, (_, n) => String(n))
      yield* sendAll(session, contents)
      const first = yield* session.plugin.take(4)
      assert.deepInclude(yield* statusOf(broker, session.id), { in_flight: 4, undelivered: 10 })
      yield* acknowledge(socket, ...first)
      const second = yield* session.plugin.take(4)
      yield* acknowledge(socket, ...second)
      assert.deepStrictEqual(marks([...first, ...second, ...(yield* session.plugin.take(2))]), contents)
    })
  )
})

describe("a plugin without receipts", () => {
  it.scopedLive("gets pushes without an id, and each is delivered when it is written", () =>
    Effect.gen(function* () {
      const broker = yield* usual
      const { books: before } = yield* broker.status
      const session = yield* manual(broker, [])
      yield* sendAll(session, ["a", "b"])
      const frames = yield* session.plugin.take(2)
      assert.deepStrictEqual(marks(frames), ["a", "b"])
      for (const frame of frames) assert.notProperty(frame, "push_id")
      const { books } = yield* eventually(broker.status, ({ books }) => books.delivered === before.delivered + 2)
      assert.deepInclude(books, { accepted: before.accepted + 2, held: 0, unaccounted: 0 })
    })
  )

  it.scopedLive("gets the mail of its absence in order, and none of it twice", () =>
    Effect.gen(function* () {
      const broker = yield* usual
      const session = yield* manual(broker, [])
      const sender = yield* startSession(broker)
      yield* session.plugin.drop
      yield* untilState(broker, session.id, "reconnecting")
      for (const content of ["a", "b", "c"]) yield* sender.send(session.address, content)
      yield* reopen(session)
      yield* sender.send(session.address, "d")
      assert.deepStrictEqual(yield* contentsOf(session.plugin, 4), ["a", "b", "c", "d"])
      yield* reopen(session)
      yield* sender.send(session.address, "e")
      assert.deepStrictEqual(marks(yield* session.plugin.take(1)), ["e"])
    })
  )
})

describe("D6: a plugin that stops reading", () => {
  const big = "x".repeat(400_000)
  const shared = sharedBroker({ settings: { windowBytes: 2_000_000, receiptMs: 100 } })

  it.scopedLive("costs others nothing, and gets all of it in order once it reads again", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { books: before } = yield* broker.status
      const [slow, other] = [yield* manual(broker, []), yield* startSession(broker)]
      slow.socket.pause()
      const count = 40
      for (let n = 0; n < count; n++) yield* other.send(slow.address, `${n} ${big}`)
      // 16 MB are more than both ends of a socket hold: the broker keeps the rest in its store.
      const held = yield* eventually(statusOf(broker, slow.id), (endpoint) => endpoint!.stored_bytes > 0)
      assert.strictEqual(held!.state, "active")
      yield* other.send(other.address, "served meanwhile")
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 1), ["served meanwhile"])
      slow.socket.resume()
      const order = (yield* contentsOf(slow.plugin, count)).map((content) => Number.parseInt(content, 10))
      assert.deepStrictEqual(
        order,
        Array.from({ length: count }, (_, n) => n)
      )
      const { books, mailboxes } = yield* eventually(broker.status, ({ mailboxes }) => mailboxes.messages === 0)
      assert.deepStrictEqual(
        [books.delivered, books.unaccounted, mailboxes.bytes],
        [before.delivered + count + 1, 0, 0]
      )
    })
  )

  it.scopedLive("with receipts, it never has more than its window in flight", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { books: before } = yield* broker.status
      const [slow, other] = [yield* startSession(broker), yield* startSession(broker)]
      const { socket } = slow
      socket.pause()
      for (let n = 0; n < 12; n++) yield* other.send(slow.address, `${n} ${big}`)
      const { books } = yield* eventually(broker.status, ({ mailboxes }) => mailboxes.messages === 12)
      assert.deepInclude(books, { accepted: before.accepted + 12, held: 12 })
      assert.isBelow((yield* statusOf(broker, slow.id))!.in_flight, 6)
      socket.resume()
      const order = (yield* contentsOf(slow.plugin, 12)).map((content) => Number.parseInt(content, 10))
      assert.deepStrictEqual(
        order,
        Array.from({ length: 12 }, (_, n) => n)
      )
      yield* eventually(broker.status, ({ books }) => books.delivered === before.delivered + 12)
    })
  )
})

describe.concurrent("order", () => {
  it.scopedLive("B7: mail that arrives during a reattach comes after all that waited", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { windowMessages: 8 } })
      const [session, sender] = [yield* startSession(broker), yield* startSession(broker)]
      yield* session.plugin.drop
      yield* untilState(broker, session.id, "reconnecting")
      const waiting = Array.from({ length: 40 }, (_, n) => `waiting ${n}`)
      const arriving = Array.from({ length: 40 }, (_, n) => `arriving ${n}`)
      for (const content of waiting) yield* sender.send(session.address, content)
      yield* session.plugin.open
      const { pid } = session.plugin
      yield* Effect.all(
        [
          session.plugin.call("POST", `/v1/endpoint/${session.id}/reattach`, { plugin_pid: pid }),
          Effect.forEach(arriving, (content) => sender.send(session.address, content))
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(yield* contentsOf(session.plugin, 80), [...waiting, ...arriving])
      yield* eventually(broker.status, ({ books }) => books.delivered === 80 && books.unaccounted === 0)
    })
  )

  it.scopedLive("D3: streams lost again and again change nothing of the order, and lose nothing", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { windowMessages: 8, spillAgeMs: 1, spillAfterAccepted: 1 } })
      const [session, sender] = [yield* startSession(broker), yield* startSession(broker)]
      const contents = Array.from({ length: 80 }, (_, n) => String(n))
      const reconnecting = Effect.gen(function* () {
        for (let n = 0; n < 10; n++) {
          yield* session.plugin.drop
          yield* Effect.sleep("10 millis")
          yield* reopen(session)
        }
      })
      const sending = Effect.forEach(contents, (content) => sender.send(session.address, content))
      yield* Effect.all([reconnecting, sending], { concurrency: "unbounded" })
      yield* eventually(broker.status, ({ books }) => books.delivered === 80)
      const firsts = session.plugin.messages.filter(({ redelivered }) => !redelivered).map(({ content }) => content)
      const seen = [...new Set(session.plugin.messages.map(({ content }) => content))]
      assert.deepStrictEqual(seen, contents)
      assert.lengthOf(new Set(firsts), firsts.length)
    })
  )
})

describe.concurrent("L4: what is no frame", () => {
  it.scopedLive("is ignored: the stream and its mail go on", () =>
    Effect.gen(function* () {
      const broker = yield* usual
      const session = yield* manual(broker)
      const { socket } = session
      yield* sendAll(session, ["a"])
      const frame = yield* next(session.plugin)
      const { push_id } = frame
      const garbage = [
        "",
        "{",
        "null",
        "7",
        '"push_ack"',
        "[]",
        "{}",
        "[".repeat(100_000) + "]".repeat(100_000),
        `{"event":"push_ack","push_id":"${push_id}","deep":${"[".repeat(70)}${"]".repeat(70)}}`,
        JSON.stringify({ event: "push_ack" }),
        JSON.stringify({ event: "push_ack", push_id: 7 }),
        JSON.stringify({ event: "push_ack", push_id: "push_nobody" }),
        JSON.stringify({ event: "push_nack", push_id, reason: { not: "text" } }),
        JSON.stringify({ event: "PUSH_ACK", push_id }),
        JSON.stringify({ event: "of a later version", push_id }),
        JSON.stringify({ push_id })
      ]
      for (const text of garbage) socket.send(text)
      socket.send(Buffer.from(JSON.stringify({ event: "push_ack", push_id })))
      socket.ping()
      yield* sendAll(session, ["b"])
      const b = yield* next(session.plugin)
      yield* acknowledge(socket, b)
      yield* eventually(statusOf(broker, session.id), (endpoint) => endpoint!.undelivered === 1)
      assert.isUndefined(session.plugin.closed())
      yield* acknowledge(socket, frame)
      yield* eventually(statusOf(broker, session.id), (endpoint) => endpoint!.undelivered === 0)
    })
  )

  it.scopedLive("S9: over 1 MiB ends the stream with 1009, and the broker goes on", () =>
    Effect.gen(function* () {
      const broker = yield* usual
      const session = yield* manual(broker)
      const { socket } = session
      const other = yield* startSession(broker)
      socket.send(JSON.stringify({ event: "x", more: "x".repeat(1024 * 1024) }))
      const closed = yield* eventually(Effect.sync(session.plugin.closed), (closed) => closed !== undefined)
      assert.strictEqual(closed!.code, 1009)
      yield* untilState(broker, session.id, "reconnecting")
      yield* other.send(session.address, "kept")
      yield* reopen(session)
      assert.deepStrictEqual(yield* contentsOf(session.plugin, 1), ["kept"])
    })
  )

  it.scopedLive("S9: of almost 1 MiB is read as any other", () =>
    Effect.gen(function* () {
      const broker = yield* usual
      const session = yield* manual(broker)
      const { socket } = session
      yield* sendAll(session, ["a"])
      const { push_id } = yield* next(session.plugin)
      socket.send(JSON.stringify({ event: "push_ack", push_id, more: "x".repeat(1024 * 1024 - 200) }))
      yield* eventually(statusOf(broker, session.id), (endpoint) => endpoint!.undelivered === 0)
    })
  )

  it.scopedLive("a fragment that is never finished, and a text that is no UTF-8, end that stream alone", () =>
    Effect.gen(function* () {
      const broker = yield* usual
      const [one, two, other] = [yield* manual(broker), yield* manual(broker), yield* startSession(broker)]
      one.socket.send("half", { fin: false })
      one.socket.terminate()
      two.socket.send(Buffer.from([0xff, 0xfe, 0xfd]), { binary: false })
      yield* untilState(broker, one.id, "reconnecting")
      yield* untilState(broker, two.id, "reconnecting")
      yield* other.send(other.address, "fine")
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 1), ["fine"])
    })
  )
})
