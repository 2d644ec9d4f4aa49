import { connect } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker, startBroker } from "../kit/broker.js"
import { type ChildPlugin, residentBytes, startChildPlugin } from "../kit/childPlugin.js"
import {
  contentsOf,
  inboxOf,
  kill,
  reopen,
  type Session,
  sharedBroker,
  startSession,
  statusOf,
  untilState
} from "../kit/endToEnd.js"
import { makeFlood } from "../kit/flood.js"
import { head } from "../kit/rawHttp.js"

const patience = { timeout: 60_000 }
const MiB = 1024 * 1024

type Contents = ReadonlyArray<string>
const numbers = (count: number, from = 0): Contents => Array.from({ length: count }, (_, n) => String(from + n))

/** Sends each content to every address. */
const sendToAll = (broker: RunningBroker, sender: Session, addresses: ReadonlyArray<string>, contents: Contents) =>
  Effect.flatMap(makeFlood(broker, sender), (send) =>
    Effect.forEach(
      contents,
      (content) =>
        Effect.forEach(addresses, (address) =>
          Effect.map(send(address, content), ({ error, status }) => assert.strictEqual(status, 200, error))
        ),
      { discard: true }
    )
  )

const booksBalance = (broker: RunningBroker, delivered: number) =>
  Effect.map(
    eventually(broker.status, ({ books }) => books.delivered === delivered),
    ({ books, mailboxes }) =>
      assert.deepStrictEqual([books.held, books.inbox, books.unaccounted, mailboxes.bytes], [0, 0, 0, 0])
  )

const gets = (plugin: ChildPlugin, contents: ReadonlyArray<string>) =>
  Effect.map(
    eventually(Effect.sync(plugin.contents), (seen) => seen.length >= contents.length, 15_000),
    (seen) => assert.deepStrictEqual(seen, contents)
  )

const flood = Number(process.env.FLOOD_MESSAGES ?? 500)
/** Of each message. */
const size = 300_000

describe("D6: a plugin that stops reading", { timeout: 60_000 + flood * 50 }, () => {
  it.scopedLive(
    `under a flood of ${flood} × ${size / 1_000} kB costs others nothing and the broker no memory; its mail is safe`,
    () =>
      Effect.gen(function* () {
        // What is stored is memory in a broker whose store is: little may be stored, the rest is refused to its sender.
        const pace = { receiptMs: 200, holdBackMs: 100, silenceMs: 600_000 }
        const settings = { mailboxBytes: 4 * MiB, loopbackPending: 16, ...pace }
        const broker = yield* startBroker({ settings })
        const [stuck, other] = [yield* startSession(broker), yield* startSession(broker)]
        const block = "x".repeat(size)
        const send = yield* makeFlood(broker, other)
        for (const content of numbers(100)) yield* send(other.address, content + block)
        yield* other.plugin.take(100)
        const before = residentBytes(broker.pid)

        stuck.socket.pause()
        const taken: Array<string> = []
        const meanwhile: Array<string> = []
        let least = Number.POSITIVE_INFINITY
        for (const content of numbers(flood)) {
          const { error, status } = yield* send(stuck.address, content + block)
          if (status === 200) taken.push(content)
          else assert.strictEqual(error, "connector_unavailable")
          if (Number(content) % 4 !== 0) continue
          // Of what 100 MB and more leave in memory: garbage comes and goes, a backlog stays.
          if (Number(content) * size >= 100 * MiB) least = Math.min(least, residentBytes(broker.pid))
          assert.strictEqual((yield* send(other.address, content)).status, 200)
          meanwhile.push(content)
        }
        assert.deepStrictEqual(yield* contentsOf(other.plugin, meanwhile.length), meanwhile)
        assert.isBelow(least - before, 80 * MiB)
        assert.deepInclude(yield* statusOf(broker, stuck.id), { state: "active" })
        assert.strictEqual((yield* broker.status).held_back[0]!.destination, stuck.id)

        stuck.socket.resume()
        const arrived = yield* contentsOf(stuck.plugin, taken.length)
        assert.deepStrictEqual(
          arrived.map((content) => content.replace(block, "")),
          taken
        )
        yield* booksBalance(broker, 100 + meanwhile.length + taken.length)
      })
  )
})

/** A connection that asks for these targets at once and reads nothing; closed when the test ends. */
const unreadConnection = (broker: RunningBroker, targets: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const socket = connect(broker.port, "127.0.0.1").on("error", () => undefined)
      socket.pause()
      const lines = [`Host: 127.0.0.1:${broker.port}`, `Authorization: Bearer ${broker.token}`]
      socket.write(targets.map((target) => head(`GET ${target}`, lines)).join(""))
      return socket
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

describe("D6: the list of undispatched messages, asked for by one who does not read", patience, () => {
  it.scopedLive("forty times at once, costs the broker no memory, holds up nobody, and is cut off", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { inboxLists: 1, inboxListMs: 700 } })
      const session = yield* startSession(broker)
      const block = "x".repeat(1_000_000)
      const send = yield* makeFlood(broker, session)
      for (const content of numbers(24)) yield* send(`local:${session.agent}`, content + block)
      const list = Effect.map(broker.call("GET", "/v1/undispatched"), ({ body }) =>
        body.items.map(({ content }: { readonly content: string }) => content.replace(block, ""))
      )
      assert.deepStrictEqual(yield* list, numbers(24))
      const before = residentBytes(broker.pid)
      let most = before
      let slowest = 0

      const unread = yield* unreadConnection(broker, Array(40).fill("/v1/undispatched"))
      yield* eventually(
        Effect.suspend(() => {
          const asked = performance.now()
          return Effect.map(broker.status, ({ limits_hit }) => {
            slowest = Math.max(slowest, performance.now() - asked)
            most = Math.max(most, residentBytes(broker.pid))
            return limits_hit.inbox_lists
          })
        }),
        (cut) => cut === 1
      )
      assert.isBelow(most - before, 100 * MiB)
      assert.isBelow(slowest, 2_000)

      // Those that waited behind the first went with it.
      unread.destroy()
      assert.deepStrictEqual(yield* list, numbers(24))
      assert.deepStrictEqual((yield* broker.status).limits_hit, { inbox_lists: 1 })
    })
  )
})

describe("a plugin that", patience, () => {
  const watchful = sharedBroker({ settings: { pingIntervalMs: 100, silenceMs: 500, livenessIntervalMs: 100 } })

  it.scopedLive("D6: never sends receipts has a window's worth in flight, and holds up nobody else", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { windowMessages: 16, receiptMs: 200 } })
      const [mute, other] = [yield* startSession(broker, { acknowledges: false }), yield* startSession(broker)]
      const contents = numbers(100)
      yield* sendToAll(broker, other, [mute.address, other.address], contents)
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 100), contents)
      yield* eventually(broker.status, ({ mailboxes }) => mailboxes.messages === 100)
      assert.deepInclude(yield* statusOf(broker, mute.id), { in_flight: 16, undelivered: 100, state: "active" })
      assert.lengthOf(mute.plugin.messages, 16)

      // Its successor acknowledges.
      const heir = yield* startSession(broker, { process: mute.plugin.process }, { agent_id: mute.agent })
      assert.strictEqual(heir.id, mute.id)
      assert.deepStrictEqual(yield* contentsOf(heir.plugin, 100), contents)
      const marked = heir.plugin.messages.filter(({ redelivered }) => redelivered).map(({ content }) => content)
      assert.deepStrictEqual(marked, contents.slice(0, 16))
      yield* booksBalance(broker, 200)
    })
  )

  it.scopedLive("D15: is stopped as a process is found silent; its mail waits, in order, until it goes on", () =>
    Effect.gen(function* () {
      const broker = yield* watchful
      const stopped = yield* startChildPlugin(broker, "stopped")
      const [other, another] = [yield* startSession(broker), yield* startChildPlugin(broker, "another")]
      const addresses = [stopped.address, other.address, another.address]
      yield* sendToAll(broker, other, addresses, numbers(20))
      yield* gets(stopped, numbers(20))
      stopped.process.kill("SIGSTOP")
      yield* sendToAll(broker, other, addresses, numbers(40, 20))
      yield* untilState(broker, stopped.id, "reconnecting")
      yield* sendToAll(broker, other, addresses, numbers(20, 60))
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 80), numbers(80))
      yield* gets(another, numbers(80))
      assert.strictEqual(another.registrations(), 1, "nobody else was found silent")
      assert.strictEqual((yield* statusOf(broker, stopped.id))!.state, "reconnecting", "it is no dead process")

      stopped.process.kill("SIGCONT")
      yield* gets(stopped, numbers(80))
      yield* booksBalance(broker, 240)
    })
  )

  it.scopedLive("D14: dies while its endpoint waits for it is noticed, and its mail is undispatched, in order", () =>
    Effect.gen(function* () {
      const broker = yield* watchful
      const [dying, other] = [yield* startChildPlugin(broker, "dying"), yield* startSession(broker)]
      dying.process.kill("SIGSTOP")
      yield* untilState(broker, dying.id, "reconnecting")
      yield* sendToAll(broker, other, [dying.address, other.address], numbers(50))
      yield* kill(dying.process)
      yield* untilState(broker, dying.id, "closed")
      const items = yield* inboxOf(broker, ...numbers(50))
      assert.deepStrictEqual(
        items.map(({ content, original_target_endpoint_id, reason }) => [content, original_target_endpoint_id, reason]),
        numbers(50).map((content) => [content, dying.id, "closed_session_continuation"])
      )
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 50), numbers(50))
    })
  )

  it.scopedLive("D14: dies with its stream is gone soon, also when the stream ends before the process does", () =>
    Effect.gen(function* () {
      const broker = yield* watchful
      const start = (_: unknown, n: number) => startChildPlugin(broker, `dying-${n}`)
      const dying = yield* Effect.forEach(numbers(4), start, { concurrency: "unbounded" })
      const other = yield* startSession(broker)
      for (const { process } of dying) process.kill("SIGKILL")
      yield* sendToAll(broker, other, [...dying.map(({ address }) => address), other.address], ["to the dead"])
      yield* Effect.forEach(dying, ({ id }) => untilState(broker, id, "closed"))
      yield* inboxOf(broker, ...dying.map(() => "to the dead"))
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 1), ["to the dead"])
    })
  )

  it.scopedLive("D6: stops reading again and again gets everything once, in order, and so do the others", () =>
    Effect.gen(function* () {
      const settings = { congestedBytes: 100_000, uncongestedBytes: 20_000, windowMessages: 32, receiptMs: 50 }
      const broker = yield* startBroker({ settings })
      const [slow, other] = [yield* startSession(broker), yield* startSession(broker)]
      const block = "x".repeat(50_000)
      const contents = numbers(90).map((content) => `${content} ${block}`)
      for (let n = 0; n < 90; n++) {
        if (n % 30 === 0) slow.socket.pause()
        if (n % 30 === 20) slow.socket.resume()
        yield* sendToAll(broker, other, [slow.address, other.address], [contents[n]!])
      }
      assert.deepStrictEqual(yield* contentsOf(slow.plugin, 90), contents)
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 90), contents)
      yield* booksBalance(broker, 180)
      assert.isTrue(slow.plugin.messages.every(({ redelivered }) => redelivered === undefined))
      yield* reopen(slow)
    })
  )
})
