/** Applies the rules on outbound metadata and hands messages to the connector. */
import { Effect, Layer } from "effect"
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
          // Known before the message leaves, so that the quickest answer finds its way.
          const transaction = new Transaction()
          correlations.unsafeAdd(transaction, endpoint.key, correlationId)
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
          const forget = (error: SendError) =>
            Effect.sync(() => {
              // It may have arrived after all: then an answer may come.
              if (error._tag === "SendOutcomeUnknown" || replyResolved === true) return
              const undo = new Transaction()
              correlations.unsafeRemove(undo, endpoint.key, correlationId)
              store.unsafeCommit(undo)
            })
          const [receipt] = yield* Effect.all(
            [connector.send(outbound).pipe(Effect.tapError(forget)), store.commit(transaction)],
            { concurrency: "unbounded" }
          ).pipe(Effect.mapError(sendRefusal))
          return { ...receipt, replyResolved }
        })
    }
  })
)

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
  return source !== undefined && source !== endpoint.id
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
