/** Received correlation ids, in memory and in the store. */
import { Effect, Layer } from "effect"
import type { BrokerConfig } from "../services/BrokerConfig.js"
import type { EventLog } from "../services/EventLog.js"
import { ReplyCorrelations } from "../services/ReplyCorrelations.js"
import type { Store } from "../services/Store.js"
import { makeStoredIds } from "./internal/storedIds.js"

export const layer: Layer.Layer<ReplyCorrelations, never, Store | BrokerConfig | EventLog> = Layer.scoped(
  ReplyCorrelations,
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const received = yield* makeStoredIds("correlation_received", "reply_correlation_cache_sweep")
    return {
      unsafeRecord: received.unsafeAdd,
      unsafeResolve: (endpoint, correlationId) => {
        const since = received.ids.since(endpoint, correlationId)
        if (since !== undefined) {
          return received.ids.isTooOld(since, clock.unsafeCurrentTimeMillis()) ? "ttl_expired" : "resolved"
        }
        return received.ids.has(correlationId) ? "wrong_endpoint" : "unknown_correlation_id"
      },
      unsafeForget: received.unsafeForget,
      unsafeForgetOthers: received.unsafeForgetOthers
    }
  })
)
