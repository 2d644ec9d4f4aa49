import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker, startBroker, startPlugin } from "../../kit/broker.js"
import { logged, refused, startSession, usualBroker } from "../../kit/endToEnd.js"
import { head, rawRequest, upgradeHeaders } from "../../kit/rawHttp.js"
import { idleProcess } from "../../kit/startedProcess.js"

/** An upgrade with these header lines beside those it always needs. */
const upgrade = (broker: RunningBroker, headers: ReadonlyArray<string>, target = "GET /v1/stream") =>
  rawRequest(broker.port, head(target, [`Host: 127.0.0.1:${broker.port}`, ...upgradeHeaders, ...headers]))

const bearer = (broker: RunningBroker) => `Authorization: Bearer ${broker.token}`

describe("WS /v1/stream", () => {
  it.scopedLive("opens for a token and a process id", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const answer = yield* upgrade(broker, [bearer(broker), "x-plugin-pid: 12345"])
      assert.strictEqual(answer.status, 101)
      assert.strictEqual(answer.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
      assert.isUndefined(answer.headers["sec-websocket-extensions"])
    })
  )

  it.scopedLive("counts as an open channel until it closes", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const channels = Effect.map(broker.status, ({ channels }) => channels.open)
      yield* eventually(channels, (open) => open === 0)
      const plugin = yield* startPlugin(broker)
      yield* plugin.open
      assert.strictEqual(yield* channels, 1)
      yield* plugin.drop
      yield* eventually(channels, (open) => open === 0)
    })
  )

  it.scopedLive("F13: a query string makes no difference", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const headers = [bearer(broker), "x-plugin-pid: 12345"]
      for (const target of ["GET /v1/stream?x=1", "GET /v1/stream?"]) {
        assert.strictEqual((yield* upgrade(broker, headers, target)).status, 101, target)
      }
    })
  )

  it.scopedLive("refuses an upgrade without a token before anything else", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      refused(yield* upgrade(broker, ["x-plugin-pid: 12345"]), 401, "unauthorized")
      refused(yield* upgrade(broker, ["Authorization: Bearer wrong", "x-plugin-pid: 12345"]), 401, "unauthorized")
      refused(yield* upgrade(broker, []), 401, "unauthorized")
      refused(yield* upgrade(broker, [], "GET /v1/other"), 401, "unauthorized")
    })
  )

  it.scopedLive("refuses an upgrade elsewhere, or by another method, with 404", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const target of ["GET /v1/other", "GET /v1/stream/", "GET /v1/Stream", "GET /health", "POST /v1/stream"]) {
        refused(yield* upgrade(broker, [bearer(broker), "x-plugin-pid: 12345"], target), 404, "not_found")
      }
    })
  )

  it.scopedLive("is 404 without an upgrade", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      refused(yield* broker.call("GET", "/v1/stream", undefined, { "x-plugin-pid": "12345" }), 404, "not_found")
    })
  )

  it.scopedLive("refuses a missing or impossible process id and names the header", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const wrong = [[], ["x-plugin-pid:"], ["x-plugin-pid: 0"], ["x-plugin-pid: -5"], ["x-plugin-pid: abc"]]
      for (const headers of wrong) {
        const answer = yield* upgrade(broker, [bearer(broker), ...headers])
        refused(answer, 400, "plugin_pid_invalid", "x-plugin-pid")
        assert.strictEqual(answer.headers.connection, "close")
      }
    })
  )

  it.scopedLive("of several process ids the first counts", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { pid } = yield* idleProcess
      const answer = yield* upgrade(broker, [bearer(broker), `x-plugin-pid: ${pid}`, "x-plugin-pid: 1"])
      assert.strictEqual(answer.status, 101)
      yield* logged(broker, "channel_opened", { plugin_pid: pid })
    })
  )

  it.scopedLive("knows its plugin's capabilities among spaces, empty names and names it never heard of", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const known = yield* startSession(broker, { capabilities: ["", " later_v9", "  push_receipt_ack_v1  ", ""] })
      yield* known.send(known.address, "with a receipt")
      assert.property((yield* known.plugin.take(1))[0], "push_id")
      const unknown = yield* startSession(broker, { capabilities: ["push_receipt_ack_v2", "PUSH_RECEIPT_ACK_V1"] })
      yield* unknown.send(unknown.address, "without")
      assert.notProperty((yield* unknown.plugin.take(1))[0], "push_id")
    })
  )

  it.scopedLive("L4: a broken handshake is refused and harms nobody", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const session = yield* startSession(broker)
      const without = (name: string) => upgradeHeaders.filter((line) => !line.startsWith(name))
      const broken = [
        without("Sec-WebSocket-Key"),
        [...without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: short"],
        [...without("Sec-WebSocket-Version"), "Sec-WebSocket-Version: 99"],
        [...without("Upgrade"), "Upgrade: h2c"]
      ]
      for (const headers of broken) {
        const answer = yield* rawRequest(
          broker.port,
          head("GET /v1/stream", [`Host: 127.0.0.1:${broker.port}`, ...headers, bearer(broker), "x-plugin-pid: 12345"])
        )
        assert.isTrue(answer.status >= 400 && answer.status < 500, `${answer.status} for ${headers}`)
      }
      assert.strictEqual((yield* session.send(session.address, "still here")).status, 200)
      assert.strictEqual((yield* session.plugin.take(1))[0]!.content, "still here")
    })
  )

  it.scopedLive("S9: refuses a channel beyond the limit, but not one that replaces its own", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { channels: 1 } })
      const plugin = yield* startPlugin(broker)
      yield* plugin.open
      const answer = yield* upgrade(broker, [bearer(broker), "x-plugin-pid: 12345"])
      refused(answer, 503, "too_many_channels")
      assert.strictEqual(answer.body.retryable, true)
      yield* plugin.open
      assert.strictEqual((yield* broker.status).channels.open, 1)
      yield* plugin.drop
      yield* eventually(broker.status, ({ channels }) => channels.open === 0)
      assert.strictEqual((yield* upgrade(broker, [bearer(broker), "x-plugin-pid: 12345"])).status, 101)
    })
  )
})
