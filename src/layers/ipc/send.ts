/**
 * `POST /v1/send`: one function for the platform's route, for the direct one and for `stream_send_v1`. Sending is what plugins do most, and the
 * platform's way from a request to a handler and back costs more than the rest of it; see `docs/decisions`.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { Cause, Effect, Exit, ParseResult, Runtime, Schema } from "effect"
import { Directory } from "../../services/Directory.js"
import { EventLog } from "../../services/EventLog.js"
import { CallerHeaders } from "../../services/ipc/Fields.js"
import { type SendQueued, SendRequest, type SendResponse } from "../../services/ipc/MessageGroup.js"
import { bodyOf, UnknownEndpoint } from "../../services/model/Errors.js"
import type { Caller } from "../../services/model/Ownership.js"
import { Sender } from "../../services/Sender.js"
import { callerOf, ownEndpoint } from "./caller.js"
import { type AnyRefusal, answer, decodeRefusal, fault, isRefusal, refuse, statusOf } from "./refusals.js"

/** Sends as the endpoint the request names, for a caller that may. */
export const makeSend = Effect.gen(function* () {
  const sender = yield* Sender
  const directory = yield* Directory
  return (caller: Caller, request: typeof SendRequest.Type) =>
    ownEndpoint(
      directory.unsafeGet(request.endpoint_id),
      request.endpoint_id,
      caller,
      (message) => new UnknownEndpoint({ message })
    ).pipe(
      Effect.flatMap((endpoint) =>
        sender.send(endpoint, {
          to: request.to,
          content: request.content,
          contentType: request.contentType ?? "text",
          metadata: request.metadata ?? {},
          requireLive: request.require_live ?? false,
          idempotencyKey: request.idempotency_key ?? undefined,
          store: request.store ?? false
        })
      ),
      Effect.map(({ messageId, replyResolved, status }): typeof SendResponse.Type | typeof SendQueued.Type => {
        const reply = replyResolved === undefined ? {} : { reply_resolved: replyResolved }
        return status === "queued" ? { messageId, status, ...reply } : { messageId, status, ...reply }
      })
    )
})

export const sendPath = "/v1/send"

/** Sends in a fiber of its own, and calls `answered` once with status and body. */
export const makeAnsweredSend = Effect.gen(function* () {
  const send = yield* makeSend
  const log = yield* EventLog
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())

  return (
    caller: Caller,
    request: typeof SendRequest.Type,
    answered: (status: number, body: unknown) => void
  ): void => {
    const refuse = (refusal: AnyRefusal) => answered(statusOf(refusal), bodyOf(refusal))
    runFork(send(caller, request)).addObserver((exit) => {
      if (Exit.isSuccess(exit)) return answered(exit.value.status === "queued" ? 202 : 200, exit.value)
      const error = Cause.squash(exit.cause)
      if (isRefusal(error)) return refuse(error)
      log.unsafeLog("error", "ipc_route_error", { path: sendPath, cause: Cause.pretty(exit.cause) })
      refuse(fault())
    })
  }
})

const decodeHeaders = Schema.decodeUnknownEither(CallerHeaders)
const decodeRequest = Schema.decodeUnknownEither(SendRequest)

/** The route on the node server itself: an admitted request, and its body as JSON. */
export const makeDirectSend = Effect.map(
  makeAnsweredSend,
  (send) => (request: IncomingMessage, response: ServerResponse, json: unknown) => {
    const headers = decodeHeaders(request.headers)
    if (headers._tag === "Left") {
      return refuse(request, response, decodeRefusal(ParseResult.ArrayFormatter.formatErrorSync(headers.left)))
    }
    const body = decodeRequest(json)
    if (body._tag === "Left") {
      return refuse(request, response, decodeRefusal(ParseResult.ArrayFormatter.formatErrorSync(body.left)))
    }
    send(callerOf(headers.right), body.right, (status, what) => answer(response, status, what))
  }
)
