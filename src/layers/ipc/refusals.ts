/** How refusals leave the server, from its door and from its routes. */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import type { HttpApiError, HttpApp } from "@effect/platform"
import { HttpBody, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Cause, Effect } from "effect"
import type { EventLog } from "../../services/EventLog.js"
import { refusedAs } from "../../services/ipc/Fields.js"
import * as Errors from "../../services/model/Errors.js"
import { drain } from "./body.js"

export interface AnyRefusal {
  readonly _tag: string
  readonly message: string
}

/** Of every answer in JSON. */
export const contentType = "application/json; charset=utf-8"
/** What a refused client may still send before it is cut off. */
const drainBytes = 16 * 1024 * 1024
/** How long a client that is told to go may take to do so. */
const lingerMs = 1_000

/** Its class says; what the platform refused has a status of its own. */
export const statusOf = (refusal: AnyRefusal): number =>
  refusal instanceof Errors.PlatformRefused
    ? refusal.status
    : (refusal.constructor as unknown as { status: number }).status

export const isRefusal = (error: unknown): error is AnyRefusal =>
  typeof error === "object" && error !== null && typeof statusOf(error as AnyRefusal) === "number"

/** Answers a request of the node server. */
export const answer = (response: ServerResponse, status: number, json: unknown): void => {
  const body = Buffer.from(JSON.stringify(json))
  response.writeHead(status, { "content-type": contentType, "content-length": body.length })
  response.end(body)
}

/** Answers at the door. */
export const refuse = (request: IncomingMessage, response: ServerResponse, refusal: AnyRefusal): void => {
  answer(response, statusOf(refusal), Errors.bodyOf(refusal))
  if (!request.readableEnded) drain(request, drainBytes)
}

/** Answers an upgrade with a plain response and ends the connection. `retryAfterMs` is what it says of when to come again. */
export const refuseUpgrade = (socket: Duplex, refusal: AnyRefusal, retryAfterMs?: number): void =>
  endWith(
    socket,
    statusOf(refusal),
    Errors.bodyOf(refusal),
    retryAfterMs === undefined ? "" : `Retry-After: ${Math.ceil(retryAfterMs / 1_000)}\r\n`
  )

/** Writes a whole response to a bare socket and ends the connection, unless that is ended. */
export const endWith = (socket: Duplex, status: number, json: unknown, headers = ""): void => {
  if (socket.writableEnded) return
  const body = JSON.stringify(json)
  socket.write(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: ${contentType}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`
  )
  letGo(socket)
}

/** Ends the connection, also when the client keeps its side open. */
export const letGo = (socket: Duplex): void => {
  socket.end()
  // Cut off at once, a client that is still speaking would see a reset and not the answer.
  socket.resume()
  const cutOff = setTimeout(() => socket.destroy(), lingerMs).unref()
  socket.once("close", () => clearTimeout(cutOff))
}

/** For new work while the broker leaves. */
export const leaving = (): AnyRefusal =>
  new Errors.BrokerDraining({ message: "The broker is leaving and takes no new work.", retryable: true })

/** For what should not have happened; the log has it. */
export const fault = (): AnyRefusal =>
  new Errors.InternalError({ message: "The broker made a mistake; its log says more." })

const respond = (refusal: AnyRefusal) =>
  HttpServerResponse.unsafeJson(Errors.bodyOf(refusal), { status: statusOf(refusal) })

/** Turns everything that is not an answer into one: refusals, bodies of the wrong shape, faults. */
export const answerRefusals =
  (log: EventLog["Type"]) =>
  (app: HttpApp.Default<unknown>): HttpApp.Default =>
    app.pipe(
      Effect.catchAllCause((cause) =>
        Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
          if (Cause.isInterruptedOnly(cause)) return HttpServerResponse.empty({ status: 499 })
          const error = Cause.squash(cause)
          if (isRefusal(error)) return respond(error)
          if ((error as AnyRefusal | undefined)?._tag === "HttpApiDecodeError") {
            return respond(decodeRefusal((error as HttpApiError.HttpApiDecodeError).issues))
          }
          log.unsafeLog("error", "ipc_route_error", { path: request.url, cause: Cause.pretty(cause) })
          return respond(fault())
        })
      ),
      Effect.map(withCharset)
    )

/** The platform says `application/json`; the wire of this surface has always named the charset. */
const withCharset = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse =>
  response.body._tag === "Uint8Array"
    ? HttpServerResponse.setBody(response, HttpBody.uint8Array(response.body.body, contentType))
    : response

const byCode: { readonly [code: string]: new (props: { readonly message: string }) => AnyRefusal } = {
  plugin_pid_invalid: Errors.PluginPidInvalid,
  task_hint_invalid: Errors.TaskHintInvalid,
  dispatch_body_invalid: Errors.DispatchBodyInvalid
}

/** Names the field and what it must be. The value is not repeated: it may be a message or a token. */
export const decodeRefusal = (issues: HttpApiError.HttpApiDecodeError["issues"]): AnyRefusal => {
  const issue = issues[0]
  const path = issue?.path.map(String) ?? []
  const subject = path.length === 0 ? "The body" : `"${path.join(".")}"`
  const expected = /^Expected (.*), actual /s.exec(issue?.message ?? "")?.[1] ?? ""
  const message =
    issue?._tag === "Missing"
      ? `${subject} is missing.`
      : `${subject} must be ${path.length === 0 ? "an object" : wordsFor(expected)}.`
  const Refusal = byCode[refusedAs[path[0] ?? ""] ?? ""] ?? Errors.BadRequest
  return new Refusal({ message })
}

/** What a schema expects, for those who write JSON. */
const wordsFor = (expected: string): string => words[expected] ?? (isPlain(expected) ? expected : unspoken)

const words: { readonly [expected: string]: string } = {
  string: "a string",
  number: "a number",
  boolean: "true or false",
  NonEmptyString: "a string that is not empty",
  "a non empty string": "a string that is not empty",
  PluginPid: "a whole number above 0",
  PluginPidHeader: "a whole number above 0",
  Nonce: "32 to 128 hex digits"
}
const unspoken = "of another form; see /openapi.json"
/** Not a type of the language behind. */
const isPlain = (expected: string) => /^[\w\s",.]+$/.test(expected)
