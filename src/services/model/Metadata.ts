/**
 * What the broker does with a message's metadata: what it strips, demands, stamps and reads. Everything else a sender put
 * there is passed on unchanged.
 */
import { CorrelationIdForbidden, SourceEndpointIdMismatch, TargetEndpointIdForbidden } from "./Errors.js"
import { ensureTrace, type TraceContext } from "./TraceContext.js"

export type Metadata = { readonly [key: string]: unknown }

/** Keys only this broker may set on a delivered message. A remote sender's values for them are removed on arrival. */
const brokerOwned = ["dispatched_from", "dispatched_by", "delivery_intent"] as const

/**
 * Why a plugin may not send this metadata: it speaks for the broker, or for an endpoint that is not its own. `names` are the id and
 * the earlier ids of the endpoint it sends as.
 */
export const refuseOutbound = (
  metadata: Metadata,
  names: ReadonlyArray<string>
): CorrelationIdForbidden | TargetEndpointIdForbidden | SourceEndpointIdMismatch | undefined => {
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
  return source === undefined || names.some((name) => name === source)
    ? undefined
    : new SourceEndpointIdMismatch({
        message: `"metadata.source_endpoint_id" must be the sending endpoint "${names[0]}"; leave it out.`
      })
}

/** The metadata of an arriving message as it will be delivered: broker-owned keys gone, a valid `traceparent` present. */
export const admitInbound = (metadata: Metadata, mint: () => TraceContext): Metadata => {
  const traced = ensureTrace(metadata, mint)
  if (!brokerOwned.some((key) => key in traced)) return traced
  const admitted: Record<string, unknown> = { ...traced }
  for (const key of brokerOwned) delete admitted[key]
  return admitted
}

/** The metadata of an outbound message: the plugin's own, overlaid with what only the broker may say. */
export const stampOutbound = (
  metadata: Metadata,
  stamps: { readonly correlationId: string; readonly endpointId: string; readonly requireLive: boolean },
  mint: () => TraceContext
): Metadata => ({
  ...ensureTrace(metadata, mint),
  correlation_id: stamps.correlationId,
  source_endpoint_id: stamps.endpointId,
  require_live: stamps.requireLive
})

/** The metadata of an undispatched message once its owner handed it to an endpoint. */
export const stampDispatched = (metadata: Metadata, undispatchedId: string): Metadata => ({
  ...metadata,
  dispatched_from: undispatchedId,
  dispatched_by: "passport"
})

/** A non-empty string value, or absent: wrong types and empty strings count as absent. */
export const text = (metadata: Metadata, key: string): string | undefined => {
  const value = metadata[key]
  return typeof value === "string" && value !== "" ? value : undefined
}

/** A date, or a date and a time. `Date.parse` alone would read "5" as a day long ago. */
const isoTime = /^(\d{4}|[+-]\d{6})-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$/

/** What `metadata.expires_at` says, in epoch milliseconds or ISO: a time, nothing, or that the value is neither. */
export const expiry = (metadata: Metadata): number | undefined | "invalid" => {
  const value = metadata.expires_at
  if (value === undefined || value === null) return undefined
  const at = typeof value === "string" && isoTime.test(value) ? Date.parse(value) : value
  return typeof at === "number" && Number.isFinite(at) ? at : "invalid"
}
