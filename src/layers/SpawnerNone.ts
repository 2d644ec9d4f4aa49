/** A broker that starts no sessions. */
import { Effect, Layer } from "effect"
import { Spawner, SpawnRefused } from "../services/Spawner.js"

export const layer: Layer.Layer<Spawner> = Layer.succeed(Spawner, {
  spawn: () => Effect.fail(new SpawnRefused({ detail: "spawn_driver_registry_not_configured" })),
  isAvailable: () => Effect.succeed(false),
  unsafeRegistered: () => false,
  unsafeOnRegistered: () => undefined
})
