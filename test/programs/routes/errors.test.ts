import { connect, type Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker, startBroker } from "../../kit/broker.js"
import { refused, sharedBroker, startSession, usualBroker } from "../../kit/endToEnd.js"
import { head, postInChunks, rawRequest } from "../../kit/rawHttp.js"

const posts = [
  "/v1/initialize",
  "/v1/endpoint/register",
  "/v1/endpoint/ep_nobody/heartbeat",
  "/v1/endpoint/ep_nobody/reattach",
  "/v1/endpoint/ep_nobody/task-hint",
  "/v1/send",
  "/v1/dispatch"
]
const fieldsOf: Record<string, ReadonlyArray<string>> = {
  "/v1/initialize": ["client_protocol_version", "client_kind", "client_version", "capabilities"],
  "/v1/endpoint/register": [
    ...["agent_id", "plugin_pid", "kind", "session_name", "workspace", "tracking_ref", "task_hint", "started_at"],
    ...["spawn_token", "runtime_session_id", "runtime_capabilities", "execution_surface", "resume"]
  ],
  "/v1/endpoint/ep_nobody/reattach": ["plugin_pid"],
  "/v1/endpoint/ep_nobody/task-hint": ["plugin_pid", "task_hint"],
  "/v1/send": ["endpoint_id", "to", "content", "contentType", "metadata", "require_live"],
  "/v1/dispatch": ["undispatched_id", "target_endpoint_id"]
}
const MiB = 1024 * 1024
/** JSON of so many bytes. */
const jsonOf = (bytes: number) => `{"client_kind":"${"x".repeat(bytes - 18)}"}`
/** Objects in objects, `depth` levels of them. */
const nested = (depth: number): string => `${'{"a":'.repeat(depth - 1)}{}${"}".repeat(depth - 1)}`

describe("bodies", () => {
  it.scopedLive("F1: one that is no JSON is 400 on every route", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const path of posts) {
        for (const body of ["{", '{"a":1}x', "\u0000", "NaN"]) {
          refused(yield* broker.call("POST", path, body), 400, "bad_request", "JSON")
        }
      }
    })
  )

  it.scopedLive("F3: null, a scalar and a list are 400 on every route that takes fields", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const path of posts.filter((path) => !path.endsWith("heartbeat"))) {
        for (const body of ["null", "7", '"text"', "[{}]"]) {
          const answer = yield* broker.call("POST", path, body)
          assert.strictEqual(answer.status, 400, `${path} ${body}`)
          assert.match(answer.body.error, /^(bad_request|plugin_pid_invalid|dispatch_body_invalid)$/)
          assert.isString(answer.body.message)
        }
      }
    })
  )

  it.scopedLive("F3: none at all is an object without fields", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const path of posts.filter((path) => !path.endsWith("heartbeat"))) {
        const none = yield* broker.call("POST", path)
        const empty = yield* broker.call("POST", path, {})
        assert.strictEqual(none.status, 400, path)
        assert.deepStrictEqual(none.body, empty.body, path)
        assert.match(none.body.message, /^"\w+" is missing\.$/, path)
      }
    })
  )

  it.scopedLive("F3: no value of any field makes a fault", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const good = { plugin_pid: 1, kind: "x", endpoint_id: "x", to: "x", content: "x", task_hint: "x" }
      for (const [path, fields] of Object.entries(fieldsOf)) {
        for (const field of fields) {
          for (const value of [null, -1, "", "text", ["text"], { text: 1 }]) {
            const { body, status } = yield* broker.call("POST", path, { ...good, [field]: value })
            assert.isTrue(status >= 400 && status < 500, `${path} ${field} ${JSON.stringify(body)}`)
            assert.isString(body.message)
          }
        }
      }
    })
  )

  it.scopedLive("F3: a refusal says what JSON a field must be, not how the code behind spells it", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const send = { endpoint_id: "x", to: "x", content: "x" }
      const register = { plugin_pid: 1, kind: "x" }
      const resume = 'an object with "endpoint_id" and "endpoint_owner_token"'
      const wrong: ReadonlyArray<readonly [path: string, body: object, message: string]> = [
        ["/v1/send", { ...send, metadata: "x" }, '"metadata" must be an object.'],
        ["/v1/send", { ...send, require_live: "x" }, '"require_live" must be true or false.'],
        ["/v1/send", [send], "The body must be an object."],
        ["/v1/endpoint/register", { ...register, plugin_pid: "1" }, '"plugin_pid" must be a number.'],
        ["/v1/endpoint/register", { ...register, plugin_pid: 1.5 }, '"plugin_pid" must be a whole number above 0.'],
        [
          "/v1/endpoint/register",
          { ...register, runtime_capabilities: "x" },
          '"runtime_capabilities" must be a list of strings.'
        ],
        [
          "/v1/endpoint/register",
          { ...register, runtime_capabilities: Array.from({ length: 65 }, () => "x") },
          '"runtime_capabilities" must be a list of at most 64 strings.'
        ],
        [
          "/v1/endpoint/register",
          { ...register, kind: "x".repeat(1_025) },
          '"kind" must be a string of 1 to 1024 characters.'
        ],
        ["/v1/endpoint/register", { ...register, resume: "x" }, `"resume" must be ${resume}.`],
        ["/v1/endpoint/x/reattach", [register], "The body must be an object."],
        [
          "/v1/dispatch",
          { undispatched_id: "", target_endpoint_id: "x" },
          '"undispatched_id" must be a string that is not empty.'
        ]
      ]
      for (const [path, body, message] of wrong) {
        assert.strictEqual((yield* broker.call("POST", path, body)).body.message, message, path)
      }
    })
  )

  it.scopedLive("S11: no refusal repeats a message, a hint or a token", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const answers = [
        yield* broker.call("POST", "/v1/send", '{"content":"s3cret"'),
        yield* broker.call("POST", "/v1/send", { endpoint_id: "x", to: "x", content: ["s3cret"] }),
        yield* broker.call("POST", "/v1/send", { endpoint_id: "x", to: "x", content: "s3cret", metadata: "s3cret" }),
        yield* broker.call("POST", "/v1/endpoint/x/task-hint", { plugin_pid: 1, task_hint: ["s3cret"] }),
        yield* broker.call("POST", "/v1/endpoint/register", { plugin_pid: "s3cret", kind: "x" }),
        yield* broker.call("GET", "/v1/undispatched", undefined, { authorization: "Bearer s3cret" })
      ]
      for (const { body, status } of answers) {
        assert.isTrue(status === 400 || status === 401)
        assert.notInclude(JSON.stringify(body), "s3cret")
      }
    })
  )

  it.scopedLive("F2: one over 1 MiB is 413, with content-length", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const path of posts) refused(yield* broker.call("POST", path, jsonOf(2 * MiB)), 413, "body_too_large")
      refused(yield* broker.call("POST", "/v1/send", jsonOf(MiB + 1)), 413, "body_too_large", String(MiB))
    })
  )

  it.scopedLive("F2: one over 1 MiB is 413, also in chunks without content-length", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const headers = { authorization: `Bearer ${broker.token}` }
      const chunks = Array.from({ length: 32 }, () => "x".repeat(64 * 1024))
      refused(yield* postInChunks(`${broker.url}/v1/send`, headers, chunks), 413, "body_too_large", String(MiB))
    })
  )

  it.scopedLive("S9: one of exactly 1 MiB is read", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const headers = { authorization: `Bearer ${broker.token}` }
      refused(yield* broker.call("POST", "/v1/initialize", jsonOf(MiB)), 400, "bad_request", "client_protocol_version")
      const chunked = yield* postInChunks(`${broker.url}/v1/initialize`, headers, [jsonOf(MiB)])
      refused(chunked, 400, "bad_request", "client_protocol_version")
    })
  )

  it.scopedLive("S9: one that nests deeper than 64 levels is 400, one of 64 is read", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { address, id, plugin } = yield* startSession(broker)
      for (const path of posts) {
        refused(yield* broker.call("POST", path, nested(65)), 400, "bad_request", "64")
        refused(yield* broker.call("POST", path, "[".repeat(200_000) + "]".repeat(200_000)), 400, "bad_request")
      }
      const metadata = JSON.parse(nested(63))
      const body = { endpoint_id: id, to: address, content: "deep", metadata }
      assert.strictEqual((yield* plugin.call("POST", "/v1/send", body)).status, 200)
      assert.deepInclude((yield* plugin.take(1))[0]!.metadata, metadata)
    })
  )

  it.scopedLive("are JSON whatever the content type says", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const body = JSON.stringify({ client_protocol_version: "1.1", client_kind: "x" })
      for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"]) {
        const answer = yield* broker.call("POST", "/v1/initialize", body, { "content-type": type })
        assert.strictEqual(answer.status, 200, type)
      }
      const none = yield* rawRequest(
        broker.port,
        head("POST /v1/initialize", [
          `Host: 127.0.0.1:${broker.port}`,
          `Authorization: Bearer ${broker.token}`,
          `Content-Length: ${body.length}`
        ]) + body
      )
      assert.strictEqual(none.status, 200)
      assert.strictEqual(none.headers["content-type"], "application/json; charset=utf-8")
    })
  )
})

describe("paths and methods", () => {
  it.scopedLive("one nobody knows is 404 and names the target, after the token was checked", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const path of ["/", "/nothing", "/v1", "/v1/", "/v2/send", "/v1/nothing?x=1&y=%zz", "/v1/send/x", "*"]) {
        const target = path === "*" ? "/*" : path
        const answer = yield* broker.call("POST", target, {})
        refused(answer, 404, "not_found")
        assert.strictEqual(answer.body.path, target)
        for (const authorization of ["", "Bearer wrong"]) {
          refused(yield* broker.call("POST", target, {}, { authorization }), 401, "unauthorized")
        }
      }
    })
  )

  it.scopedLive("one nobody knows is 404 whatever its body", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const body of ["{", "null", nested(100)]) {
        refused(yield* broker.call("POST", "/nothing", body), 404, "not_found", "/nothing")
        refused(yield* broker.call("PUT", "/v1/send", body), 404, "not_found", "/v1/send")
      }
    })
  )

  it.scopedLive("a malformed percent escape is 400 and names it, after the token was checked", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const path of ["/v1/endpoint/%/heartbeat", "/v1/%zz", "/%c3%28", "/v1/endpoint/%e0%a4%a"]) {
        refused(yield* broker.call("POST", path, {}), 400, "bad_request", path)
        refused(yield* broker.call("POST", path, {}, { authorization: "" }), 401, "unauthorized")
      }
    })
  )

  it.scopedLive("F13: a query string, also a malformed one, makes no difference", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const path of posts) {
        const plain = yield* broker.call("POST", path, {})
        for (const query of ["?", "?plugin_pid=1&kind=x", "?%zz?b=/v1/operator/status"]) {
          const answer = yield* broker.call("POST", path + query, {})
          assert.deepStrictEqual([answer.status, answer.body], [plain.status, plain.body], path + query)
        }
      }
    })
  )
})

/** A connection that says this and no more; what comes back until the broker ends it. */
const sayAndWait = ({ port }: RunningBroker, text: string) =>
  Effect.async<string>((resume) => {
    const socket: Socket = connect(port, "127.0.0.1")
    let heard = ""
    socket.setEncoding("utf8")
    socket.on("connect", () => socket.write(text))
    socket.on("data", (chunk) => {
      heard += chunk
    })
    socket.on("error", () => undefined)
    socket.on("close", () => resume(Effect.succeed(heard)))
    return Effect.sync(() => socket.destroy())
  })

describe("requests that are none", () => {
  const lives = (broker: RunningBroker) =>
    Effect.map(broker.call("GET", "/health"), ({ status }) => assert.strictEqual(status, 200))

  it.scopedLive("L4: what is no HTTP is 400, and the broker goes on", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const text of [
        "\u0016\u0003\u0001\u0002\u0000\r\n\r\n",
        "hello\r\n\r\n",
        "GET\r\n\r\n",
        "FOO /x HTTP/1.1\r\n\r\n"
      ]) {
        assert.match(yield* sayAndWait(broker, text), /^HTTP\/1\.1 400 /, JSON.stringify(text))
      }
      yield* lives(broker)
    })
  )

  it.scopedLive("L4: headers without end are 431", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const answer = yield* rawRequest(broker.port, head("GET /health", [`x: ${"y".repeat(100_000)}`]))
      assert.strictEqual(answer.status, 431)
      assert.isString(answer.body.message)
      yield* lives(broker)
    })
  )

  it.scopedLive("L4: a client that hangs up in the middle of its body harms nobody", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { address, plugin, send } = yield* startSession(broker)
      const lines = [`Host: 127.0.0.1:${broker.port}`, `Authorization: Bearer ${broker.token}`]
      yield* Effect.forEach(Array.from({ length: 20 }), () =>
        Effect.async<void>((resume) => {
          const socket = connect(broker.port, "127.0.0.1")
          socket.on("connect", () => {
            socket.write(`${head("POST /v1/send", [...lines, "Content-Length: 1000"])}{"content":"`, () => {
              socket.resetAndDestroy()
              resume(Effect.void)
            })
          })
        })
      )
      assert.strictEqual((yield* send(address, "served")).status, 200)
      assert.strictEqual((yield* plugin.take(1))[0]!.content, "served")
    })
  )

  it.scopedLive("S9: no more connections than the limit are taken, and those that end make room", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { sockets: 3 } })
      const sockets = yield* Effect.acquireRelease(
        Effect.sync(() =>
          Array.from({ length: 6 }, () => connect(broker.port, "127.0.0.1").on("error", () => undefined))
        ),
        (sockets) =>
          Effect.sync(() => {
            for (const socket of sockets) socket.destroy()
          })
      )
      const closed = Effect.sync(() => sockets.filter(({ destroyed }) => destroyed).length)
      yield* eventually(closed, (count) => count >= 3)
      for (const socket of sockets) socket.destroy()
      const ask = Effect.promise(() =>
        fetch(`${broker.url}/health`).then(
          ({ status }) => status,
          () => 0
        )
      )
      yield* eventually(ask, (status) => status === 200)
    })
  )
})

describe("requests that take their time", () => {
  const shared = sharedBroker({ settings: { headersMs: 200, bodyMs: 400 } })

  it.scopedLive("S9: headers that do not come in time are 408", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const answer = yield* sayAndWait(broker, "GET /health HTTP/1.1\r\nHost: 127")
      assert.match(answer, /^HTTP\/1\.1 408 /)
      assert.include(answer, "request_timeout")
    })
  )

  it.scopedLive("S9: a body that does not come in time is 408, and its connection ends", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const lines = [`Host: 127.0.0.1:${broker.port}`, `Authorization: Bearer ${broker.token}`, "Content-Length: 100"]
      const answer = yield* sayAndWait(broker, `${head("POST /v1/send", lines)}{`)
      assert.match(answer, /^HTTP\/1\.1 408 /)
    })
  )
})
