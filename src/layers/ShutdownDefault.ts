import { Deferred, Effect, Layer } from "effect"
import { Shutdown, type ShutdownReason } from "../services/Shutdown.js"

export const layer: Layer.Layer<Shutdown> = Layer.effect(
  Shutdown,
  Effect.map(Deferred.make<ShutdownReason>(), (requested) => {
    let first: ShutdownReason | undefined
    return {
      request: (reason) =>
        Effect.suspend(() => {
          first ??= reason
          return Deferred.succeed(requested, reason)
        }),
      requested: Deferred.await(requested),
      unsafeIsLeaving: () => first !== undefined,
      unsafeReason: () => first
    }
  })
)
