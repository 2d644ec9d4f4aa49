import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { SendResult } from "../../src/services/ipc/StreamFrame.js"
import { eventually } from "../kit/broker.js"
import { contentsOf, type Session, startSession, usualBroker } from "../kit/endToEnd.js"

/** Sends over the session's stream, and waits for the answer. */
const sendOver = (
  { id, plugin, socket }: Session,
  frame: { readonly request_id: string; readonly [key: string]: unknown }
) =>
  Effect.gen(function* () {
    socket.send(JSON.stringify({ event: "send", endpoint_id: id, ...frame }))
    const isAnswer = (one: { readonly event: string }): one is SendResult =>
      one.event === "send_result" && (one as SendResult).request_id === frame.request_id
    const answer = yield* eventually(
      Effect.sync(() => plugin.frames.find(isAnswer)),
      (found) => found !== undefined
    )
    return answer as SendResult & { readonly body: any }
  })

describe("sends over the plugin's stream", () => {
  it.scopedLive("are announced, delivered and answered as by the route", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const [from, to] = [yield* startSession(broker), yield* startSession(broker)]
      const health = yield* broker.call("GET", "/health")
      assert.strictEqual(health.body.capabilities.stream_send_v1, true)
      const { body, status } = yield* sendOver(from, { request_id: "1", to: to.address, content: "hello" })
      const route = yield* from.send(to.address, "again")
      assert.deepStrictEqual([status, body.status], [route.status, route.body.status])
      assert.hasAllKeys(body, Object.keys(route.body))
      assert.deepStrictEqual(yield* contentsOf(to.plugin, 2), ["hello", "again"])
    })
  )

  it.scopedLive("share their idempotency keys with the route", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const [from, to] = [yield* startSession(broker), yield* startSession(broker)]
      const message = { to: to.address, content: "once", idempotency_key: "k" }
      const first = yield* sendOver(from, { request_id: "1", ...message })
      const second = yield* from.send(to.address, "once", { idempotency_key: "k" })
      assert.deepStrictEqual(second.body, first.body)
      const conflict = yield* sendOver(from, { request_id: "2", ...message, content: "another" })
      assert.deepStrictEqual([conflict.status, conflict.body.error], [409, "idempotency_conflict"])
      assert.deepStrictEqual(yield* contentsOf(to.plugin, 1), ["once"])
    })
  )

  it.scopedLive("S7: speak for no endpoint of another process, and for none without the token it demands", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const capabilities = ["push_receipt_ack_v1", "endpoint_owner_token_v1"]
      const [other, guarded] = [yield* startSession(broker), yield* startSession(broker, { capabilities })]
      const message = { to: other.address, content: "forged" }
      const foreign = yield* sendOver(other, { request_id: "1", ...message, endpoint_id: guarded.id })
      assert.deepStrictEqual([foreign.status, foreign.body.error], [403, "endpoint_pid_mismatch"])
      const without = yield* sendOver(guarded, { request_id: "2", ...message })
      assert.deepStrictEqual([without.status, without.body.error], [403, "endpoint_owner_token_mismatch"])
      const owned = { ...message, content: "own", endpoint_owner_token: guarded.ownerToken }
      assert.strictEqual((yield* sendOver(guarded, { request_id: "3", ...owned })).status, 200)
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 1), ["own"])
    })
  )

  it.scopedLive(
    "in any number: a plugin that reads no answers for a while gets every one, and others are served meanwhile",
    () =>
      Effect.gen(function* () {
        const broker = yield* usualBroker
        const [from, to] = [yield* startSession(broker), yield* startSession(broker)]
        const count = 2_000
        from.socket.pause()
        for (let n = 0; n < count; n++) {
          from.socket.send(
            JSON.stringify({ event: "send", request_id: `${n}`, endpoint_id: from.id, to: to.address, content: `${n}` })
          )
        }
        const meanwhile = yield* startSession(broker)
        assert.strictEqual((yield* meanwhile.send(meanwhile.address, "served")).status, 200)
        from.socket.resume()
        yield* eventually(
          Effect.sync(() => from.plugin.frames.filter(({ event }) => event === "send_result").length),
          (answers) => answers === count
        )
        assert.deepStrictEqual(
          yield* contentsOf(to.plugin, count),
          Array.from({ length: count }, (_, n) => `${n}`)
        )
      })
  )
})
