/** Transition reports as entries of the Outbox. */
import { Effect, Layer } from "effect"
import { Outbox } from "../services/Outbox.js"
import { RetryQueue } from "../services/RetryQueue.js"

export const layer: Layer.Layer<RetryQueue, never, Outbox> = Layer.effect(
  RetryQueue,
  Effect.gen(function* () {
    const outbox = yield* Outbox
    const clock = yield* Effect.clock
    return {
      unsafeReport: (transaction, endpointId, state, reason) =>
        outbox.unsafeAdd(transaction, {
          _tag: "EndpointState",
          endpointId,
          state,
          reason,
          ts: new Date(clock.unsafeCurrentTimeMillis()).toISOString()
        }),
      unsafeRemove: (transaction, endpointId) => outbox.unsafeAdd(transaction, { _tag: "EndpointRemoved", endpointId })
    }
  })
)
