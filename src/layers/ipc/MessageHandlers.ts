/** Sending, and the undispatched inbox. */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { Directory } from "../../services/Directory.js"
import { Dispatch } from "../../services/Dispatch.js"
import { Inbox, type UndispatchedItem } from "../../services/Inbox.js"
import { Admitted } from "../../services/ipc/Auth.js"
import { IpcApi } from "../../services/ipc/IpcApi.js"
import { DispatchNotAllowed, UnknownEndpoint } from "../../services/model/Errors.js"
import { text } from "../../services/model/Metadata.js"
import { Sender } from "../../services/Sender.js"
import { callerOf, ownEndpoint } from "./caller.js"

const unknown = (message: string) => new UnknownEndpoint({ message })

const onWire = ({ message, originalTarget, reason }: UndispatchedItem) => {
  const correlationId = text(message.metadata, "correlation_id")
  return {
    id: message.id,
    arrived_at: new Date(message.arrivedAt).toISOString(),
    sender_address: message.from,
    content: message.content,
    content_type: message.contentType,
    metadata: message.metadata,
    reason,
    ...(originalTarget === undefined ? {} : { original_target_endpoint_id: originalTarget }),
    ...(correlationId === undefined ? {} : { original_correlation_id: correlationId }),
    source_message_id: message.id
  }
}

export const layer = HttpApiBuilder.group(IpcApi, "messages", (handlers) =>
  Effect.gen(function* () {
    const { pluginsMayDispatch } = yield* BrokerConfig
    const sender = yield* Sender
    const inbox = yield* Inbox
    const dispatch = yield* Dispatch
    const directory = yield* Directory

    return handlers
      .handle(
        "send",
        ({ headers, payload }) =>
          Effect.gen(function* () {
            const endpoint = yield* ownEndpoint(
              directory.unsafeGet(payload.endpoint_id),
              payload.endpoint_id,
              callerOf(headers),
              unknown
            )
            const { messageId, replyResolved, status } = yield* sender.send(endpoint, {
              to: payload.to,
              content: payload.content,
              contentType: payload.contentType ?? "text",
              metadata: payload.metadata ?? {},
              requireLive: payload.require_live ?? false
            })
            return { messageId, status, ...(replyResolved === undefined ? {} : { reply_resolved: replyResolved }) }
          }),
        { uninterruptible: true }
      )
      .handle("undispatched", () => Effect.sync(() => ({ items: inbox.unsafeList().map(onWire) })))
      .handle(
        "dispatch",
        ({ payload }) =>
          Effect.gen(function* () {
            const { role } = yield* Admitted
            if (!pluginsMayDispatch && role !== "operator") {
              return yield* new DispatchNotAllowed({
                message: "On this broker only the operator hands undispatched messages to endpoints."
              })
            }
            yield* dispatch.dispatch(payload.undispatched_id, payload.target_endpoint_id)
            return { ok: true as const }
          }),
        { uninterruptible: true }
      )
  })
)
