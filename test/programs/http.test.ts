/** HTTP in its rarer forms: every answer is the broker's own, and each stands where its request stood. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { RunningBroker } from "../kit/broker.js"
import { refused, sharedBroker } from "../kit/endToEnd.js"
import { converse, Pipeline } from "../kit/pipeline.js"
import { head, rawRequest, upgradeHeaders } from "../kit/rawHttp.js"

const own = ({ port, token }: RunningBroker) => [`Host: 127.0.0.1:${port}`, `Authorization: Bearer ${token}`]
const initialize = JSON.stringify({ client_protocol_version: "1.1", client_kind: "test" })

describe("L4: HTTP in its rarer forms", () => {
  const shared = sharedBroker({})

  it.scopedLive("a request without Host is refused by admission, in its words", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      refused(yield* rawRequest(broker.port, head("GET /health")), 403, "host_not_allowed")
    })
  )

  it.scopedLive("a request that expects what nobody knows is served as any other", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const answer = yield* rawRequest(broker.port, head("GET /v1/undispatched", [...own(broker), "Expect: wonders"]))
      assert.deepStrictEqual([answer.status, answer.body], [200, { items: [] }])
      const stranger = yield* rawRequest(
        broker.port,
        head("GET /v1/undispatched", [own(broker)[0]!, "Expect: wonders"])
      )
      refused(stranger, 401, "unauthorized")
    })
  )

  it.scopedLive("a body that is announced with Expect: 100-continue is asked for, and read", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const lines = [...own(broker), "Expect: 100-continue", `Content-Length: ${initialize.length}`]
      const pieces = [head("POST /v1/initialize", lines), initialize].map((text) => Buffer.from(text))
      const pipeline = new Pipeline(broker.port)
      const answers = yield* Effect.promise(() => pipeline.exchange(Buffer.concat(pieces), ["POST"]))
      pipeline.close()
      assert.deepStrictEqual(
        answers.map(({ status }) => status),
        [200]
      )
    })
  )

  it.scopedLive("such a request behind others on its connection does not get into their answers", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const body = `Content-Length: ${initialize.length}`
      const plain = head("POST /v1/initialize", [...own(broker), body]) + initialize
      const expecting = head("POST /v1/initialize", [...own(broker), "Expect: 100-continue", body]) + initialize
      const pipeline = new Pipeline(broker.port)
      const answers = yield* Effect.promise(() =>
        pipeline.exchange(Buffer.from(plain + plain + expecting), ["POST", "POST", "POST"])
      )
      pipeline.close()
      assert.lengthOf(answers, 3)
      for (const { status, text } of answers) {
        assert.deepStrictEqual([status, JSON.parse(text).server_protocol_version], [200, "1.1"])
      }
    })
  )

  it.scopedLive("an upgrade that is no WebSocket handshake is refused as everything else is", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const without = (name: string) => upgradeHeaders.filter((line) => !line.startsWith(name))
      for (const lines of [
        without("Sec-WebSocket-Key"),
        [...without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: short"],
        [...without("Sec-WebSocket-Version"), "Sec-WebSocket-Version: 99"],
        [...upgradeHeaders, "Sec-WebSocket-Protocol: ,,"]
      ]) {
        const text = head("GET /v1/stream", [...own(broker), "x-plugin-pid: 9999999", ...lines])
        refused(yield* rawRequest(broker.port, text), 400, "bad_request", "stream")
      }
    })
  )

  it.scopedLive(
    "a request that offers another upgrade is served as any other, with its body; its connection ends",
    () =>
      Effect.gen(function* () {
        const broker = yield* shared
        const [host] = own(broker)
        const offer = [
          "Connection: Upgrade, HTTP2-Settings",
          "Upgrade: h2c",
          "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"
        ]
        const body = `Content-Length: ${initialize.length}`
        const offering = head("POST /v1/initialize", [...own(broker), body, ...offer]) + initialize
        const plain = head("GET /v1/undispatched", own(broker))
        const health = (lines: ReadonlyArray<string> = []) => head("GET /health", [host!, ...lines])
        const stranger = head("GET /v1/undispatched", [host!, ...offer])
        /** The answers until the connection ends. */
        const ask = (...texts: ReadonlyArray<string>) =>
          Effect.gen(function* () {
            const pipeline = new Pipeline(broker.port)
            const bytes = Buffer.from(texts.join(""))
            const answers = yield* Effect.promise(() =>
              pipeline.exchange(
                bytes,
                // One more than there can be.
                ["", ...texts]
              )
            )
            assert.strictEqual(answers.at(-1)!.headers.connection, "close")
            return answers.map(({ status }) => status)
          })
        assert.deepStrictEqual(yield* ask(offering), [200])
        assert.deepStrictEqual(yield* ask(stranger), [401])
        assert.deepStrictEqual(yield* ask(plain, offering), [200, 200])
        assert.deepStrictEqual(yield* ask(plain, plain, stranger), [200, 200, 401])
        // What is behind an offer is not done.
        assert.deepStrictEqual(yield* ask(health(), health(offer), health(), plain), [200, 200])
        assert.deepStrictEqual(yield* ask(health(offer), health(offer), plain), [200])
        const { sockets } = yield* broker.status
        assert.isAtMost(sockets.open, 2)
      })
  )

  it.scopedLive("what ends HTTP on a connection is answered behind the requests that came before it", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const before = head("POST /v1/initialize", [...own(broker), `Content-Length: ${initialize.length}`]) + initialize
      const upgrade = (pid: string) =>
        head("GET /v1/stream", [...own(broker), `x-plugin-pid: ${pid}`, ...upgradeHeaders])
      const chunked = head("POST /v1/initialize", [...own(broker), "Transfer-Encoding: chunked"])
      const cases: ReadonlyArray<readonly [string, number]> = [
        [upgrade(String(process.pid)), 400],
        [head("CONNECT example.org:443", [`Host: example.org:443`]), 400],
        ["GARBAGE\r\n\r\n", 400],
        [`${chunked}no number\r\n`, 400]
      ]
      for (const [text, status] of cases) {
        const answers = yield* Effect.promise(() =>
          converse(broker.port, [Buffer.from(before.repeat(2) + text)], "end")
        )
        assert.deepStrictEqual(
          answers.map((answer) => answer.status),
          [200, 200, status],
          text
        )
      }
    })
  )

  it.scopedLive("one connection carries a hundred requests at once, answered in their order", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const targets = Array.from({ length: 100 }, (_, n) => (n % 2 === 0 ? `/nothing/${n}` : "/health"))
      const bytes = Buffer.from(targets.map((target) => head(`GET ${target}`, own(broker))).join(""))
      const pipeline = new Pipeline(broker.port)
      const answers = yield* Effect.promise(() =>
        pipeline.exchange(
          bytes,
          targets.map(() => "GET")
        )
      )
      pipeline.close()
      assert.lengthOf(answers, 100)
      answers.forEach(({ text }, n) => {
        assert.strictEqual(JSON.parse(text).path, n % 2 === 0 ? targets[n] : undefined)
      })
    })
  )
})
