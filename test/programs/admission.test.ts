import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { WebSocket } from "ws"
import { type RunningBroker, startBroker } from "../kit/broker.js"
import { refused, startSession, usualBroker } from "../kit/endToEnd.js"
import { head, type RawAnswer, rawRequest, upgradeHeaders } from "../kit/rawHttp.js"

const bearer = ({ token }: RunningBroker) => `Authorization: Bearer ${token}`

/** `GET /health` with these header lines only. */
const get = (broker: RunningBroker, headers: ReadonlyArray<string>, target = "/health") =>
  rawRequest(broker.port, head(`GET ${target}`, headers))
/** An upgrade of the stream with these beside those it needs. */
const upgrade = (broker: RunningBroker, headers: ReadonlyArray<string>, target = "/v1/stream") =>
  rawRequest(broker.port, head(`GET ${target}`, [...upgradeHeaders, bearer(broker), "x-plugin-pid: 12345", ...headers]))
const own = ({ port }: RunningBroker) => `Host: 127.0.0.1:${port}`

const foreignHosts = (port: number): ReadonlyArray<string> => [
  "",
  "127.0.0.1",
  "localhost",
  `:${port}`,
  `example.org:${port}`,
  `127.0.0.1:${port}.evil.example`,
  `127.0.0.1.evil.example:${port}`,
  `localhost.evil.example:${port}`,
  `evil.example/127.0.0.1:${port}`,
  `user@127.0.0.1:${port}`,
  `127.0.0.1:${port}@evil.example`,
  `localhost.:${port}`,
  `127.0.0.1.:${port}`,
  `2130706433:${port}`,
  `0x7f000001:${port}`,
  `017700000001:${port}`,
  `127.1:${port}`,
  `127.0.1:${port}`,
  `127.0.0.2:${port}`,
  `127.0.0.01:${port}`,
  `0.0.0.0:${port}`,
  `[::]:${port}`,
  `[::ffff:127.0.0.1]:${port}`,
  `::1:${port}`,
  `127.0.0.1:${port + 1}`,
  `127.0.0.1:0${port}`,
  `127.0.0.1:${port}/`,
  `127.0.0.1:${port}#`,
  `127.0.0.1:${port} x`,
  `127.0.0.1:${port},127.0.0.1:${port}`,
  "127.0.0.1:80"
]

describe.concurrent("S2: the Host header", () => {
  it.scopedLive("may be any name of this broker on loopback, in any case", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const name of ["127.0.0.1", "localhost", "LocalHost", "[::1]"]) {
        const answer = yield* get(broker, [`Host: ${name}:${broker.port}`, bearer(broker)])
        assert.strictEqual(answer.status, 200, name)
        assert.strictEqual(answer.body.protocol_version, "1.1")
        assert.strictEqual((yield* upgrade(broker, [`Host: ${name}:${broker.port}`])).status, 101, name)
      }
    })
  )

  it.scopedLive("is refused under every other name, with a good token and without", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const host of foreignHosts(broker.port)) {
        for (const headers of [[`Host: ${host}`], [`Host: ${host}`, bearer(broker)]]) {
          refused(yield* get(broker, headers), 403, "host_not_allowed", String(broker.port))
        }
      }
    })
  )

  it.scopedLive("is refused under every other name on an upgrade", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const host of foreignHosts(broker.port)) {
        refused(yield* upgrade(broker, [`Host: ${host}`]), 403, "host_not_allowed")
      }
    })
  )

  it.scopedLive("is refused when it is missing", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const missing = yield* get(broker, [bearer(broker)])
      assert.isTrue(missing.status === 400 || missing.status === 403, String(missing.status))
      const old = yield* rawRequest(broker.port, `GET /health HTTP/1.0\r\n${bearer(broker)}\r\n\r\n`)
      refused(old, 403, "host_not_allowed")
      const upgraded = yield* upgrade(broker, [])
      assert.isTrue(upgraded.status === 400 || upgraded.status === 403, String(upgraded.status))
    })
  )

  it.scopedLive("is refused when it comes twice, even when both are good", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const other of [own(broker), "Host: evil.example", "hOST: evil.example"]) {
        for (const headers of [
          [own(broker), other],
          [other, own(broker)]
        ]) {
          const plain = yield* get(broker, [...headers, bearer(broker)])
          const upgraded = yield* upgrade(broker, headers)
          for (const { status } of [plain, upgraded]) assert.isTrue(status === 400 || status === 403, String(status))
        }
      }
    })
  )

  it.scopedLive("does not help a request whose target names a host of its own", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const target of [`http://evil.example/health`, `${broker.url}/health`, "//evil.example/health"]) {
        const answer = yield* get(broker, [own(broker), bearer(broker)], target)
        assert.isTrue(answer.status === 403 || answer.status === 404, `${target} ${answer.status}`)
      }
      refused(yield* get(broker, [own(broker)], "http://evil.example/health"), 403, "host_not_allowed")
      refused(yield* upgrade(broker, [own(broker)], `${broker.url}/v1/stream`), 403, "host_not_allowed")
    })
  )
})

describe.concurrent("S3: the Origin header", () => {
  const foreign = (port: number): ReadonlyArray<string> => [
    "http://evil.example",
    "https://evil.example",
    "null",
    "",
    `https://127.0.0.1:${port}`,
    "http://127.0.0.1",
    "http://localhost",
    `http://127.0.0.1:${port + 1}`,
    `http://127.0.0.1:${port}.evil.example`,
    `http://127.0.0.1:${port}/`,
    `http://evil.example http://127.0.0.1:${port}`,
    "file://",
    "chrome-extension://abcdef",
    "vscode-webview://abcdef"
  ]

  it.scopedLive("is refused when it is another's, with a good token and without, on HTTP and on an upgrade", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const origin of foreign(broker.port)) {
        const line = `Origin: ${origin}`
        refused(yield* get(broker, [own(broker), line, bearer(broker)]), 403, "origin_not_allowed")
        refused(yield* get(broker, [own(broker), line]), 403, "origin_not_allowed")
        refused(yield* upgrade(broker, [own(broker), line]), 403, "origin_not_allowed")
      }
    })
  )

  it.scopedLive("is allowed when it is the broker's own, once", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const name of ["127.0.0.1", "localhost", "[::1]"]) {
        const line = `Origin: http://${name}:${broker.port}`
        assert.strictEqual((yield* get(broker, [own(broker), line])).status, 200, name)
        assert.strictEqual((yield* upgrade(broker, [own(broker), line])).status, 101, name)
        const twice = yield* get(broker, [own(broker), line, line])
        refused(twice, 403, "origin_not_allowed")
      }
    })
  )

  it.scopedLive("a web page finds no WebSocket here, whatever it knows", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const seen = yield* Effect.async<string>((resume) => {
        const socket = new WebSocket(`${broker.url.replace("http", "ws")}/v1/stream`, {
          origin: "http://evil.example",
          headers: { authorization: `Bearer ${broker.token}`, "x-plugin-pid": "12345" }
        })
        socket.on("open", () => resume(Effect.succeed("open")))
        socket.on("error", (error) => resume(Effect.succeed(error.message)))
      })
      assert.include(seen, "403")
    })
  )

  it.scopedLive("no answer ever carries a CORS header, a preflight least of all", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const preflight = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"]
      const options = (headers: ReadonlyArray<string>) =>
        rawRequest(broker.port, head("OPTIONS /v1/send", [own(broker), ...headers, ...preflight]))
      const origin = `Origin: ${broker.url}`
      const answers: ReadonlyArray<readonly [number, RawAnswer]> = [
        [403, yield* options(["Origin: http://evil.example"])],
        [401, yield* options([origin])],
        [404, yield* options([origin, bearer(broker)])],
        [200, yield* get(broker, [own(broker), origin, bearer(broker)])],
        [401, yield* get(broker, [own(broker), origin], "/v1/undispatched")],
        [404, yield* get(broker, [own(broker), origin, bearer(broker)], "/nothing")],
        [101, yield* upgrade(broker, [own(broker), origin])],
        [403, yield* upgrade(broker, [own(broker), "Origin: null"])]
      ]
      for (const [status, answer] of answers) {
        assert.strictEqual(answer.status, status)
        const cors = Object.keys(answer.headers).filter((name) => name.startsWith("access-control-"))
        assert.deepStrictEqual(cors, [])
      }
    })
  )
})

describe.concurrent("S6: the token", () => {
  const undispatched = (broker: RunningBroker, authorization: string) =>
    get(broker, [own(broker), `Authorization: ${authorization}`], "/v1/undispatched")

  it.scopedLive("is taken after Bearer, and bare", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      for (const authorization of [`Bearer ${broker.token}`, broker.token]) {
        assert.strictEqual((yield* undispatched(broker, authorization)).status, 200)
      }
    })
  )

  it.scopedLive("is refused in every other form", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { token } = broker
      const forms = [
        "",
        "Bearer",
        "Bearer ",
        `bearer ${token}`,
        `BEARER ${token}`,
        `Bearer: ${token}`,
        `Bearer  ${token}`,
        `Bearer Bearer ${token}`,
        `Token ${token}`,
        `Basic ${Buffer.from(`x:${token}`).toString("base64")}`,
        `Bearer ${token.slice(1)}`,
        `Bearer ${token.slice(0, -1)}`,
        `Bearer ${token}=`,
        `Bearer ${token.toLowerCase()}`,
        `Bearer ${token.slice(0, -1)}${token.endsWith("A") ? "B" : "A"}`,
        `Bearer ${token}, Bearer ${token}`,
        `Bearer ${"x".repeat(4_000)}`
      ]
      for (const form of forms) refused(yield* undispatched(broker, form), 401, "unauthorized", "Bearer")
      refused(yield* get(broker, [own(broker)], "/v1/undispatched"), 401, "unauthorized")
      const inQuery = `/v1/undispatched?token=${token}&access_token=${token}`
      refused(yield* get(broker, [own(broker)], inQuery), 401, "unauthorized")
    })
  )

  it.scopedLive("is 32 random bytes in base64url, another one for each role", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      assert.match(broker.token, /^[A-Za-z0-9_-]{43}$/)
      assert.match(broker.operatorToken, /^[A-Za-z0-9_-]{43}$/)
      assert.notStrictEqual(broker.token, broker.operatorToken)
    })
  )
})

describe.concurrent("S8: roles", () => {
  it.scopedLive("the operator's token opens the plugins' routes", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const session = yield* startSession(broker)
      const headers = { authorization: `Bearer ${broker.operatorToken}` }
      const body = { endpoint_id: session.id, to: session.address, content: "from the operator" }
      assert.strictEqual((yield* broker.call("POST", "/v1/send", body, headers)).status, 200)
      assert.strictEqual((yield* session.plugin.take(1))[0]!.content, "from the operator")
      assert.strictEqual((yield* broker.call("GET", "/v1/undispatched", undefined, headers)).status, 200)
      const stream = head("GET /v1/stream", [
        ...upgradeHeaders,
        own(broker),
        `Authorization: Bearer ${broker.operatorToken}`,
        "x-plugin-pid: 12345"
      ])
      assert.strictEqual((yield* rawRequest(broker.port, stream)).status, 101)
    })
  )

  it.scopedLive("the plugins' token opens no operator route, however its path is spelled", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const spellings = [
        "/v1/operator/status",
        "/v1/operator/status/",
        "/v1/operator/status?x",
        "/v1/operator/status;x",
        "/V1/operator/status",
        "/v1/Operator/status",
        "/v1/OPERATOR/STATUS",
        "//v1/operator/status",
        "/v1//operator/status",
        "/v1/operator//status",
        "/v1/%6fperator/status",
        "/v1/operator%2fstatus",
        "/%76%31/operator/status",
        "/v1/./operator/status",
        "/v1/x/../operator/status",
        "/v1;x/operator/status"
      ]
      const opened: Array<string> = []
      for (const path of spellings) {
        const { body, status } = yield* get(broker, [own(broker), bearer(broker)], path)
        if (status !== 403 && status !== 404) opened.push(`${path} ${status} ${Object.keys(body)}`)
        const stop = path.replace(/status/i, "stop")
        const post = yield* rawRequest(
          broker.port,
          head(`POST ${stop}`, [own(broker), bearer(broker), "Content-Length: 0"])
        )
        if (post.status !== 403 && post.status !== 404) {
          opened.push(`${stop} ${post.status}`)
          break
        }
      }
      assert.deepStrictEqual(opened, [])
    })
  )
})
