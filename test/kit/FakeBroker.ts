/** A broker's surface with knobs: what a client does shows here, and whatever can go wrong goes wrong to order. */
import { createServer, type IncomingHttpHeaders, type Server } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import { onTestFinished } from "@effect/vitest"
import { type WebSocket, WebSocketServer } from "ws"

export interface FakeRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: any
}

export interface FakeAnswer {
  readonly status: number
  readonly body: unknown
}

/** `hang`: no answer; `reset`: the connection is cut. */
export type FakeReply = FakeAnswer | "hang" | "reset"

export interface FakeStream {
  readonly socket: WebSocket
  readonly headers: IncomingHttpHeaders
  /** What the client sent, parsed. */
  readonly frames: ReadonlyArray<any>
  readonly closed: () => { readonly code: number; readonly reason: string } | undefined
  readonly send: (frame: unknown) => void
}

export const allCapabilities: Readonly<Record<string, boolean>> = {
  push_receipt_ack_v1: true,
  push_nack_v1: true,
  endpoint_owner_token_v1: true,
  endpoint_resume_v1: true,
  send_idempotency_v1: true
}

export class FakeBroker {
  readonly requests: Array<FakeRequest> = []
  readonly streams: Array<FakeStream> = []
  /** Endpoints it knows, with their owner tokens. */
  readonly endpoints = new Map<string, string>()
  capabilities = allCapabilities
  /** Decides before the usual answer; undefined leaves it to that. */
  replies: (request: FakeRequest) => FakeReply | Promise<FakeReply | undefined> | undefined = () => undefined
  /** The status an upgrade is refused with. */
  refusesStreams: { readonly status: number; readonly headers?: string } | undefined
  /** Hears every frame of a client. */
  onFrame: (stream: FakeStream, frame: any) => void = () => undefined
  /** Pings of clients are answered. */
  pongs = true
  #server: Server | undefined
  readonly #sockets = new Set<Socket>()
  #registered = 0

  /** Stopped when the test is over. */
  static async start(port = 0): Promise<FakeBroker> {
    const broker = new FakeBroker()
    await broker.listen(port)
    onTestFinished(() => broker.stop())
    return broker
  }

  get port(): number {
    return (this.#server!.address() as AddressInfo).port
  }

  get place() {
    return { ipcUrl: `http://127.0.0.1:${this.port}`, bearerToken: "token of the fake" }
  }

  /** The latest stream. */
  get stream(): FakeStream {
    return this.streams.at(-1)!
  }

  get connections(): number {
    return this.#sockets.size
  }

  get openStreams(): number {
    return this.streams.filter(({ socket }) => socket.readyState === socket.OPEN).length
  }

  calls(method: string, path: string | RegExp): ReadonlyArray<FakeRequest> {
    return this.requests.filter(
      (request) =>
        request.method === method && (typeof path === "string" ? path === request.path : path.test(request.path))
    )
  }

  async listen(port = 0): Promise<void> {
    const server = createServer((request, response) => {
      const chunks: Array<Buffer> = []
      request.on("data", (chunk) => chunks.push(chunk))
      request.on("end", async () => {
        const text = Buffer.concat(chunks).toString()
        const seen: FakeRequest = {
          method: request.method!,
          path: request.url!,
          headers: request.headers,
          body: text === "" ? undefined : JSON.parse(text)
        }
        this.requests.push(seen)
        const reply = (await this.replies(seen)) ?? this.#usual(seen)
        if (reply === "hang") return
        if (reply === "reset") {
          request.socket.destroy()
          return
        }
        response.writeHead(reply.status, { "content-type": "application/json" })
        response.end(JSON.stringify(reply.body))
      })
    })
    // Idle connections end when the client ends them.
    server.keepAliveTimeout = 75_000
    server.on("connection", (socket) => {
      this.#sockets.add(socket)
      socket.on("close", () => this.#sockets.delete(socket))
    })
    const upgrades = new WebSocketServer({ noServer: true, autoPong: false })
    server.on("upgrade", (request, socket, head) => {
      if (this.refusesStreams !== undefined) {
        const { headers = "", status } = this.refusesStreams
        socket.end(`HTTP/1.1 ${status} No\r\n${headers}connection: close\r\n\r\n`)
        return
      }
      upgrades.handleUpgrade(request, socket, head, (webSocket) => this.#opened(webSocket, request.headers))
    })
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve))
    this.#server = server
  }

  /** Cuts every connection and stops listening, as a killed process does. */
  async stop(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    const stopped = new Promise((resolve) => server.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    await stopped
  }

  #opened(socket: WebSocket, headers: IncomingHttpHeaders) {
    const frames: Array<any> = []
    let closed: { code: number; reason: string } | undefined
    socket.on("ping", () => this.pongs && socket.pong())
    socket.on("error", () => undefined)
    socket.on("close", (code, reason) => {
      closed = { code, reason: reason.toString() }
    })
    const stream: FakeStream = {
      socket,
      headers,
      frames,
      closed: () => closed,
      send: (frame) => socket.send(typeof frame === "string" ? frame : JSON.stringify(frame))
    }
    socket.on("message", (data) => {
      frames.push(JSON.parse(String(data)))
      this.onFrame(stream, frames.at(-1))
    })
    this.streams.push(stream)
  }

  #usual({ body, method, path }: FakeRequest): FakeAnswer {
    const [, id, action] = /^\/v1\/endpoint\/([^/]+)(?:\/(.+))?$/.exec(path) ?? []
    switch (`${method} ${path}`) {
      case "POST /v1/initialize":
        return {
          status: 200,
          body: {
            server_protocol_version: "1.1",
            server_version: "runtime-broker/0.1.0",
            server_capabilities: this.capabilities,
            network_presence: "online",
            session_id: "session of the fake"
          }
        }
      case "POST /v1/endpoint/register": {
        const endpoint = `ep_${++this.#registered}`
        this.endpoints.set(endpoint, `token of ${endpoint}`)
        return {
          status: 200,
          body: { endpoint_id: endpoint, endpoint_owner_token: `token of ${endpoint}`, resumed: false }
        }
      }
      case "POST /v1/send":
        return { status: 200, body: { messageId: `sent ${body.content}`, status: "delivered" } }
      case "GET /v1/undispatched":
        return { status: 200, body: { items: [] } }
    }
    if (id !== undefined && action === "reattach") {
      return this.endpoints.has(id)
        ? { status: 200, body: { restored: true, reconnecting_buffer_count: 0 } }
        : { status: 404, body: { error: "endpoint_unknown", message: `No endpoint "${id}".` } }
    }
    if (id !== undefined && method === "DELETE") this.endpoints.delete(id)
    return { status: 200, body: { ok: true } }
  }
}

/** A pushed message. */
export const push = (n: number | string, more: object = {}) => ({
  event: "message_received",
  push_id: `push ${n}`,
  from: "local:sender",
  content: `message ${n}`,
  contentType: "text",
  metadata: {},
  sourceMessageId: `id ${n}`,
  ...more
})

/** Waits until `look` answers something else than false or undefined, and returns it. */
export const until = async <A>(
  look: () => A | undefined | false,
  what = String(look),
  withinMs = 10_000
): Promise<A> => {
  const end = Date.now() + withinMs
  for (;;) {
    const seen = look()
    if (seen !== undefined && seen !== false) return seen as A
    if (Date.now() > end) throw new Error(`it did not happen within ${withinMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
