/**
 * `POST /v1/send`: one function for the platform's route and for the direct one. Sending is what plugins do most, and the
 * platform's way from a request to a handler and back costs more than the rest of it; see `docs/decisions`.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { Cause, Effect, Exit, ParseResult, Runtime, Schema } from "effect"
import { Directory } from "../../services/Directory.js"
import { EventLog } from "../../services/EventLog.js"
import { CallerHeaders } from "../../services/ipc/Fields.js"
import { type SendQueued, SendRequest, type SendResponse } from "../../services/ipc/MessageGroup.js"
import { InternalError, UnknownEndpoint } from "../../services/model/Errors.js"
import { Sender } from "../../services/Sender.js"
import { callerOf, ownEndpoint } from "./caller.js"
import { answer, decodeRefusal, isRefusal, refuse } from "./refusals.js"

/** Sends as the endpoint the request names, for a caller that may. */
export const makeSend = Effect.gen(function* () {
  const sender = yield* Sender
  const directory = yield* Directory
  return (headers: typeof CallerHeaders.Type, request: typeof SendRequest.Type) =>
    ownEndpoint(
      directory.unsafeGet(request.endpoint_id),
      request.endpoint_id,
      callerOf(headers),
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

const decodeHeaders = Schema.decodeUnknownEither(CallerHeaders)
const decodeRequest = Schema.decodeUnknownEither(SendRequest)

/** The route on the node server itself: an admitted request, and its body as JSON. */
export const makeDirectSend = Effect.gen(function* () {
  const send = yield* makeSend
  const log = yield* EventLog
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())

  return (request: IncomingMessage, response: ServerResponse, json: unknown) => {
    const headers = decodeHeaders(request.headers)
    if (headers._tag === "Left") {
      return refuse(request, response, decodeRefusal(ParseResult.ArrayFormatter.formatErrorSync(headers.left)))
    }
    const body = decodeRequest(json)
    if (body._tag === "Left") {
      return refuse(request, response, decodeRefusal(ParseResult.ArrayFormatter.formatErrorSync(body.left)))
    }
    runFork(send(headers.right, body.right)).addObserver((exit) => {
      if (Exit.isSuccess(exit)) return answer(response, exit.value.status === "queued" ? 202 : 200, exit.value)
      const error = Cause.squash(exit.cause)
      if (isRefusal(error)) return refuse(request, response, error)
      log.unsafeLog("error", "ipc_route_error", { path: sendPath, cause: Cause.pretty(exit.cause) })
      refuse(request, response, new InternalError({ message: "The broker made a mistake; its log says more." }))
    })
  }
})
