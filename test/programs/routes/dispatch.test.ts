import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type RunningBroker, startBroker } from "../../kit/broker.js"
import { inboxNow, inboxOf, refused, startSession, untilState, usualBroker } from "../../kit/endToEnd.js"

const path = "/v1/dispatch"

describe("POST /v1/dispatch", () => {
  const dispatch = (broker: RunningBroker, undispatched_id: unknown, target_endpoint_id: unknown) =>
    broker.call("POST", path, { undispatched_id, target_endpoint_id })

  /** A session, and an undispatched message it sent. */
  const withItem = (content: string, broker?: RunningBroker) =>
    Effect.gen(function* () {
      const on = broker ?? (yield* usualBroker)
      const session = yield* startSession(on)
      const { body } = yield* session.send(`local:${session.agent}`, content, { metadata: { topic: "x" } })
      yield* inboxOf(on, content)
      return { broker: on, session, messageId: body.messageId as string }
    })

  it.scopedLive("hands the message to the endpoint, stamped, and takes it from the list", () =>
    Effect.gen(function* () {
      const { broker, messageId, session } = yield* withItem("please review")
      const answer = yield* dispatch(broker, messageId, session.id)
      assert.deepStrictEqual([answer.status, answer.body], [200, { ok: true }])
      const [frame] = yield* session.plugin.take(1)
      assert.strictEqual(frame!.content, "please review")
      assert.strictEqual(frame!.sourceMessageId, messageId)
      assert.deepInclude(frame!.metadata, { topic: "x", dispatched_from: messageId, dispatched_by: "passport" })
      assert.deepStrictEqual(yield* inboxNow(broker, "please review"), [])
    })
  )

  it.scopedLive("the endpoint may answer in the thread of the message it was handed", () =>
    Effect.gen(function* () {
      const { broker, messageId, session } = yield* withItem("who helps?")
      const helper = yield* startSession(broker)
      yield* dispatch(broker, messageId, helper.id)
      const { correlation_id } = (yield* helper.plugin.take(1))[0]!.metadata
      const metadata = { in_reply_to: correlation_id }
      const answer = yield* helper.send(`local:${session.agent}`, "I do", { metadata })
      assert.deepInclude(answer.body, { status: "delivered", reply_resolved: true })
      assert.strictEqual((yield* session.plugin.take(1))[0]!.content, "I do")
    })
  )

  it.scopedLive("to an endpoint that is away, it waits there and comes with the rest of its mail", () =>
    Effect.gen(function* () {
      const { broker, messageId, session } = yield* withItem("second")
      const { plugin } = session
      const sender = yield* startSession(broker)
      yield* plugin.drop
      yield* untilState(broker, session.id, "reconnecting")
      yield* sender.send(session.address, "first")
      assert.strictEqual((yield* dispatch(broker, messageId, session.id)).status, 200)
      yield* sender.send(session.address, "third")
      yield* plugin.open
      const { body } = yield* plugin.call("POST", `/v1/endpoint/${session.id}/reattach`, { plugin_pid: plugin.pid })
      assert.strictEqual(body.reconnecting_buffer_count, 3)
      assert.deepStrictEqual(
        (yield* plugin.take(3)).map(({ content }) => content),
        ["first", "second", "third"]
      )
    })
  )

  it.scopedLive("refuses a message that is not there, also one that was just dispatched", () =>
    Effect.gen(function* () {
      const { broker, messageId, session } = yield* withItem("only once")
      refused(
        yield* dispatch(broker, "nothing", session.id),
        400,
        "dispatch_failed",
        "unknown undispatched_id: nothing"
      )
      const answers = yield* Effect.all(
        Array.from({ length: 8 }, () => dispatch(broker, messageId, session.id)),
        { concurrency: "unbounded" }
      )
      assert.lengthOf(
        answers.filter(({ status }) => status === 200),
        1
      )
      for (const answer of answers.filter(({ status }) => status !== 200)) {
        refused(answer, 400, "dispatch_failed", messageId)
      }
    })
  )

  it.scopedLive("refuses a target that is not there and keeps the message", () =>
    Effect.gen(function* () {
      const { broker, messageId } = yield* withItem("stays")
      const answer = yield* dispatch(broker, messageId, "ep_nobody")
      refused(answer, 400, "dispatch_failed", "target endpoint not found: ep_nobody")
      assert.lengthOf(yield* inboxNow(broker, "stays"), 1)
    })
  )

  it.scopedLive("F3: refuses a missing or wrong field by the route's own code and names it", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const value of [undefined, null, "", 7, {}, []]) {
        refused(yield* dispatch(broker, value, "x"), 400, "dispatch_body_invalid", "undispatched_id")
        refused(yield* dispatch(broker, "x", value), 400, "dispatch_body_invalid", "target_endpoint_id")
      }
      refused(yield* broker.call("POST", path), 400, "dispatch_body_invalid")
    })
  )

  it.scopedLive("S7: checks no owner", () =>
    Effect.gen(function* () {
      const { broker, messageId } = yield* withItem("for somebody else")
      const helper = yield* startSession(broker, { capabilities: ["endpoint_owner_token_v1"] })
      const body = { undispatched_id: messageId, target_endpoint_id: helper.id }
      assert.strictEqual((yield* broker.call("POST", path, body, { "x-plugin-pid": "1" })).status, 200)
    })
  )

  it.scopedLive("S7: where plugins may not dispatch, only the operator does", () =>
    Effect.gen(function* () {
      const closed = yield* startBroker({ settings: { pluginsMayDispatch: false } })
      const { messageId, session } = yield* withItem("for the owner", closed)
      refused(yield* dispatch(closed, messageId, session.id), 403, "dispatch_not_allowed", "operator")
      assert.lengthOf(yield* inboxNow(closed, "for the owner"), 1)
      const body = { undispatched_id: messageId, target_endpoint_id: session.id }
      const answer = yield* closed.call("POST", path, body, { authorization: `Bearer ${closed.operatorToken}` })
      assert.strictEqual(answer.status, 200)
      assert.strictEqual((yield* session.plugin.take(1))[0]!.content, "for the owner")
    })
  )

  it.scopedLive("wants a token and a POST", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      refused(yield* broker.call("POST", path, {}, { authorization: "Bearer wrong" }), 401, "unauthorized")
      refused(yield* broker.call("GET", path), 404, "not_found", path)
    })
  )
})
