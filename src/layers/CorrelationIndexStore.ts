/** Sent correlation ids, indexed in memory and kept in the store. */
import { Effect, Layer } from "effect"
import type { BrokerConfig } from "../services/BrokerConfig.js"
import { CorrelationIndex } from "../services/CorrelationIndex.js"
import type { EventLog } from "../services/EventLog.js"
import type { Store } from "../services/Store.js"
import { makeStoredIds } from "./internal/storedIds.js"

export const layer: Layer.Layer<CorrelationIndex, never, Store | BrokerConfig | EventLog> = Layer.scoped(
  CorrelationIndex,
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const sent = yield* makeStoredIds("correlation_sent", "correlation_index_sweep")
    return {
      unsafeAdd: sent.unsafeAdd,
      unsafeRemove: sent.unsafeRemove,
      unsafeSenders: (correlationId) => sent.ids.owners(correlationId, clock.unsafeCurrentTimeMillis()),
      unsafeForget: sent.unsafeForget,
      unsafeForgetOthers: sent.unsafeForgetOthers
    }
  })
)
