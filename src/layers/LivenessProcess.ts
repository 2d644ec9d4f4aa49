/** Asks the operating system: signal 0, and the start time where reading it is cheap. */
import { Layer } from "effect"
import { Liveness } from "../services/Liveness.js"
import { isAlive, startOf } from "./internal/process.js"

export const layer: Layer.Layer<Liveness> = Layer.succeed(Liveness, { unsafeIsAlive: isAlive, startOf })
