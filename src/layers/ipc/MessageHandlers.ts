/** Sending, and the undispatched inbox. */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { Dispatch } from "../../services/Dispatch.js"
import { Inbox, type UndispatchedItem } from "../../services/Inbox.js"
import { Admitted } from "../../services/ipc/Auth.js"
import { IpcApi } from "../../services/ipc/IpcApi.js"
import { DispatchNotAllowed } from "../../services/model/Errors.js"
import { text } from "../../services/model/Metadata.js"
import { callerOf } from "./caller.js"
import { makeSend } from "./send.js"

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
    const send = yield* makeSend
    const inbox = yield* Inbox
    const dispatch = yield* Dispatch

    return handlers
      .handle("send", ({ headers, payload }) => send(callerOf(headers), payload), { uninterruptible: true })
      .handle("undispatched", () => Effect.sync(() => ({ items: Array.from(inbox.unsafeItems(), onWire) })))
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
