/** The wish to end the broker: who asks for it, and who waits for it. */

import type { Effect } from "effect"
import { Context } from "effect"

export type ShutdownReason = "signal" | "operator" | "superseded" | "failure"

export class Shutdown extends Context.Tag("broker/Shutdown")<
  Shutdown,
  {
    /** The first reason counts. */
    readonly request: (reason: ShutdownReason) => Effect.Effect<void>
    /** Done when somebody asked. */
    readonly requested: Effect.Effect<ShutdownReason>
    /** True from the moment somebody asked: no new work. */
    readonly unsafeIsLeaving: () => boolean
  }
>() {}
