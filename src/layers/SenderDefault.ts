/** Applies the rules on outbound metadata and hands messages to the connector. */
import { Cause, Effect, Exit, Layer, Option } from "effect"
import { Connector, type OutboundMessage, type SendError, SendOutcomeUnknown } from "../services/Connector.js"
import { CorrelationIndex } from "../services/CorrelationIndex.js"
import { Credentials } from "../services/Credentials.js"
import type { Endpoint } from "../services/Directory.js"
import { EventLog } from "../services/EventLog.js"
import type { IdempotencyKeys } from "../services/IdempotencyKeys.js"
import { SendRefused, SendUnavailable, SendUnknown, type StoreUnavailable } from "../services/model/Errors.js"
import type { EndpointKey } from "../services/model/Ids.js"
import { type Metadata, refuseOutbound, stampOutbound, text } from "../services/model/Metadata.js"
import { refuseAway } from "../services/model/Ownership.js"
import { ReplyCorrelations } from "../services/ReplyCorrelations.js"
import { Sender, type SendRefusal, type SendRequest, type Sent } from "../services/Sender.js"
import { SendQueue } from "../services/SendQueue.js"
import { Store, Transaction } from "../services/Store.js"
import { makeIdempotentSends, type SendIds, sentUnwritten } from "./internal/idempotentSends.js"
import { mintTrace, mintUuid } from "./internal/minting.js"
import { refuseNewMail } from "./internal/storeChecks.js"

type Receipt = Pick<Sent, "messageId" | "status">

export const layer: Layer.Layer<
  Sender,
  never,
  Connector | SendQueue | IdempotencyKeys | CorrelationIndex | ReplyCorrelations | Credentials | Store | EventLog
> = Layer.effect(
  Sender,
  Effect.gen(function* () {
    const connector = yield* Connector
    const correlations = yield* CorrelationIndex
    const replies = yield* ReplyCorrelations
    const { accountId } = yield* Credentials
    const store = yield* Store
    const log = yield* EventLog
    const sendQueue = yield* SendQueue
    const once = yield* makeIdempotentSends

    /** The id of the conversation the message answers, where the endpoint received it; else a new one. */
    const correlationFor = (endpoint: Endpoint, metadata: Metadata) => {
      const inReplyTo = text(metadata, "in_reply_to")
      if (inReplyTo === undefined) return { correlationId: mintUuid(), replyResolved: undefined }
      const resolution = replies.unsafeResolve(endpoint.key, inReplyTo)
      if (resolution === "resolved") return { correlationId: inReplyTo, replyResolved: true }
      log.unsafeLog("warn", "reply_aware_fallback", { endpoint_id: endpoint.id, reason: resolution })
      return { correlationId: mintUuid(), replyResolved: false }
    }

    /** Messages under way under an id their endpoint did not have before. */
    const underWay = new Map<string, number>()

    /**
     * Makes the id known before the message leaves, so that the quickest answer finds its way. The result is called with what
     * became of the message: where none under the id can have left, and the endpoint did not have it before, it is forgotten.
     */
    const announce = (transaction: Transaction, endpoint: EndpointKey, correlationId: string) => {
      const key = `${endpoint}/${correlationId}`
      const others = underWay.get(key)
      if (others !== undefined || !correlations.unsafeSenders(correlationId).includes(endpoint)) {
        underWay.set(key, (others ?? 0) + 1)
      }
      correlations.unsafeAdd(transaction, endpoint, correlationId)
      return (outcome: Exit.Exit<unknown, SendError | StoreUnavailable>) => {
        const count = underWay.get(key)
        if (count === undefined) return
        const isUnsent = surelyNotSent(outcome)
        if (isUnsent && count > 1) {
          underWay.set(key, count - 1)
          return
        }
        underWay.delete(key)
        if (!isUnsent) return
        const undo = new Transaction()
        correlations.unsafeRemove(undo, endpoint, correlationId)
        store.unsafeCommit(undo)
      }
    }

    /** By endpoint, how many messages wait for their key to become durable. */
    const unwritten = new Map<EndpointKey, number>()

    /**
     * True when the message must not leave before `transaction` is durable: the broker must know its key whenever it dies after
     * that, and none of the same endpoint may overtake one that waits.
     */
    const holdsBack = (transaction: Transaction, endpoint: EndpointKey, hasKey: boolean): boolean => {
      const before = unwritten.get(endpoint) ?? 0
      if (!hasKey) return before > 0
      unwritten.set(endpoint, before + 1)
      transaction.onDurable(() => {
        const left = unwritten.get(endpoint)! - 1
        if (left > 0) unwritten.set(endpoint, left)
        else unwritten.delete(endpoint)
      })
      return true
    }

    /** Keeps the message until the network can be reached. `undefined` when too many wait. */
    const enqueue = (
      endpoint: Endpoint,
      outbound: OutboundMessage
    ): Effect.Effect<Receipt, SendOutcomeUnknown> | undefined => {
      const transaction = new Transaction()
      if (!sendQueue.unsafeAdd(transaction, endpoint.key, outbound)) return undefined
      return Effect.mapBoth(store.unsafeCommitWithin(transaction), {
        onSuccess: () => ({ messageId: outbound.messageId, status: "queued" as const }),
        onFailure: () =>
          new SendOutcomeUnknown({
            messageId: outbound.messageId,
            reason: "the broker cannot write to its store that it waits for the network"
          })
      })
    }

    const deliver = (
      endpoint: Endpoint,
      outbound: OutboundMessage,
      mayWait: boolean
    ): Effect.Effect<Receipt, SendError> =>
      Effect.suspend((): Effect.Effect<Receipt, SendError> => {
        if (!mayWait) return connector.send(outbound)
        // Behind what waits already.
        const queued = sendQueue.unsafeHas(endpoint.key) ? enqueue(endpoint, outbound) : undefined
        if (queued !== undefined) return queued
        return Effect.catchTag(
          connector.send(outbound),
          "ConnectorUnavailable",
          (error): Effect.Effect<Receipt, SendError> => enqueue(endpoint, outbound) ?? error
        )
      })

    /**
     * Sends under these ids. What `transaction` holds already, and what is added to it, is handed to the store in this turn: an
     * endpoint that ends in a later one takes all of it along.
     */
    const transmit = (
      endpoint: Endpoint,
      request: SendRequest,
      {
        correlationId,
        mayBeKnown,
        messageId,
        replyResolved
      }: SendIds & { readonly replyResolved: boolean | undefined },
      transaction: Transaction
    ): Effect.Effect<Sent, SendRefusal> => {
      const concluded = announce(transaction, endpoint.key, correlationId)
      const mustWait = holdsBack(transaction, endpoint.key, request.idempotencyKey !== undefined)
      // Before it is sent: forgetting it must come after it in the store, too.
      const durable = store.unsafeCommitWithin(transaction)
      const outbound = {
        messageId,
        to: request.to,
        content: request.content,
        contentType: request.contentType,
        metadata: stampOutbound(
          request.metadata,
          { correlationId, endpointId: endpoint.id, requireLive: request.requireLive },
          mintTrace
        ),
        agent: endpoint.agent === accountId ? undefined : endpoint.agent,
        requireLive: request.requireLive,
        ...(mayBeKnown ? { mayBeKnown } : {})
      }
      return (mustWait ? durable : Effect.void).pipe(
        Effect.zipRight(deliver(endpoint, outbound, request.store)),
        Effect.onExit((outcome) => Effect.sync(() => concluded(outcome))),
        Effect.mapError(sendRefusal),
        Effect.zipLeft(Effect.mapError(durable, sentUnwritten)),
        Effect.map((receipt) => ({ ...receipt, replyResolved }))
      )
    }

    return {
      send: (endpoint, request) =>
        Effect.suspend((): Effect.Effect<Sent, SendRefusal> => {
          const refusal =
            refuseAway(endpoint) ??
            refuseOutbound(request.metadata, [endpoint.id, ...endpoint.aliases]) ??
            refuseNewMail(store)
          if (refusal !== undefined) return refusal
          const { correlationId, replyResolved } = correlationFor(endpoint, request.metadata)
          const newIds = () => ({ messageId: mintUuid(), correlationId, mayBeKnown: false })
          const send = (ids: SendIds, transaction: Transaction) =>
            transmit(endpoint, request, { ...ids, replyResolved }, transaction)
          return request.idempotencyKey === undefined
            ? send(newIds(), new Transaction())
            : once(endpoint, request.idempotencyKey, request, newIds, send)
        })
    }
  })
)

/** Where its outcome is not known it may have arrived: then an answer may come. */
const surelyNotSent = (outcome: Exit.Exit<unknown, SendError | StoreUnavailable>): boolean =>
  Exit.isFailure(outcome) &&
  Option.exists(Cause.failureOption(outcome.cause), ({ _tag }) => _tag !== "SendOutcomeUnknown")

const sendRefusal = (
  error: SendError | StoreUnavailable
): SendUnavailable | SendUnknown | SendRefused | StoreUnavailable => {
  switch (error._tag) {
    case "store_unavailable":
      return error
    case "ConnectorUnavailable":
      return new SendUnavailable({ message: error.message, retryable: true })
    case "SendOutcomeUnknown":
      return new SendUnknown({ message: error.message, retryable: false })
    case "SendRejected":
      return new SendRefused({ message: error.message, code: error.code })
  }
}
