/** Events for the owner as entries of the Outbox. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Emitters } from "../services/Emitters.js"
import { firstCodePoints } from "../services/model/Message.js"
import { text } from "../services/model/Metadata.js"
import type { UndispatchedChanged } from "../services/model/PlatformReport.js"
import { Outbox } from "../services/Outbox.js"
import type { Transaction } from "../services/Store.js"

export const layer: Layer.Layer<Emitters, never, Outbox | BrokerConfig> = Layer.effect(
  Emitters,
  Effect.gen(function* () {
    const { previewCodePoints } = yield* BrokerConfig
    const outbox = yield* Outbox
    const clock = yield* Effect.clock

    const undispatched = (
      transaction: Transaction,
      id: string,
      event: Omit<UndispatchedChanged, "type" | "version" | "undispatched_id">
    ) =>
      outbox.unsafeAdd(transaction, {
        _tag: "UndispatchedChanged",
        event: { type: "undispatched_changed", version: 1, undispatched_id: id, ...event }
      })

    return {
      unsafeAdded: (transaction, { message, originalTarget, reason }) => {
        const inReplyTo = text(message.metadata, "correlation_id")
        const traceparent = text(message.metadata, "traceparent")
        undispatched(transaction, message.id, {
          action: "add",
          sender_address: message.from,
          content_preview: firstCodePoints(message.content, previewCodePoints),
          reason: reason === "unaddressed" ? "no_target_endpoint" : reason,
          ...(originalTarget === undefined ? {} : { target_endpoint_id_hint: originalTarget }),
          ...(inReplyTo === undefined ? {} : { in_reply_to: inReplyTo }),
          arrived_at: message.arrivedAt,
          source_message_id: message.id,
          ...(traceparent === undefined ? {} : { traceparent })
        })
      },
      unsafeDispatched: (transaction, id, endpointId) =>
        undispatched(transaction, id, { action: "dispatch", dispatched_to_endpoint_id: endpointId }),
      unsafeRemoved: (transaction, id, reason) =>
        undispatched(transaction, id, { action: "remove", remove_reason: reason }),
      unsafePresence: (transaction, state, reason) =>
        outbox.unsafeAdd(transaction, {
          _tag: "NetworkPresenceChanged",
          event: {
            type: "network_presence_changed",
            version: 1,
            state,
            ts: clock.unsafeCurrentTimeMillis(),
            reason
          }
        }),
      unsafeTaskHint: (transaction, endpointId, taskHint) =>
        outbox.unsafeAdd(transaction, { _tag: "DisplayMetadata", endpointId, taskHint })
    }
  })
)
