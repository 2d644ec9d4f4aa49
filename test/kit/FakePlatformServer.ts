/**
 * The platform's HTTP surface in the test's hands: a small platform that works, and answers that are scripted. It runs on a
 * real server, or behind a client in memory for tests with very many calls.
 */
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { HttpClient, HttpClientError, HttpClientResponse } from "@effect/platform"
import { Effect, Layer, type Scope } from "effect"

export interface SeenRequest {
  readonly method: string
  /** As it came, still encoded. */
  readonly path: string
  readonly query: string
  readonly headers: { readonly [name: string]: string | ReadonlyArray<string> | undefined }
  readonly text: string
  /** The body as JSON; `undefined` when it is none. */
  readonly body: any
}

export interface Scripted {
  readonly status?: number
  readonly headers?: { readonly [name: string]: string }
  /** A string is sent as it is, anything else as JSON. */
  readonly body?: unknown
  /** Waits before it answers. */
  readonly delayMs?: number
  /** What becomes of it: no answer, a body that never ends or breaks off, a connection that ends or a client that throws. */
  readonly fault?: "hang" | "hangInBody" | "breakOff" | "cut" | "throw"
  /** Bytes instead of an HTTP answer; only on a real server. */
  readonly raw?: string
}

interface Endpoint {
  readonly endpoint_id: string
  readonly node_id: string
  readonly registration: any
  readonly states: Array<any>
  heartbeats: number
  task_hint?: string
  retired_at?: string
}

export class FakePlatformServer {
  token = "rk_test_0123456789"
  subjectId = "node_5"
  subjectType = "agent-runtime"
  readonly requests: Array<SeenRequest> = []
  readonly endpoints = new Map<string, Endpoint>()
  readonly events: Array<any> = []
  /** Answers for the next requests, the first first; then the platform works again. */
  readonly next: Array<Scripted> = []
  /** Consulted before anything else. */
  onRequest: (request: SeenRequest) => Scripted | undefined = () => undefined
  /** Connections that are open, and those there have been; of a real server. */
  open = 0
  connections = 0
  private minted = 0

  get last(): SeenRequest {
    const request = this.requests.at(-1)
    if (request === undefined) throw new Error("no request has come")
    return request
  }

  answer(request: SeenRequest): Scripted {
    this.requests.push(request)
    return this.onRequest(request) ?? this.next.shift() ?? this.works(request)
  }

  private works({ body, headers, method, path, query }: SeenRequest): Scripted {
    if (headers.authorization !== `Bearer ${this.token}`) return refusal(401, "unauthorized", "The token is not known.")
    const route = `${method} ${path.replace(/^(\/v1\/runtime-endpoints\/)[^/]+/, "$1:id")}`
    const id = decodeURIComponent(/^\/v1\/runtime-endpoints\/([^/]+)/.exec(path)?.[1] ?? "")
    const endpoint = this.endpoints.get(id)
    switch (route) {
      case "GET /v1/whoami":
        return { body: { subjectId: this.subjectId, subjectType: this.subjectType, ownerUserId: "user_1" } }
      case "POST /v1/runtime-endpoints":
        return { status: 201, body: this.register(body) }
      case "POST /v1/runtime/undispatched-changed":
      case "POST /v1/runtime/network-presence-changed":
        this.events.push(body)
        return { status: 204 }
    }
    if (!route.includes(":id")) return refusal(404, "not_found", "No such route.")
    if (endpoint === undefined) return refusal(404, "endpoint_unknown", "No such endpoint.")
    switch (route) {
      case "POST /v1/runtime-endpoints/:id/heartbeat":
        if (endpoint.retired_at !== undefined) return refusal(404, "endpoint_unknown", "It was retired.")
        endpoint.heartbeats++
        return { body: { ok: true } }
      case "POST /v1/runtime-endpoints/:id/state":
        endpoint.states.push(body)
        return { body: {} }
      case "POST /v1/runtime-endpoints/:id/display-metadata":
        endpoint.task_hint = body.task_hint
        return { status: 204 }
      case "DELETE /v1/runtime-endpoints/:id":
        endpoint.retired_at ??= "2031-03-04T09:00:00Z"
        return { body: {} }
      case "GET /v1/runtime-endpoints/:id": {
        if (query !== `as=${this.subjectId}`) return refusal(404, "endpoint_unknown", "Not yours.")
        const { registration, states, ...view } = endpoint
        return { body: { ...registration, ...view, is_self: true } }
      }
      default:
        return refusal(405, "method_not_allowed", "No such method.")
    }
  }

  private register(registration: any) {
    const known = [...this.endpoints.values()].find(
      (endpoint) => endpoint.registration.endpoint_nonce === registration.endpoint_nonce
    )
    const endpoint = known ?? {
      endpoint_id: `ep_${++this.minted}`,
      node_id: this.subjectId,
      registration,
      states: [],
      heartbeats: 0
    }
    this.endpoints.set(endpoint.endpoint_id, endpoint)
    return {
      endpoint_id: endpoint.endpoint_id,
      node_id: endpoint.node_id,
      display_label: registration.display_label,
      heartbeat_after_seconds: 30,
      lease_ttl_seconds: 90,
      soft_retention_seconds: 86_400,
      registered_at: "2031-03-04T08:00:00Z"
    }
  }

  /** Starts a server on a port of its own; the answer is its origin. */
  readonly listen: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
    Effect.async<{ readonly origin: string; readonly close: () => void }>((resume) => {
      const server = createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk) => chunks.push(chunk))
        request.on("end", () => {
          const scripted = this.answer(
            seen(request.method ?? "", request.url ?? "", request.headers, Buffer.concat(chunks).toString())
          )
          if (scripted.delayMs === undefined) write(response, scripted)
          else setTimeout(() => write(response, scripted), scripted.delayMs)
        })
        request.on("error", () => undefined)
        response.on("error", () => undefined)
      })
      server.on("connection", (socket) => {
        this.open++
        this.connections++
        socket.on("error", () => undefined)
        socket.on("close", () => this.open--)
      })
      server.listen(0, "127.0.0.1", () => {
        const close = () => {
          server.close()
          server.closeAllConnections()
        }
        resume(Effect.succeed({ origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  ).pipe(Effect.map(({ origin }) => origin))

  /** The same without sockets. */
  readonly client: Layer.Layer<HttpClient.HttpClient> = Layer.succeed(
    HttpClient.HttpClient,
    HttpClient.make((request, url) => {
      const body = request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : ""
      const scripted = this.answer(seen(request.method, url.pathname + url.search, request.headers, body))
      const headers = { "content-type": "application/json", ...scripted.headers }
      const broken = new Error("broken off")
      const source = {
        status: scripted.status ?? 200,
        headers: Object.entries(headers),
        text: (): Promise<string> =>
          scripted.fault === "hangInBody"
            ? new Promise(() => undefined)
            : scripted.fault === "breakOff"
              ? Promise.reject(broken)
              : Promise.resolve(textOf(scripted.body))
      }
      const response = Effect.sync(() => HttpClientResponse.fromWeb(request, source as unknown as Response))
      switch (scripted.fault) {
        case "throw":
          throw new TypeError(`Invalid character in header content: ${request.headers.authorization}`)
        case "cut":
          return new HttpClientError.RequestError({
            request,
            reason: "Transport",
            cause: Object.assign(new Error(`reset ${request.headers.authorization}`), { code: "ECONNRESET" })
          })
        case "hang":
          return Effect.never
        default:
          return scripted.delayMs === undefined ? response : Effect.delay(response, scripted.delayMs)
      }
    })
  )
}

export const refusal = (status: number, error: string, message: string): Scripted => ({
  status,
  body: { error, message }
})

const textOf = (body: unknown): string =>
  typeof body === "string" ? body : body === undefined ? "" : JSON.stringify(body)

const seen = (method: string, url: string, headers: SeenRequest["headers"], text: string): SeenRequest => {
  const [path = "", query = ""] = url.split("?")
  let body: any
  try {
    body = JSON.parse(text)
  } catch {
    body = undefined
  }
  return { method, path, query, headers, text, body }
}

const write = (response: ServerResponse, { body, fault, headers, raw, status = 200 }: Scripted): void => {
  const { socket } = response
  if (socket === null || socket.destroyed || fault === "hang") return
  if (raw !== undefined) {
    socket.end(raw, "latin1")
    return
  }
  if (fault === "cut" || fault === "throw") {
    socket.resetAndDestroy()
    return
  }
  const text = textOf(body)
  const isPart = fault === "hangInBody" || fault === "breakOff"
  try {
    response.writeHead(status, {
      "content-type": "application/json",
      ...(isPart ? { "content-length": String(Buffer.byteLength(text) + 10) } : {}),
      ...headers
    })
    response.write(text)
  } catch {
    // Not all that is scripted can be written as HTTP.
    socket.destroy()
    return
  }
  if (fault === "breakOff") setTimeout(() => socket.resetAndDestroy(), 5)
  else if (fault === undefined) response.end()
}
