import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Audit, Inspection, Verification } from "../../../src/services/ipc/StoreGroup.js"
import { inboxOf, refused, sharedBroker, startSession, usualBroker } from "../../kit/endToEnd.js"
import { stored } from "../../kit/operatorCli.js"
import { Pipeline } from "../../kit/pipeline.js"

describe("the routes of the store", () => {
  it.scopedLive("say what it holds, whether it is sound, and that the books agree with it", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { agent, send } = yield* startSession(broker)
      yield* send(`local:${agent}`, "looked at")
      yield* inboxOf(broker, "looked at")
      yield* stored(broker)
      const ask = <A, I>(method: string, path: string, schema: Schema.Schema<A, I>) =>
        Effect.flatMap(broker.operator(method, path), ({ body, status }) => {
          assert.strictEqual(status, 200, JSON.stringify(body))
          return Schema.decodeUnknown(schema)(body)
        })
      const inspection = yield* ask("GET", "/v1/operator/store", Inspection)
      assert.isAtLeast(inspection.tables.inbox!.records, 1)
      assert.notInclude(JSON.stringify(inspection), "looked at")
      const verification = yield* ask("POST", "/v1/operator/store/verify", Verification)
      assert.deepInclude(verification, { sound: true, checked: "records", damaged: {}, problems: [] })
      const audit = yield* ask("GET", "/v1/operator/ledger", Audit)
      assert.deepInclude(audit, { settled: true, problems: [] })
      assert.strictEqual(audit.stored.inbox, audit.books.inbox)
    })
  )

  it.scopedLive("export it as lines of JSON", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { agent, send } = yield* startSession(broker)
      yield* send(`local:${agent}`, "exported")
      yield* inboxOf(broker, "exported")
      yield* stored(broker)
      const { body, headers, status } = yield* broker.operator("GET", "/v1/operator/store/export")
      assert.deepStrictEqual([status, headers["content-type"]], [200, "application/x-ndjson"])
      const records = String(body)
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line))
      const contents = records.flatMap(({ table, value }) => (table === "inbox" ? [value.message.content] : []))
      assert.include(contents, "exported")
    })
  )

  it.scopedLive("refuse an export behind another answer of its connection, where it would gather in memory", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const ask = `Host: 127.0.0.1:${broker.port}\r\nAuthorization: Bearer ${broker.operatorToken}\r\n\r\n`
      const line = `GET /v1/operator/store/export HTTP/1.1\r\n${ask}`
      const pipeline = new Pipeline(broker.port)
      const [first, second] = yield* Effect.promise(() =>
        pipeline.exchange(Buffer.from(line + line), ["GET", "GET"]).finally(() => pipeline.close())
      )
      assert.deepStrictEqual([first!.status, second!.status], [200, 503])
      refused({ status: second!.status, body: JSON.parse(second!.text) }, 503, "store_not_readable", "connection")
    })
  )

  it.scopedLive("S8: refuse the plugin token, and no token", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const [method, path] of [
        ["GET", "/v1/operator/store"],
        ["POST", "/v1/operator/store/verify"],
        ["GET", "/v1/operator/store/export"],
        ["GET", "/v1/operator/ledger"]
      ] as const) {
        refused(yield* broker.call(method, path), 403, "operator_only", "operator.json")
        refused(yield* broker.call(method, path, undefined, { authorization: "" }), 401, "unauthorized")
      }
    })
  )
})

describe("the routes of a store in memory", () => {
  const shared = sharedBroker({ settings: { store: "memory" } })

  it.scopedLive("say that there is nothing to look into; the books are there", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      for (const [method, path] of [
        ["GET", "/v1/operator/store"],
        ["POST", "/v1/operator/store/verify"],
        ["GET", "/v1/operator/store/export"]
      ] as const) {
        refused(yield* broker.operator(method, path), 503, "store_not_readable", "memory")
      }
      assert.deepInclude((yield* broker.operator("GET", "/v1/operator/ledger")).body, { settled: true, problems: [] })
    })
  )
})
