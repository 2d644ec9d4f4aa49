/** Sending, and the undispatched inbox. */
import { HttpApiBuilder } from "@effect/platform"
import { Effect, Schema } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { Dispatch } from "../../services/Dispatch.js"
import { Inbox, type UndispatchedItem } from "../../services/Inbox.js"
import { Admitted } from "../../services/ipc/Auth.js"
import { IpcApi } from "../../services/ipc/IpcApi.js"
import { UndispatchedMessage, type UndispatchedPage } from "../../services/ipc/MessageGroup.js"
import { Limits } from "../../services/Limits.js"
import { DispatchNotAllowed } from "../../services/model/Errors.js"
import { text } from "../../services/model/Metadata.js"
import { callerOf } from "./caller.js"
import { makeListings } from "./listings.js"
import { makeSend } from "./send.js"

const encoded = Schema.encodeSync(UndispatchedMessage)

const onWire = ({ message, originalTarget, reason }: UndispatchedItem) => {
  const correlationId = text(message.metadata, "correlation_id")
  return encoded({
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
  })
}

/** So many at most; where more are behind them, it returns the place of the last. */
function* page(inbox: Inbox["Type"], after = 0, limit = Number.POSITIVE_INFINITY) {
  let left = limit
  let last = after
  for (const item of inbox.unsafeItems(after)) {
    if (left-- === 0) return String(last)
    last = inbox.unsafePlaceOf(item.message.id) ?? last
    yield onWire(item)
  }
  return undefined
}

const numberOf = (text: string | undefined) => (text === undefined ? undefined : Number(text))

export const layer = HttpApiBuilder.group(IpcApi, "messages", (handlers) =>
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const send = yield* makeSend
    const inbox = yield* Inbox
    const dispatch = yield* Dispatch
    const listings = makeListings(config, yield* Limits)

    const listed = ({ after, limit }: typeof UndispatchedPage.Type) =>
      Effect.sync(() => page(inbox, numberOf(after), numberOf(limit)))

    return handlers
      .handle("send", ({ headers, payload }) => send(callerOf(headers), payload), { uninterruptible: true })
      .handleRaw("undispatched", ({ request, urlParams }) => listings.answer(request, listed(urlParams)))
      .handle(
        "dispatch",
        ({ payload }) =>
          Effect.gen(function* () {
            const { role } = yield* Admitted
            if (!config.pluginsMayDispatch && role !== "operator") {
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
