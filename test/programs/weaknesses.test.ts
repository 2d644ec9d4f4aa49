/**
 * Weaknesses of the reference by their ids, over the wire, where no file for a route or a life tells them already: A5 and A2
 * are also in states, B7 in receipts, D1 in life, F1, F2, F3 and F13 in routes/errors.
 */
import { connect } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker, startBroker, startPlugin } from "../kit/broker.js"
import {
  contentsOf,
  inboxNow,
  inboxOf,
  refused,
  registerAgain,
  reopen,
  startSession,
  statusOf,
  untilState,
  usualBroker
} from "../kit/endToEnd.js"
import { head } from "../kit/rawHttp.js"

const dispatch = (broker: RunningBroker, undispatched_id: string, target_endpoint_id: string) =>
  broker.call("POST", "/v1/dispatch", { undispatched_id, target_endpoint_id })

const accountsBalance = (broker: RunningBroker) =>
  Effect.map(broker.status, ({ books }) => assert.strictEqual(books.unaccounted, 0))

describe.concurrent("A: message loss", () => {
  it.scopedLive("A2: a stream closed and opened at once keeps its endpoint reachable, twenty times over", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const [session, sender] = [yield* startSession(broker), yield* startSession(broker)]
      const contents = Array.from({ length: 20 }, (_, n) => `A2 ${n}`)
      for (const content of contents) {
        yield* session.plugin.drop
        yield* session.plugin.open
        yield* sender.send(session.address, content)
        yield* registerAgain(session)
        assert.deepStrictEqual(yield* contentsOf(session.plugin, 1), [content])
      }
      assert.deepInclude(yield* statusOf(broker, session.id), { state: "active" })
      assert.deepStrictEqual(yield* inboxNow(broker, ...contents), [])
    })
  )

  it.scopedLive("A3: what is dispatched to an endpoint whose stream was replaced arrives", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const session = yield* startSession(broker)
      yield* session.send(`local:${session.agent}`, "A3")
      const [item] = yield* inboxOf(broker, "A3")
      yield* session.plugin.open
      assert.strictEqual((yield* dispatch(broker, item.id, session.id)).status, 200)
      assert.deepStrictEqual(yield* contentsOf(session.plugin, 1), ["A3"])
    })
  )

  it.scopedLive("A3: what is dispatched to a stream that ends before it acknowledges arrives on the next", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const session = yield* startSession(broker, { acknowledges: false })
      yield* session.send(`local:${session.agent}`, "A3 again")
      const [item] = yield* inboxOf(broker, "A3 again")
      assert.strictEqual((yield* dispatch(broker, item.id, session.id)).status, 200)
      yield* session.plugin.take(1)
      yield* session.plugin.drop
      yield* reopen(session)
      const [frame] = yield* session.plugin.take(1)
      assert.deepInclude(frame, { content: "A3 again", sourceMessageId: item.id, redelivered: true })
      assert.strictEqual(frame!.metadata.dispatched_by, "passport")
    })
  )

  it.scopedLive("A4: a stream that ends while its plugin registers leaves no endpoint active without a stream", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (let n = 0; n < 15; n++) {
        const plugin = yield* startPlugin(broker)
        yield* plugin.open
        const body = { agent_id: "racing", plugin_pid: plugin.pid, kind: "test" }
        const register = plugin.call("POST", "/v1/endpoint/register", body)
        const [answer] = yield* Effect.all([register, plugin.drop], { concurrency: "unbounded" })
        if (answer.status !== 200) {
          refused(answer, 400, "ipc_channel_missing")
          continue
        }
        yield* untilState(broker, answer.body.endpoint_id, "reconnecting")
        yield* plugin.open
        const again = yield* plugin.call("POST", "/v1/endpoint/register", body)
        assert.deepInclude(again.body, { endpoint_id: answer.body.endpoint_id, resumed: true })
      }
    })
  )

  it.scopedLive("A5: mail of an endpoint that ends is undispatched, whether it waited, flew or was being sent", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const session = yield* startSession(broker, { acknowledges: false })
      const sender = yield* startSession(broker)
      const contents = Array.from({ length: 20 }, (_, n) => `A5 ${n}`)
      for (const content of contents.slice(0, 5)) yield* sender.send(session.address, content)
      yield* session.plugin.take(5)
      yield* Effect.all(
        [
          Effect.forEach(contents.slice(5), (content) => sender.send(session.address, content)),
          session.plugin.call("DELETE", `/v1/endpoint/${session.id}`)
        ],
        { concurrency: "unbounded" }
      )
      const items = yield* inboxOf(broker, ...contents)
      assert.deepStrictEqual(
        items.map(({ content, original_target_endpoint_id, reason }) => [content, original_target_endpoint_id, reason]),
        contents.map((content) => [content, session.id, "closed_session_continuation"])
      )
      yield* accountsBalance(broker)
    })
  )

  it.scopedLive("A8: a full inbox drops nothing: the rest waits, status says so, and others are served", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { inboxMessages: 3, holdBackMs: 100, holdBackMaxMs: 200 } })
      const session = yield* startSession(broker)
      const contents = Array.from({ length: 8 }, (_, n) => `A8 ${n}`)
      for (const content of contents) {
        assert.strictEqual((yield* session.send(`local:${session.agent}`, content)).body.status, "stored")
      }
      const full = yield* eventually(broker.status, ({ held_back }) => held_back[0]?.waiting === 5)
      assert.deepInclude(full.inbox, { messages: 3, limit_messages: 3 })
      assert.strictEqual(full.held_back[0]!.destination, "inbox")
      assert.isTrue(full.warnings.some((warning) => warning.includes("inbox")))
      yield* session.send(session.address, "served")
      assert.deepStrictEqual(yield* contentsOf(session.plugin, 1), ["served"])
      for (const content of contents) {
        const [first] = yield* inboxOf(broker, content)
        yield* dispatch(broker, first.id, session.id)
      }
      assert.deepStrictEqual(yield* contentsOf(session.plugin, 8), contents)
      const { books, held_back, inbox } = yield* eventually(broker.status, ({ books }) => books.delivered === 9)
      assert.deepStrictEqual([held_back, inbox.messages, books.unaccounted], [[], 0, 0])
    })
  )
})

describe.concurrent("B: ordering and duplicates", () => {
  it.scopedLive("B6: a message whose dispatch failed keeps its place in the list", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const session = yield* startSession(broker)
      const contents = ["B6 1", "B6 2", "B6 3"]
      for (const content of contents) yield* session.send(`local:${session.agent}`, content)
      const items = yield* inboxOf(broker, ...contents)
      refused(yield* dispatch(broker, items[0].id, "ep_nobody"), 400, "dispatch_failed", "ep_nobody")
      refused(yield* dispatch(broker, items[1].id, "ep_nobody"), 400, "dispatch_failed", "ep_nobody")
      assert.deepStrictEqual(yield* inboxNow(broker, ...contents), items)
    })
  )

  it.scopedLive("B8: messages handed in without waiting for answers arrive in their order", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const session = yield* startSession(broker)
      const contents = Array.from({ length: 100 }, (_, n) => `B8 ${n}`)
      const requests = contents.map((content) => {
        const body = JSON.stringify({ endpoint_id: session.id, to: session.address, content })
        const lines = [
          `Host: 127.0.0.1:${broker.port}`,
          `Authorization: Bearer ${broker.token}`,
          `Content-Length: ${body.length}`
        ]
        return head("POST /v1/send", lines) + body
      })
      const pipelined = yield* Effect.acquireRelease(
        Effect.sync(() => connect(broker.port, "127.0.0.1").on("error", () => undefined)),
        (socket) => Effect.sync(() => socket.destroy())
      )
      pipelined.resume().write(requests.join(""))
      assert.deepStrictEqual(yield* contentsOf(session.plugin, 100), contents)
    })
  )

  it.scopedLive("B8: a message that is not acknowledged is not overtaken when its stream ends", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { spillAgeMs: 10, spillAfterAccepted: 1 } })
      const [slow, other] = [yield* startSession(broker, { acknowledges: false }), yield* startSession(broker)]
      const contents = ["1", "2", "3"]
      for (const content of contents) {
        yield* other.send(slow.address, content)
        yield* other.send(other.address, "elsewhere")
      }
      yield* slow.plugin.take(3)
      yield* reopen(slow)
      yield* other.send(slow.address, "4")
      assert.deepStrictEqual(yield* contentsOf(slow.plugin, 4), [...contents, "4"])
      yield* accountsBalance(broker)
    })
  )

  it.scopedLive(
    "B12: of two endpoints in one conversation the answer reaches the one that asked, never its sender",
    () =>
      Effect.gen(function* () {
        const broker = yield* usualBroker
        const team = { agent_id: "team" }
        const first = yield* startSession(broker, {}, team)
        const second = yield* startSession(broker, {}, team)
        for (const [asking, answering] of [
          [second, first],
          [first, second]
        ] as const) {
          yield* asking.send(answering.address, "question")
          const [question] = yield* answering.plugin.take(1)
          const metadata = { in_reply_to: question!.metadata.correlation_id }
          const answer = yield* answering.send("local:team", "answer", { metadata })
          assert.deepInclude(answer.body, { status: "delivered", reply_resolved: true })
          assert.deepStrictEqual(yield* contentsOf(asking.plugin, 1), ["answer"])
          const [seen] = asking.plugin.messages.slice(-1)
          const thanks = { in_reply_to: seen!.metadata.correlation_id }
          yield* asking.send("local:team", "thanks", { metadata: thanks })
          assert.deepStrictEqual(yield* contentsOf(answering.plugin, 1), ["thanks"])
        }
        const seen = ({ plugin }: typeof first) => plugin.messages.map(({ content }) => content)
        assert.deepStrictEqual(seen(first), ["question", "thanks", "answer"])
        assert.deepStrictEqual(seen(second), ["answer", "question", "thanks"])
      })
  )

  it.scopedLive("B13: a conversation that reached a second endpoint may still be answered by the first", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const asking = yield* startSession(broker)
      const helpers = [yield* startSession(broker), yield* startSession(broker)] as const
      yield* asking.send(helpers[0].address, "who helps?")
      const [question] = yield* helpers[0].plugin.take(1)
      const metadata = { in_reply_to: question!.metadata.correlation_id }
      yield* helpers[0].send(`local:${asking.agent}`, "not me", { metadata })
      yield* asking.plugin.take(1)
      yield* asking.send(helpers[1].address, "and you?", { metadata })
      yield* helpers[1].plugin.take(1)
      for (const helper of helpers) {
        const answer = yield* helper.send(`local:${asking.agent}`, "after all", { metadata })
        assert.strictEqual(answer.body.reply_resolved, true)
      }
      assert.deepStrictEqual(yield* contentsOf(asking.plugin, 2), ["after all", "after all"])
    })
  )
})
