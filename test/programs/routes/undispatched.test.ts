import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { startBroker } from "../../kit/broker.js"
import { inboxOf, refused, sharedBroker, startSession } from "../../kit/endToEnd.js"
import { Pipeline } from "../../kit/pipeline.js"
import { head } from "../../kit/rawHttp.js"

const path = "/v1/undispatched"
const isoTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

describe("GET /v1/undispatched", () => {
  const shared = sharedBroker({})

  it.scopedLive("is empty at first", () =>
    Effect.gen(function* () {
      const answer = yield* (yield* startBroker()).call("GET", path)
      assert.deepStrictEqual([answer.status, answer.body], [200, { items: [] }])
    })
  )

  it.scopedLive("shows a message for nobody in particular, whole", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      const content = `hello? ${"long ".repeat(200)}`
      const rest = { contentType: "markdown", metadata: { topic: "x" } }
      const { messageId } = (yield* session.send(`local:${session.agent}`, content, rest)).body
      const [item] = yield* inboxOf(broker, content)
      const { arrived_at, metadata, ...others } = item
      assert.match(arrived_at, isoTime)
      assert.deepInclude(metadata, { topic: "x", source_endpoint_id: session.id })
      assert.deepStrictEqual(others, {
        id: messageId,
        sender_address: `local:${session.agent}`,
        content,
        content_type: "markdown",
        reason: "unaddressed",
        original_correlation_id: metadata.correlation_id,
        source_message_id: messageId
      })
    })
  )

  it.scopedLive("shows the endpoint a continued conversation was for", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const [closed, sender] = [yield* startSession(broker), yield* startSession(broker)]
      yield* closed.plugin.call("DELETE", `/v1/endpoint/${closed.id}`)
      yield* sender.send(closed.address, "are you still there?")
      const [item] = yield* inboxOf(broker, "are you still there?")
      assert.deepInclude(item, { reason: "closed_session_continuation", original_target_endpoint_id: closed.id })
    })
  )

  it.scopedLive("lists in order of arrival, whoever asks", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      const contents = Array.from({ length: 20 }, (_, n) => `in order ${n}`)
      for (const content of contents) yield* session.send(`local:${session.agent}`, content)
      yield* inboxOf(broker, ...contents)
      const asked = [
        yield* broker.call("GET", path),
        yield* broker.call("GET", `${path}?endpoint_id=${session.id}`),
        yield* broker.call("GET", `${path}?endpoint_id=nobody&x=%zz`),
        yield* broker.call("GET", path, undefined, { "x-plugin-pid": "1" }),
        yield* broker.operator("GET", path)
      ]
      for (const { body, status } of asked) {
        assert.strictEqual(status, 200)
        const listed = body.items.map(({ content }: { content: string }) => content)
        assert.deepStrictEqual(
          listed.filter((content: string) => contents.includes(content)),
          contents
        )
      }
    })
  )

  it.scopedLive(
    "gives a part: so many, and with their `next` those behind them, whatever was dispatched meanwhile",
    () =>
      Effect.gen(function* () {
        const broker = yield* startBroker()
        const session = yield* startSession(broker)
        const contents = ["a", "b", "c", "d", "e"]
        for (const content of contents) yield* session.send(`local:${session.agent}`, content)
        const items = yield* inboxOf(broker, ...contents)
        const page = (query: string) =>
          Effect.map(
            broker.call("GET", `${path}?${query}`),
            ({ body }) => [body.items.map(({ content }: { content: string }) => content).join(""), body.next] as const
          )
        const [first, behindB] = yield* page("limit=2")
        assert.strictEqual(first, "ab")
        yield* broker.call("POST", "/v1/dispatch", { undispatched_id: items[1].id, target_endpoint_id: session.id })
        const [second, behindD] = yield* page(`limit=2&after=${behindB}`)
        assert.strictEqual(second, "cd")
        assert.deepStrictEqual(yield* page(`limit=1&after=${behindD}`), ["e", undefined])
        assert.deepStrictEqual(yield* page(`after=${behindB}`), ["cde", undefined])
        assert.deepStrictEqual(yield* page("limit=4"), ["acde", undefined])
        assert.deepStrictEqual(yield* page("after=9999999999999999"), ["", undefined])
        for (const limit of ["0", "1001", "-1", "1.5", "many", ""]) {
          refused(yield* broker.call("GET", `${path}?limit=${limit}`), 400, "bad_request", "limit", "1 to 1000")
        }
        refused(yield* broker.call("GET", `${path}?limit=1&limit=2`), 400, "bad_request", "limit")
        refused(yield* broker.call("GET", `${path}?after=nobody`), 400, "bad_request", "after", "next")
        refused(yield* broker.call("GET", `${path}?after=`), 400, "bad_request", "after")
      })
  )

  it.scopedLive("is whole and in its place among other answers, also where it is long", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const session = yield* startSession(broker)
      const contents = Array.from({ length: 7 }, (_, n) => `${n} ${"ä€".repeat(10_000)}`)
      for (const content of contents) yield* session.send(`local:${session.agent}`, content)
      const items = yield* inboxOf(broker, ...contents)
      const lines = [`Host: 127.0.0.1:${broker.port}`, `Authorization: Bearer ${broker.token}`]
      const asked = [`GET ${path}`, "GET /health", `HEAD ${path}`, `GET ${path}?limit=1`, `GET ${path}`, "GET /nothing"]
      const pipeline = new Pipeline(broker.port)
      const answers = yield* Effect.promise(() =>
        pipeline.exchange(
          Buffer.from(asked.map((line) => head(line, lines)).join("")),
          asked.map((line) => line.split(" ")[0]!)
        )
      )
      pipeline.close()
      assert.deepStrictEqual(
        answers.map(({ status }) => status),
        [200, 200, 200, 200, 200, 404]
      )
      const [whole, , , page, again] = answers.map(({ text }) => text)
      assert.strictEqual(whole, JSON.stringify({ items }))
      assert.strictEqual(again, whole)
      assert.strictEqual(page, JSON.stringify({ items: items.slice(0, 1), next: JSON.parse(page!).next }))
      assert.isString(JSON.parse(page!).next)
      for (const n of [0, 2, 4]) {
        assert.strictEqual(answers[n]!.headers["content-type"], "application/json; charset=utf-8")
      }
    })
  )

  it.scopedLive("wants a token and a GET; the routes of later versions are not there", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      refused(yield* broker.call("GET", path, undefined, { authorization: "Bearer wrong" }), 401, "unauthorized")
      for (const method of ["POST", "DELETE"]) refused(yield* broker.call(method, path), 404, "not_found", path)
      refused(yield* broker.call("GET", `${path}/presence?endpoint_id=x`), 404, "not_found")
      for (const later of ["assignment-claim", "assignment-reply", "processing-state", "self-settle"]) {
        refused(yield* broker.call("POST", `/v1/runtime/${later}`, {}), 404, "not_found")
      }
    })
  )
})
