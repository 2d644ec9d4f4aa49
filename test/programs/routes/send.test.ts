import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { refused, type Session, startSession, untilState, usualBroker } from "../../kit/endToEnd.js"

const path = "/v1/send"
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

describe("POST /v1/send", () => {
  const two = Effect.gen(function* () {
    const broker = yield* usualBroker
    return { broker, alice: yield* startSession(broker), bob: yield* startSession(broker) }
  })
  const next = ({ plugin }: Session) => Effect.map(plugin.take(1), ([message]) => message!)

  it.scopedLive("delivers, and answers with the id the receiver sees", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* two
      const answer = yield* alice.send(bob.address, "Build is green. 🙂")
      assert.strictEqual(answer.status, 200)
      assert.deepStrictEqual(answer.body, { messageId: answer.body.messageId, status: "delivered" })
      assert.match(answer.body.messageId, uuid)
      const { metadata, push_id, ...frame } = yield* next(bob)
      assert.isString(push_id)
      assert.deepStrictEqual(frame, {
        event: "message_received",
        from: `local:${alice.agent}`,
        content: "Build is green. 🙂",
        contentType: "text",
        sourceMessageId: answer.body.messageId
      })
      assert.match(metadata.correlation_id as string, uuid)
      assert.match(metadata.traceparent as string, /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/)
      assert.deepInclude(metadata, {
        source_endpoint_id: alice.id,
        target_endpoint_id: bob.id,
        require_live: false
      })
    })
  )

  it.scopedLive("passes on content type and metadata, but not what only a broker may say", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* two
      const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      yield* alice.send(bob.address, "", {
        contentType: "application/json",
        require_live: true,
        metadata: {
          source_endpoint_id: alice.id,
          require_live: "mine",
          traceparent,
          dispatched_by: "me",
          dispatched_from: "me",
          delivery_intent: "me",
          topic: { deep: [1, null, "ü"] }
        }
      })
      const { content, contentType, metadata } = yield* next(bob)
      assert.deepStrictEqual([content, contentType], ["", "application/json"])
      assert.deepInclude(metadata, { topic: { deep: [1, null, "ü"] }, traceparent, require_live: true })
      assert.doesNotHaveAnyKeys(metadata, ["dispatched_by", "dispatched_from", "delivery_intent"])
    })
  )

  it.scopedLive("treats null as left out", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* two
      const rest = { contentType: null, metadata: null, require_live: null }
      assert.strictEqual((yield* alice.send(bob.address, "x", rest)).status, 200)
      assert.strictEqual((yield* next(bob)).contentType, "text")
    })
  )

  it.scopedLive("is stored when no active endpoint takes it", () =>
    Effect.gen(function* () {
      const { alice, bob, broker } = yield* two
      assert.strictEqual((yield* alice.send(`local:${bob.agent}`, "for anybody")).body.status, "stored")
      yield* bob.plugin.drop
      yield* untilState(broker, bob.id, "reconnecting")
      assert.strictEqual((yield* alice.send(bob.address, "for later")).body.status, "stored")
    })
  )

  it.scopedLive("an answer travels under the id it answers, and says whether it did", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* two
      yield* alice.send(bob.address, "question")
      const { correlation_id } = (yield* next(bob)).metadata
      const inReplyTo = (id: unknown) => bob.send(`local:${alice.agent}`, "answer", { metadata: { in_reply_to: id } })
      assert.strictEqual((yield* inReplyTo(correlation_id)).body.reply_resolved, true)
      assert.deepInclude((yield* next(alice)).metadata, { correlation_id, in_reply_to: correlation_id })
      assert.strictEqual((yield* inReplyTo("never received")).body.reply_resolved, false)
      assert.notProperty((yield* inReplyTo(7)).body, "reply_resolved")
      const foreign = yield* alice.send(bob.address, "not mine", { metadata: { in_reply_to: "never received" } })
      assert.strictEqual(foreign.body.reply_resolved, false)
    })
  )

  it.scopedLive("F9: an endpoint nobody knows is unknown_endpoint here", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const answer = yield* broker.call("POST", path, { endpoint_id: "ep_nobody", to: "local:x", content: "x" })
      refused(answer, 404, "unknown_endpoint", "ep_nobody")
    })
  )

  it.scopedLive("refuses an endpoint whose plugin is away", () =>
    Effect.gen(function* () {
      const { alice, bob, broker } = yield* two
      yield* alice.plugin.drop
      yield* untilState(broker, alice.id, "reconnecting")
      refused(yield* alice.send(bob.address, "x"), 409, "endpoint_not_active", alice.id)
    })
  )

  it.scopedLive("refuses metadata that is the broker's to say", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* two
      const send = (metadata: object) => alice.send(bob.address, "x", { metadata })
      for (const value of ["c-1", "", null, 7]) {
        refused(yield* send({ correlation_id: value }), 400, "correlation_id_forbidden", "correlation_id")
        refused(yield* send({ target_endpoint_id: value }), 400, "target_endpoint_id_forbidden", "target_endpoint_id")
        const source = yield* send({ source_endpoint_id: value })
        refused(source, 403, "source_endpoint_id_mismatch", "source_endpoint_id", alice.id)
      }
      refused(yield* send({ source_endpoint_id: bob.id }), 403, "source_endpoint_id_mismatch")
      refused(yield* send({ target_endpoint_id: 1, correlation_id: 1 }), 400, "correlation_id_forbidden")
      assert.strictEqual((yield* send({ source_endpoint_id: alice.id })).status, 200)
      assert.strictEqual(bob.plugin.messages.length, (yield* bob.plugin.take(1)).length)
    })
  )

  it.scopedLive("F3: refuses a missing or wrong field and names it", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* two
      const body = { endpoint_id: alice.id, to: bob.address, content: "x" }
      const wrong: Record<string, ReadonlyArray<unknown>> = {
        endpoint_id: [undefined, null, "", 7, {}],
        to: [undefined, null, "", 7, []],
        content: [undefined, null, 7, {}],
        contentType: [7, {}],
        metadata: ["x", 7, true, [], ["x"]],
        require_live: ["true", 1, {}]
      }
      for (const [field, values] of Object.entries(wrong)) {
        for (const value of values) {
          refused(yield* alice.plugin.call("POST", path, { ...body, [field]: value }), 400, "bad_request", field)
        }
      }
      for (const [field, most] of Object.entries({ to: 4_096, contentType: 1_024, idempotency_key: 128 })) {
        const answer = yield* alice.plugin.call("POST", path, { ...body, [field]: "x".repeat(most + 1) })
        refused(answer, 400, "bad_request", `"${field}"`, `${most} characters`)
      }
      assert.lengthOf(bob.plugin.messages, 0)
    })
  )

  it.scopedLive("S7: refuses another process, and allows one that does not say which it is", () =>
    Effect.gen(function* () {
      const { alice, bob, broker } = yield* two
      const body = { endpoint_id: alice.id, to: bob.address, content: "x" }
      refused(yield* bob.plugin.call("POST", path, body), 403, "endpoint_pid_mismatch", alice.id)
      const abc = yield* broker.call("POST", path, body, { "x-plugin-pid": "abc" })
      refused(abc, 400, "plugin_pid_invalid", "x-plugin-pid")
      assert.strictEqual((yield* broker.call("POST", path, body)).status, 200)
    })
  )

  it.scopedLive("S7: demands the owner token of an endpoint whose channel announced it", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { address, id, ownerToken, plugin } = yield* startSession(broker, {
        capabilities: ["push_receipt_ack_v1", "endpoint_owner_token_v1"]
      })
      const body = { endpoint_id: id, to: address, content: "x" }
      const send = (headers: Record<string, string>) => plugin.call("POST", path, body, headers)
      refused(yield* send({}), 403, "endpoint_owner_token_mismatch", "x-endpoint-owner-token")
      refused(yield* send({ "x-endpoint-owner-token": "wrong" }), 403, "endpoint_owner_token_mismatch", id)
      assert.strictEqual((yield* send({ "x-endpoint-owner-token": ownerToken })).status, 200)
    })
  )

  it.scopedLive("D9: passes on why the network refused, with its code", () =>
    Effect.gen(function* () {
      const { alice, bob, broker } = yield* two
      const code = (to: string, rest: object = {}) =>
        Effect.map(alice.send(to, "x", rest), (answer) => {
          refused(answer, 502, "connector_rejected")
          return answer.body.code
        })
      for (const to of ["mstp://acme.example/bob", "local:", "local:a/b/c", "bob", "local:%zz"]) {
        assert.strictEqual(yield* code(to), "address_invalid", to)
      }
      assert.strictEqual(yield* code("local:nobody"), "recipient_unknown")
      assert.strictEqual(yield* code(`local:${alice.agent}/${bob.id}`), "recipient_unknown")
      assert.strictEqual(yield* code(`local:${bob.agent}`, { require_live: true }), "recipient_not_live")
      yield* bob.plugin.drop
      yield* untilState(broker, bob.id, "reconnecting")
      assert.strictEqual(yield* code(bob.address, { require_live: true }), "recipient_not_live")
    })
  )

  it.scopedLive("an agent's name may hold any character", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const odd = yield* startSession(broker, {}, { agent_id: "a/b c%ü🙂" })
      yield* odd.send(odd.address, "to myself")
      assert.strictEqual((yield* next(odd)).from, `local:${encodeURIComponent("a/b c%ü🙂")}`)
    })
  )

  it.scopedLive("wants a token and a POST; a query string makes no difference", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* two
      const body = { endpoint_id: alice.id, to: bob.address, content: "x" }
      const noToken = yield* alice.plugin.call("POST", path, body, { authorization: "Bearer wrong" })
      refused(noToken, 401, "unauthorized")
      refused(yield* alice.plugin.call("GET", path), 404, "not_found", path)
      assert.strictEqual((yield* alice.plugin.call("POST", `${path}?require_live=1`, body)).status, 200)
    })
  )
})
