/** A network that tells its brokers nothing. */
import { Clock, Effect, Layer } from "effect"
import { ControlEvents } from "../services/ControlEvents.js"

export const layer: Layer.Layer<ControlEvents> = Layer.effect(
  ControlEvents,
  Effect.map(Clock.currentTimeMillis, (since) => ({
    name: "none",
    listen: Effect.void,
    unsafeStatus: () => ({ state: "off" as const, since, position: undefined, lastFailure: undefined })
  }))
)
