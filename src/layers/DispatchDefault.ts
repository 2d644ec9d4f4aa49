/** Moves undispatched messages to mailboxes. */
import { Effect, Layer } from "effect"
import { Directory } from "../services/Directory.js"
import { Dispatch } from "../services/Dispatch.js"
import { Emitters } from "../services/Emitters.js"
import { EventLog } from "../services/EventLog.js"
import { Inbox } from "../services/Inbox.js"
import { Mailboxes } from "../services/Mailboxes.js"
import { DispatchFailed, type StoreUnavailable } from "../services/model/Errors.js"
import { stampDispatched, text } from "../services/model/Metadata.js"
import { ReplyCorrelations } from "../services/ReplyCorrelations.js"
import { Store, Transaction } from "../services/Store.js"
import { storeCommits } from "./internal/storeChecks.js"

export const layer: Layer.Layer<
  Dispatch,
  never,
  Inbox | Directory | Mailboxes | ReplyCorrelations | Emitters | Store | EventLog
> = Layer.effect(
  Dispatch,
  Effect.gen(function* () {
    const inbox = yield* Inbox
    const directory = yield* Directory
    const mailboxes = yield* Mailboxes
    const replies = yield* ReplyCorrelations
    const emitters = yield* Emitters
    const store = yield* Store
    const log = yield* EventLog

    const unsafeDispatch: Dispatch["Type"]["unsafeDispatch"] = (transaction, undispatchedId, targetEndpointId) => {
      if (!inbox.unsafeHas(undispatchedId)) {
        return new DispatchFailed({ message: `unknown undispatched_id: ${undispatchedId}` })
      }
      const target = directory.unsafeGet(targetEndpointId)
      if (target === undefined) {
        return new DispatchFailed({ message: `target endpoint not found: ${targetEndpointId}` })
      }
      const taken = inbox.unsafeTake(transaction, undispatchedId)
      if (taken === undefined) {
        return new DispatchFailed({
          message: `the record of ${undispatchedId} is damaged; the next start of the broker sets it aside`
        })
      }
      const message = { ...taken.message, metadata: stampDispatched(taken.message.metadata, undispatchedId) }
      mailboxes.unsafeDeliver(transaction, target.key, { message, token: undefined, kind: "moved" })
      const correlationId = text(message.metadata, "correlation_id")
      if (correlationId !== undefined) replies.unsafeRecord(transaction, target.key, correlationId)
      emitters.unsafeDispatched(transaction, undispatchedId, target.id)
      log.unsafeLog("info", "undispatched_dispatched", { undispatched_id: undispatchedId, endpoint_id: target.id })
      return undefined
    }

    return {
      unsafeDispatch,
      dispatch: (undispatchedId, targetEndpointId) =>
        Effect.zipRight(
          storeCommits(store),
          Effect.suspend((): Effect.Effect<void, DispatchFailed | StoreUnavailable> => {
            const transaction = new Transaction()
            return (
              unsafeDispatch(transaction, undispatchedId, targetEndpointId) ?? store.unsafeCommitWithin(transaction)
            )
          })
        )
    }
  })
)
