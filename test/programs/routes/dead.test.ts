import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker } from "../../kit/broker.js"
import { refused, sharedBroker, startSession } from "../../kit/endToEnd.js"

const items = (broker: RunningBroker) =>
  Effect.map(broker.operator("GET", "/v1/operator/dead"), ({ body }) => body.items as ReadonlyArray<{ id: string }>)

describe("the routes of dead letters", () => {
  const shared = sharedBroker({ settings: { deliveryLimit: 1 } })

  it.scopedLive("list, show, retry and purge what was given up; afterwards it is unknown", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { address, id, plugin, send, socket } = yield* startSession(broker, { acknowledges: false })
      const refuse = Effect.gen(function* () {
        const [frame] = yield* plugin.take(1)
        socket.send(JSON.stringify({ event: "push_nack", push_id: frame!.push_id }))
        const [item] = yield* eventually(items(broker), (all) => all.length === 1)
        return item!.id
      })
      yield* send(address, "content")
      const first = yield* refuse
      const shown = yield* broker.operator("GET", `/v1/operator/dead/${first}`)
      assert.strictEqual(shown.status, 200)
      assert.deepInclude(shown.body, { id: first, content: "content", endpoint_id: id })
      const retried = yield* broker.operator("POST", `/v1/operator/dead/${first}/retry`)
      assert.deepStrictEqual([retried.status, retried.body], [200, { id: first, to: "mailbox", endpoint_id: id }])
      for (const [method, rest] of [
        ["GET", ""],
        ["DELETE", ""],
        ["POST", "/retry"]
      ] as const) {
        const again = yield* broker.operator(method, `/v1/operator/dead/${first}${rest}`)
        refused(again, 404, "dead_letter_unknown", first)
      }
      const second = yield* refuse
      assert.notStrictEqual(second, first)
      const purged = yield* broker.operator("DELETE", `/v1/operator/dead/${second}`)
      assert.deepStrictEqual([purged.status, purged.body], [200, { ok: true }])
      const none = yield* broker.operator("DELETE", "/v1/operator/dead")
      assert.deepStrictEqual([none.status, none.body], [200, { purged: 0 }])
    })
  )

  it.scopedLive("S8: refuse the plugin token, and no token", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      for (const [method, path] of [
        ["GET", "/v1/operator/dead"],
        ["GET", "/v1/operator/dead/m-1"],
        ["POST", "/v1/operator/dead/m-1/retry"],
        ["DELETE", "/v1/operator/dead/m-1"],
        ["DELETE", "/v1/operator/dead"]
      ] as const) {
        refused(yield* broker.call(method, path), 403, "operator_only", "operator.json")
        refused(yield* broker.call(method, path, undefined, { authorization: "" }), 401, "unauthorized")
      }
    })
  )

  it.scopedLive("an empty id is no route: it does not stand for all of them", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      refused(yield* broker.operator("DELETE", "/v1/operator/dead/"), 404, "not_found")
    })
  )
})
