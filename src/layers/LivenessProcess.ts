/** Asks the operating system: signal 0, and the start time where reading it is cheap. */
import { Effect, Layer } from "effect"
import { Liveness } from "../services/Liveness.js"
import { isAlive, quickStartOf, startOf } from "./machine/processes.js"

export const layer: Layer.Layer<Liveness> = Layer.succeed(Liveness, {
  unsafeIsAlive: isAlive,
  startOf: (pid) =>
    // At once where it is cheap.
    process.platform === "linux" ? Effect.sync(() => quickStartOf(pid)) : Effect.promise(() => startOf(pid))
})
