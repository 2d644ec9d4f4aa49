/**
 * HTTP and WebSocket on one node server on 127.0.0.1. Its door admits or refuses every request and reads its body; behind it
 * the platform's HttpApi serves the routes, and `ipc/stream` the plugin channels.
 */
import { createServer, type Server, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import type { Duplex } from "node:stream"
import { Etag, HttpApiBuilder, HttpRouter, HttpServerRequest } from "@effect/platform"
import { NodeFileSystem, NodeHttpPlatform, NodeHttpServer, NodePath } from "@effect/platform-node"
import type { Scope } from "effect"
import { Data, Effect, Layer, Redacted } from "effect"
import { BrokerConfig, type Settings } from "../services/BrokerConfig.js"
import { EventLog } from "../services/EventLog.js"
import { IpcServer } from "../services/IpcServer.js"
import { IpcTokens } from "../services/IpcTokens.js"
import { IpcApi } from "../services/ipc/IpcApi.js"
import { Limits } from "../services/Limits.js"
import { BadRequest, BrokerBusy, bodyOf, RequestTimeout } from "../services/model/Errors.js"
import { Shutdown } from "../services/Shutdown.js"
import { inOrder } from "./inOrder.js"
import { tokenMatcher } from "./internal/tokens.js"
import { type AdmissionRules, admit } from "./ipc/admission.js"
import { parseBody, readBody, TooDeep } from "./ipc/body.js"
import * as DeadLetterHandlers from "./ipc/DeadLetterHandlers.js"
import * as EndpointHandlers from "./ipc/EndpointHandlers.js"
import * as HealthHandlers from "./ipc/HealthHandlers.js"
import * as MessageHandlers from "./ipc/MessageHandlers.js"
import * as OperatorHandlers from "./ipc/OperatorHandlers.js"
import { Request } from "./ipc/Request.js"
import { Room } from "./ipc/Room.js"
import { answer, answerRefusals, endWith, leaving, letGo, refuse, refuseUpgrade, statusOf } from "./ipc/refusals.js"
import { asRead, authorizedLayer, remember } from "./ipc/requests.js"
import { ipcRoutes } from "./ipc/routes.js"
import * as StoreHandlers from "./ipc/StoreHandlers.js"
import { makeDirectSend, sendPath } from "./ipc/send.js"
import { makeStream } from "./ipc/stream.js"
import { Unanswered } from "./ipc/Unanswered.js"

/** The port could not be taken. */
export class ListenError extends Data.TaggedError("ListenError")<{ readonly message: string }> {}

const routes = inOrder(
  // What a platform's handler may ask for; without the rest of its context, which takes time at each start.
  NodePath.layer,
  NodeFileSystem.layer,
  Etag.layerWeak,
  NodeHttpPlatform.layer,
  HttpApiBuilder.Router.Live,
  HttpApiBuilder.Middleware.layer,
  authorizedLayer,
  HealthHandlers.layer,
  EndpointHandlers.layer,
  MessageHandlers.layer,
  OperatorHandlers.layer,
  DeadLetterHandlers.layer,
  StoreHandlers.layer,
  HttpApiBuilder.api(IpcApi),
  HttpApiBuilder.middleware(Effect.map(EventLog, (log) => answerRefusals(log)))
)

/** Of the bodies of each connection's requests, so much is read in any case. */
const smallBytes = 16 * 1024
/** How long requests in flight may take to end once the broker is otherwise gone. */
const longestEndMs = 500

const listen = (config: Settings): Effect.Effect<Server, ListenError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Server, ListenError>((resume) => {
      const server = createServer({
        IncomingMessage: Request,
        // Admission refuses a request without it in the broker's words.
        requireHostHeader: false,
        headersTimeout: config.headersMs,
        requestTimeout: config.bodyMs,
        keepAliveTimeout: config.keepAliveMs,
        connectionsCheckingInterval: Math.min(1_000, config.headersMs)
      })
      server.maxConnections = config.sockets
      server.timeout = config.unreadMs
      // A client that says no more still wants its answers. Not among the documented options.
      Object.assign(server, { httpAllowHalfOpen: true })
      server.once("error", (error) =>
        resume(
          new ListenError({
            message: `Port ${config.port} on 127.0.0.1 cannot be used: ${error.message}. Choose another with --port or MASONS_BROKER_PORT, or 0 for any.`
          })
        )
      )
      server.listen({ host: "127.0.0.1", port: config.port }, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeIdleConnections()
      }).pipe(
        Effect.interruptible,
        Effect.timeoutOption(Math.min(config.leaveMs / 5, longestEndMs)),
        Effect.zipRight(Effect.sync(() => server.closeAllConnections()))
      )
  )

export const layer = Layer.scoped(
  IpcServer,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const tokens = yield* IpcTokens
    const shutdown = yield* Shutdown
    const log = yield* EventLog
    const limits = yield* Limits

    // First, so that it is released last: its end waits for connections that only the parts below close.
    const server = yield* listen(config)
    const { port } = server.address() as AddressInfo
    const rules: AdmissionRules = {
      port,
      isPluginToken: tokenMatcher(Redacted.value(tokens.plugin)),
      isOperatorToken: tokenMatcher(Redacted.value(tokens.operator))
    }

    // An id may be as long as a path; the platform's router would take 100 characters.
    const app = yield* HttpRouter.withRouterConfig(HttpApiBuilder.httpApp, { maxParamLength: Number.POSITIVE_INFINITY })
    const serveRoute = yield* NodeHttpServer.makeHandler(
      Effect.updateService(app, HttpServerRequest.HttpServerRequest, asRead)
    )
    const stream = yield* makeStream(rules)
    const send = yield* makeDirectSend

    const unanswered = new Unanswered(config.requests)
    const bodies = new Room(config.requestBytes, smallBytes)

    /** Connections that end with the answer that is under way. */
    const ending = new WeakSet<Socket>()

    const onRequest = (request: Request, response: ServerResponse<Request>) => {
      if (ending.has(request.socket)) return
      if (request.isOffer) {
        ending.add(request.socket)
        response.setHeader("connection", "close")
      }
      if (!unanswered.begin(request, response)) {
        limits.unsafeHit("requests")
        return refuse(request, response, new BrokerBusy({ message: tooManyRequests, retryable: true }))
      }
      const admission = admit(request, rules, ipcRoutes)
      if ("_tag" in admission) return refuse(request, response, admission)
      if (shutdown.unsafeIsLeaving() && request.method !== "GET") {
        return refuse(request, response, leaving())
      }
      const serve = (json: unknown) => {
        remember(request, { ...admission, json })
        serveRoute(request, answersAtOnce(response))
      }
      if (request.method === "GET" || request.method === "HEAD") return serve({})
      readBody(request, response, config, bodies).then(
        (read) => {
          const body = "_tag" in read ? read : parseBody(read, config)
          if ("_tag" in body) {
            if (body._tag === "body_too_large") limits.unsafeHit("body_bytes")
            if (body._tag === "broker_busy") limits.unsafeHit("request_bytes")
            if (body instanceof TooDeep) limits.unsafeHit("json_depth")
            return refuse(request, response, body)
          }
          return admission.target === sendPath ? send(request, response, body.json) : serve(body.json)
        },
        () => undefined
      )
    }

    const onContinue = (request: Request, response: ServerResponse<Request>) => {
      // One that waits behind other requests of its connection has no socket yet, and node would mix up the two answers.
      if (response.socket !== null) response.writeContinue()
      onRequest(request, response)
    }

    const onConnection = (socket: Socket) => {
      limits.unsafeConnected()
      // What is not whole by then will never be; of some of these node says nothing.
      socket.once("end", () => {
        if (unanswered.incomplete(socket) !== undefined) onClientError({ code: cutShort }, socket)
      })
      socket.once("close", () => {
        limits.unsafeDisconnected()
        unanswered.ended(socket)
        bodies.giveAll(socket)
      })
    }

    /** Also of CONNECT, which no stream answers to. */
    const onUpgrade = (request: Request, socket: Duplex, head: Buffer) => {
      // Node no longer listens: a reset must find somebody who does.
      socket.on("error", () => socket.destroy())
      if (unanswered.of(socket) === undefined) return stream(request, socket, head)
      // Nor does it tell the answers that are not written when to go on.
      request.socket.setTimeout(config.bodyMs, () => socket.destroy())
      unanswered.whenOver(socket, () => refuseUpgrade(socket, new BadRequest({ message: tooEarly })))
    }

    /** A connection on which nothing has moved: it waits for its client, or for the broker. */
    const onTimeout = (socket: Socket) => {
      if (unanswered.of(socket) === undefined) {
        socket.destroy()
        return
      }
      if (socket.writableLength === 0) return
      limits.unsafeHit("unread_answers")
      socket.destroy()
    }

    const broken = new WeakSet<Socket>()
    /** What is no HTTP, too slow or too large in its headers. */
    const onClientError = (error: Pick<NodeJS.ErrnoException, "code">, socket: Socket) => {
      // Answered before, and what else it says is no request either: it is cut off in a moment.
      if (socket.writableEnded || broken.has(socket)) return
      if (!socket.writable) {
        socket.destroy()
        return
      }
      broken.add(socket)
      if (error.code === requestTimeout) limits.unsafeHit("slow_requests")
      const { refusal, status } = refusalOf(error)
      const incomplete = unanswered.incomplete(socket)
      if (incomplete === undefined) {
        return unanswered.whenOver(socket, () => endWith(socket, status, bodyOf(refusal)))
      }
      // The body of the last request is what is wrong: the answer stands where it stood, unless there is one, or it has begun.
      if (!incomplete.headersSent) answer(incomplete, status, bodyOf(refusal))
      unanswered.whenOver(socket, () => letGo(socket))
    }

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        server.on("connection", onConnection)
        server.on("drop", () => limits.unsafeHit("sockets"))
        server.on("request", onRequest)
        // A request that expects what nobody knows is served as any other.
        server.on("checkExpectation", onRequest)
        server.on("checkContinue", onContinue)
        server.on("upgrade", onUpgrade)
        server.on("connect", onUpgrade)
        server.on("clientError", onClientError)
        server.on("timeout", onTimeout)
      }),
      () =>
        Effect.sync(() => {
          server.off("request", onRequest)
          server.off("checkExpectation", onRequest)
          server.off("checkContinue", onContinue)
          server.off("upgrade", onUpgrade)
          server.off("connect", onUpgrade)
        })
    )
    log.unsafeLog("info", "ipc_server_listening", { port })
    return { port, url: `http://127.0.0.1:${port}` }
  })
).pipe(Layer.provide(routes))

const tooEarly = "A stream is opened once all requests before it on its connection are answered."
const tooManyRequests = "Too many requests are not answered yet; try again a little later."
/** As node's parser says it. */
const cutShort = "HPE_INVALID_EOF_STATE"
const requestTimeout = "ERR_HTTP_REQUEST_TIMEOUT"

/**
 * The platform keeps a request, with all that belongs to it, until its answer has left. That moment never comes for a client
 * that is gone: here a request is over when its answer was handed to node.
 */
const answersAtOnce = (response: ServerResponse): ServerResponse => {
  const end = response.end.bind(response) as (...args: ReadonlyArray<unknown>) => ServerResponse
  response.end = (...args: ReadonlyArray<unknown>) => {
    end(...args.filter((arg) => typeof arg !== "function"))
    for (const arg of args) if (typeof arg === "function") arg()
    return response
  }
  return response
}

const refusalOf = ({ code }: Pick<NodeJS.ErrnoException, "code">) => {
  const message = `This is no request the broker understands (${code}).`
  const refusal = code === requestTimeout ? new RequestTimeout({ message }) : new BadRequest({ message })
  return { refusal, status: code === "HPE_HEADER_OVERFLOW" ? 431 : statusOf(refusal) }
}
