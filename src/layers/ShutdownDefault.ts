import { Deferred, Effect, Layer } from "effect"
import { Shutdown, type ShutdownReason } from "../services/Shutdown.js"

export const layer: Layer.Layer<Shutdown> = Layer.effect(
  Shutdown,
  Effect.map(Deferred.make<ShutdownReason>(), (requested) => {
    let isLeaving = false
    return {
      request: (reason) =>
        Effect.suspend(() => {
          isLeaving = true
          return Deferred.succeed(requested, reason)
        }),
      requested: Deferred.await(requested),
      unsafeIsLeaving: () => isLeaving
    }
  })
)
