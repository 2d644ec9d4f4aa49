import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, startPlugin } from "../kit/broker.js"
import { sharedBroker } from "../kit/endToEnd.js"

const send = (from: string, to: string, content: string, metadata?: object) => ({
  endpoint_id: from,
  to,
  content,
  ...(metadata === undefined ? {} : { metadata })
})

describe("the built broker", () => {
  const shared = sharedBroker({})

  it.scopedLive("carries a question and its correlated answer between two plugins", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { books: before } = yield* broker.status
      const alice = yield* startPlugin(broker)
      const bob = yield* startPlugin(broker)
      yield* alice.open
      yield* bob.open
      const a = yield* alice.register({ agent_id: "alice" })
      const b = yield* bob.register({ agent_id: "bob" })

      const asked = yield* alice.call("POST", "/v1/send", send(a, `local:bob/${b}`, "six times seven?"))
      assert.deepInclude(asked, { status: 200 })
      assert.strictEqual(asked.body.status, "delivered")
      const [question] = yield* bob.take(1)
      assert.strictEqual(question!.from, "local:alice")

      const { correlation_id } = question!.metadata
      const replied = yield* bob.call("POST", "/v1/send", send(b, "local:alice", "42", { in_reply_to: correlation_id }))
      assert.strictEqual(replied.body.reply_resolved, true)
      const [answer] = yield* alice.take(1)
      assert.strictEqual(answer!.metadata.correlation_id, correlation_id)

      const { books } = yield* eventually(broker.status, ({ books }) => books.delivered === before.delivered + 2)
      assert.strictEqual(books.unaccounted, 0)
    })
  )

  it.scopedLive("A2: a quick reconnect carries the endpoints to the new stream", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const alice = yield* startPlugin(broker)
      const first = yield* alice.open
      const a = yield* alice.register({ agent_id: "alice" })
      const closed = Effect.async<number>((resume) => void first.once("close", (code) => resume(Effect.succeed(code))))
      yield* alice.open
      assert.strictEqual(yield* closed, 1000)
      yield* alice.call("POST", "/v1/send", send(a, `local:alice/${a}`, "hello me"))
      const [hello] = yield* alice.take(1)
      assert.strictEqual(hello!.content, "hello me")
      const reattached = yield* alice.call("POST", `/v1/endpoint/${a}/reattach`, { plugin_pid: alice.pid })
      assert.strictEqual(reattached.status, 200)
      const again = yield* alice.call("POST", `/v1/endpoint/${a}/reattach`, { plugin_pid: alice.pid })
      assert.strictEqual(again.body.error, "endpoint_not_reconnecting")
    })
  )
})
