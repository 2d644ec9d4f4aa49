/** HTTP requests that are almost what the broker takes, and upgrades of the stream. */
import { type Route, routes, wellFormed } from "../routes.js"
import { almostJson } from "./json.js"
import type { Random } from "./Random.js"
import type { World } from "./World.js"

export interface Request {
  readonly method: string
  readonly target: string
  readonly headers: ReadonlyArray<string>
  readonly body: Buffer
  readonly isChunked: boolean
}

/** It would end the broker, or answer with everything there is. */
const isTooMuch = (target: string) => /stop|drain|export/i.test(target)

const authorization = (random: Random, { operatorToken, token }: World, target: string): ReadonlyArray<string> =>
  random.weighted<ReadonlyArray<string>>([
    [14, [`Authorization: Bearer ${token}`]],
    [isTooMuch(target) ? 0 : 4, [`Authorization: Bearer ${operatorToken}`]],
    [1, []],
    [1, ["Authorization: Bearer wrong"]],
    [1, [`Authorization: ${random.pick(["", "Bearer", "Basic eDp5", "\t", `Bearer ${"x".repeat(3_000)}`])}`]],
    [1, [`Authorization: Bearer ${token}`, "Authorization: Bearer wrong"]]
  ])

const pids = (world: World): ReadonlyArray<string> => [
  ...["0", "-1", "1", "1.5", "1e3", "abc", "", "9007199254740993", "2147483648", "1,2", " 1"],
  ...[String(world.victim.pid), String(world.brokerPid)]
]

const callerHeaders = (random: Random, world: World): ReadonlyArray<string> => [
  ...random.weighted<ReadonlyArray<string>>([
    [4, []],
    [8, [`x-plugin-pid: ${world.victim.pid}`]],
    [3, [`x-plugin-pid: ${random.pick(pids(world))}`]]
  ]),
  ...random.weighted<ReadonlyArray<string>>([
    [4, []],
    [2, [`x-endpoint-owner-token: ${world.victim.ownerToken}`]],
    [1, [`x-endpoint-owner-token: ${random.pick(["", "wrong", "\u00e9", "x".repeat(2_000)])}`]]
  ])
]

/** A good request to a route, but for its body. */
const requestTo = (random: Random, world: World, route: Route): Request => {
  const { victim } = world
  const values = {
    // One that is ended is of no use to those that follow.
    endpoint_id: random.weighted([
      [route.method === "DELETE" ? 0.1 : 8, victim.id],
      [1, "ep_nobody"],
      [1, "x".repeat(random.pick([1, 100, 2_000]))]
    ]),
    plugin_pid: victim.pid,
    to: random.weighted([
      [6, victim.address],
      [2, "local:nobody"],
      [2, `local:${victim.agent}`]
    ])
  }
  const { body, target } = wellFormed(route, values)
  return {
    method: route.method,
    target,
    headers: [
      `Host: 127.0.0.1:${world.port}`,
      ...authorization(random, world, target),
      ...callerHeaders(random, world),
      ...random.some(
        1,
        () => `Content-Type: ${random.pick(["application/json", "text/plain", "x", "multipart/form-data"])}`
      )
    ],
    body: route.method === "GET" ? Buffer.alloc(0) : almostJson(random, body),
    isChunked: random.chance(0.2)
  }
}

const cut = (random: Random, bytes: Buffer): ReadonlyArray<Buffer> => {
  const pieces: Array<Buffer> = []
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + random.below(Math.max(1, bytes.length - at))
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}

const chunked = (random: Random, body: Buffer): Buffer =>
  Buffer.concat([
    ...cut(random, body).flatMap((piece) => [
      Buffer.from(`${piece.length.toString(16)}${random.chance(0.1) ? ";name=value" : ""}\r\n`),
      piece,
      Buffer.from("\r\n")
    ]),
    Buffer.from(random.chance(0.1) ? "0\r\nTrailer: value\r\n\r\n" : "0\r\n\r\n")
  ])

const bytesOf = (random: Random, { body, headers, isChunked, method, target }: Request): Buffer => {
  const framing = isChunked
    ? ["Transfer-Encoding: chunked"]
    : body.length > 0 || method === "POST"
      ? [`Content-Length: ${body.length}`]
      : []
  const head = [`${method} ${target} HTTP/1.1`, ...headers, ...framing, "", ""].join("\r\n")
  return Buffer.concat([Buffer.from(head, "latin1"), isChunked ? chunked(random, body) : body])
}

/** Bytes that hold one request from its beginning to its end, and how it asks. */
export interface Whole {
  readonly method: string
  readonly bytes: Buffer
}

const send = routes.find(({ path }) => path === "/v1/send")!

/** A request to one of the routes, sending most of all, with a body that is almost right. */
export const routeInput = (random: Random, world: World): Whole => {
  const request = requestTo(random, world, random.chance(0.2) ? send : random.pick(routes))
  return { method: request.method, bytes: bytesOf(random, request) }
}

const methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH", "PURGE"]

const oddTarget = (random: Random, target: string): string => {
  const at = 1 + random.below(target.length)
  const insert = (text: string) => target.slice(0, at) + text + target.slice(at)
  return random.weighted<() => string>([
    [
      4,
      () =>
        insert(random.pick(["/", "//", "%", "%2f", "%00", "%zz", ";x", "?", "#", "..", "/../", "%c3%28", "\\", "|"]))
    ],
    [
      2,
      () =>
        `${target}?${random.pick(["nonce=", "nonce=zz&nonce=1", "__proto__[x]=1", "a=%", "%00", "&&&=", "x[y][z]=1"])}`
    ],
    [1, () => target.toUpperCase()],
    [1, () => target + "/x".repeat(random.below(1_000))],
    [1, () => random.pick(["*", "/", "/v1", "/%", "//", "http://127.0.0.1/health", "http://evil.example/health"])],
    [1, () => target.slice(0, at)]
  ])()
}

const oddHeaders = (random: Random, { port }: World): ReadonlyArray<string> =>
  random.weighted<() => ReadonlyArray<string>>([
    [2, () => [`Origin: ${random.pick(["null", "", "http://evil.example", `http://127.0.0.1:${port}`])}`]],
    [2, () => [`Host: ${random.pick(["", "evil.example", "127.0.0.1", `localhost:${port}`])}`]],
    [2, () => [`Expect: ${random.pick(["200-ok", "x", ""])}`]],
    [1, () => [`Cookie: ${"x=y;".repeat(random.below(1_000))}`]],
    [1, () => random.some(150, () => `X-${random.below(1_000)}: ${"y".repeat(random.below(20))}`)],
    [1, () => ["x-plugin-pid: 1", "x-plugin-pid: 2", "X-PLUGIN-PID: 3"]],
    [1, () => ["__proto__: x", "constructor: y", "toString: z"]],
    [1, () => [`Accept: ${random.pick(["*/*", "text/html", ";;;", "application/json;q=2"])}`]],
    [1, () => [`Content-Encoding: ${random.pick(["gzip", "br", "x"])}`, "Accept-Encoding: gzip"]],
    [1, () => [`traceparent: ${random.pick(["00-0-0-0", "x", `00-${"a".repeat(32)}-${"b".repeat(16)}-01`])}`, "b3: 1"]],
    [1, () => ["X-Forwarded-For: 127.0.0.1", "X-HTTP-Method-Override: DELETE", "Range: bytes=0-1"]]
  ])()

/** A request whose method, target or headers are odd, and that still ends where it says. */
export const oddInput = (random: Random, world: World): Whole => {
  const request = requestTo(random, world, random.pick(routes))
  const method = random.chance(0.3) ? random.pick(methods) : request.method
  const target = random.chance(0.5) ? oddTarget(random, request.target) : request.target
  const more = random.some(2, () => oddHeaders(random, world)).flat()
  const base = random.chance(0.05) ? request.headers.slice(1) : request.headers
  const isSafe = !isTooMuch(target) || !base.some((line) => line.includes(world.operatorToken))
  const headers = random.chance(0.5) ? [...base, ...more] : [...more, ...base]
  return {
    method,
    bytes: bytesOf(random, { ...request, method, target: isSafe ? target : "/v1/operator/status", headers })
  }
}

const flip = (random: Random, bytes: Buffer): Buffer => {
  const copy = Buffer.from(bytes)
  for (let n = 1 + random.below(8); n > 0 && copy.length > 0; n--) copy[random.below(copy.length)] = random.below(256)
  return copy
}

const replaceLine = (bytes: Buffer, pattern: RegExp, line: string): Buffer =>
  Buffer.from(bytes.toString("latin1").replace(pattern, line), "latin1")

const framings = [
  "Content-Length: 99999999",
  "Content-Length: 5\r\nContent-Length: 6",
  "Content-Length: -1",
  "Content-Length: 0x10",
  "Content-Length: 18446744073709551617",
  "Content-Length: 3\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding: chunked, identity",
  "Transfer-Encoding: gzip",
  "Transfer-Encoding : chunked",
  "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"
]

const garbage = (random: Random, good: Buffer): Buffer =>
  random.weighted<() => Buffer>([
    [3, () => flip(random, good)],
    [3, () => good.subarray(0, random.below(good.length))],
    [3, () => replaceLine(good, /(Content-Length: \d+|Transfer-Encoding: chunked)/, random.pick(framings))],
    [1, () => Buffer.concat([good, random.bytes(1 + random.below(100))])],
    [
      1,
      () =>
        replaceLine(good, /HTTP\/1\.1/, random.pick(["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.9", "HTTQ/1.1", ""]))
    ],
    [
      1,
      () =>
        replaceLine(good, /\r\n/, random.pick(["\n", "\r", "\r\n ", "\r\n\u0000", "\r\nno colon\r\n", "\r\n: x\r\n"]))
    ],
    [1, () => replaceLine(good, /^\w+ /, random.pick(["get ", "CONNECT ", "POST  ", "PRI ", "\u0000 "]))],
    [1, () => replaceLine(good, /\r\n/, `\r\nX-Long: ${"y".repeat(random.pick([15_000, 20_000, 80_000]))}\r\n`)],
    [1, () => replaceLine(good, /\r\n/, random.pick(["\r\nConnection: close\r\n", "\r\nExpect: 100-continue\r\n"]))],
    [1, () => Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\u0000\u0000\u0000\u0004", "latin1")],
    [1, () => Buffer.from("\u0016\u0003\u0001\u0000\u00a5\u0001\u0000\u0000\u00a1", "latin1")],
    [1, () => random.bytes(1 + random.below(400))]
  ])()

/** Bytes for a connection of their own: no request, half a request, or several that do not end where they say. */
export const roughInput = (random: Random, world: World): ReadonlyArray<Buffer> => {
  const whole = () => {
    const request = requestTo(random, world, random.pick(routes))
    const offer = random.chance(0.3) ? ["Connection: Upgrade", `Upgrade: ${random.pick(["h2c", "TLS/1.3", "x"])}`] : []
    return bytesOf(random, { ...request, headers: [...request.headers, ...offer] })
  }
  const bytes = Buffer.concat([...random.some(2, whole), garbage(random, whole())])
  return random.chance(0.3) ? cut(random, bytes).slice(0, 6) : [bytes]
}

const handshakeLines = (random: Random): ReadonlyArray<string> =>
  [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
  ]
    .filter(() => !random.chance(0.08))
    .map((line) => (random.chance(0.1) ? line.slice(0, 1 + random.below(line.length)) : line))

const extensions = [
  "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
  "Sec-WebSocket-Extensions: ;;,,=",
  `Sec-WebSocket-Extensions: ${"x;".repeat(500)}`,
  "Sec-WebSocket-Protocol: chat, superchat",
  "Sec-WebSocket-Protocol: ,,",
  "Sec-WebSocket-Key: x",
  "Sec-WebSocket-Version: 99"
]

/** An upgrade that has something wrong, or nothing. The stream it opens belongs to `pid` when that is named. */
export const handshakeInput = (random: Random, world: World): Buffer => {
  const target = random.chance(0.2) ? oddTarget(random, "/v1/stream") : "/v1/stream"
  const lines = [
    ...handshakeLines(random),
    ...authorization(random, world, target),
    ...random.weighted<ReadonlyArray<string>>([
      [6, [`x-plugin-pid: ${strangerPid(random)}`]],
      [2, [`x-plugin-pid: ${random.pick(pids(world))}`]],
      [1, []]
    ]),
    ...random.some(
      1,
      () => `x-masons-ipc-capabilities: ${random.pick(["push_receipt_ack_v1", ",,,", "x".repeat(3_000)])}`
    ),
    ...random.some(1, () => random.pick(extensions)),
    ...random.some(1, () => oddHeaders(random, world)).flat()
  ]
  const method = random.chance(0.05) ? random.pick(["POST", "PUT", "OPTIONS"]) : "GET"
  const host = random.chance(0.95) ? [`Host: 127.0.0.1:${world.port}`] : []
  return Buffer.from([`${method} ${target} HTTP/1.1`, ...host, ...lines, "", ""].join("\r\n"), "latin1")
}

/** A process id no process has. */
const strangerPid = (random: Random) => 10_000_000 + random.below(1_000_000)

/** A good upgrade for such a process, or for the plugin that is fuzzed. */
export const handshake = (random: Random, world: World): Buffer => {
  const pid = random.chance(0.005) ? world.victim.pid : strangerPid(random)
  const lines = [
    `Host: 127.0.0.1:${world.port}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    `Authorization: Bearer ${world.token}`,
    `x-plugin-pid: ${pid}`,
    `x-masons-ipc-capabilities: ${random.pick(["", "push_receipt_ack_v1,push_nack_v1"])}`
  ]
  return Buffer.from(["GET /v1/stream HTTP/1.1", ...lines, "", ""].join("\r\n"))
}
