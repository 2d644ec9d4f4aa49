/** Applies the rules on outbound metadata and hands messages to the connector. */
import { Cause, Effect, Exit, Layer, Option } from "effect"
import { Connector, type SendError } from "../services/Connector.js"
import { CorrelationIndex } from "../services/CorrelationIndex.js"
import { Credentials } from "../services/Credentials.js"
import type { Endpoint } from "../services/Directory.js"
import { EventLog } from "../services/EventLog.js"
import {
  CorrelationIdForbidden,
  EndpointNotActive,
  SendRefused,
  SendUnavailable,
  SendUnknown,
  SourceEndpointIdMismatch,
  TargetEndpointIdForbidden
} from "../services/model/Errors.js"
import type { EndpointKey } from "../services/model/Ids.js"
import { type Metadata, stampOutbound, text } from "../services/model/Metadata.js"
import { ReplyCorrelations } from "../services/ReplyCorrelations.js"
import { Sender } from "../services/Sender.js"
import { Store, Transaction } from "../services/Store.js"
import { mintTrace, mintUuid } from "./internal/minting.js"
import { storeIsHealthy } from "./internal/storeIsHealthy.js"

type MetadataRefusal = CorrelationIdForbidden | TargetEndpointIdForbidden | SourceEndpointIdMismatch

export const layer: Layer.Layer<
  Sender,
  never,
  Connector | CorrelationIndex | ReplyCorrelations | Credentials | Store | EventLog
> = Layer.effect(
  Sender,
  Effect.gen(function* () {
    const connector = yield* Connector
    const correlations = yield* CorrelationIndex
    const replies = yield* ReplyCorrelations
    const { accountId } = yield* Credentials
    const store = yield* Store
    const log = yield* EventLog
    const isHealthy = storeIsHealthy(store)

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
      return (outcome: Exit.Exit<unknown, SendError>) => {
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

    return {
      send: (endpoint, request) =>
        Effect.gen(function* () {
          if (endpoint.state._tag !== "Active") {
            return yield* new EndpointNotActive({
              message: `Endpoint "${endpoint.id}" is reconnecting; reattach it on an open channel first.`
            })
          }
          const refusal = refuseMetadata(endpoint, request.metadata)
          if (refusal !== undefined) return yield* refusal
          yield* isHealthy

          const { correlationId, replyResolved } = correlationFor(endpoint, request.metadata)
          const transaction = new Transaction()
          const concluded = announce(transaction, endpoint.key, correlationId)
          const durable = Effect.unsafeMakeLatch()
          transaction.onDurable(() => durable.unsafeOpen())
          // Before it is sent: forgetting it must come after it in the store, too.
          store.unsafeCommit(transaction)
          const outbound = {
            messageId: mintUuid(),
            to: request.to,
            content: request.content,
            contentType: request.contentType,
            metadata: stampOutbound(
              request.metadata,
              { correlationId, endpointId: endpoint.id, requireLive: request.requireLive },
              mintTrace
            ),
            agent: endpoint.agent === accountId ? undefined : endpoint.agent,
            requireLive: request.requireLive
          }
          const receipt = yield* connector.send(outbound).pipe(
            Effect.onExit((outcome) => Effect.sync(() => concluded(outcome))),
            Effect.mapError(sendRefusal)
          )
          yield* durable.await
          return { ...receipt, replyResolved }
        })
    }
  })
)

/** Where its outcome is not known it may have arrived: then an answer may come. */
const surelyNotSent = (outcome: Exit.Exit<unknown, SendError>): boolean =>
  Exit.isFailure(outcome) &&
  Option.exists(Cause.failureOption(outcome.cause), ({ _tag }) => _tag !== "SendOutcomeUnknown")

/** The plugin may not speak for the broker. */
const refuseMetadata = (endpoint: Endpoint, metadata: Metadata): MetadataRefusal | undefined => {
  if (Object.hasOwn(metadata, "correlation_id")) {
    return new CorrelationIdForbidden({
      message: '"metadata.correlation_id" is set by the broker; name the id you answer in "metadata.in_reply_to".'
    })
  }
  if (Object.hasOwn(metadata, "target_endpoint_id")) {
    return new TargetEndpointIdForbidden({
      message:
        '"metadata.target_endpoint_id" is not for plugins; address the endpoint in "to" where the network allows it.'
    })
  }
  const source = metadata.source_endpoint_id
  const names: ReadonlyArray<unknown> = [undefined, endpoint.id, ...endpoint.aliases]
  return !names.includes(source)
    ? new SourceEndpointIdMismatch({
        message: `"metadata.source_endpoint_id" must be the sending endpoint "${endpoint.id}"; leave it out.`
      })
    : undefined
}

const sendRefusal = (error: SendError): SendUnavailable | SendUnknown | SendRefused => {
  switch (error._tag) {
    case "ConnectorUnavailable":
      return new SendUnavailable({ message: error.message, retryable: true })
    case "SendOutcomeUnknown":
      return new SendUnknown({ message: error.message, retryable: false })
    case "SendRejected":
      return new SendRefused({ message: error.message, code: error.code })
  }
}
