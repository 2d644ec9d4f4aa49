/** The wish to end the broker: who asks for it, and who waits for it. */

import type { Effect } from "effect"
import { Context } from "effect"

export type ShutdownReason =
  | "signal"
  | "operator"
  /** Another broker of this identity follows at once. */
  | "restart"
  /** Nobody used it, and it held nothing, for as long as the settings say. */
  | "idle"
  /** Another runtime took over at the gateway. */
  | "superseded"
  /** The gateway speaks another protocol: this version of the broker cannot work with it. */
  | "unsupported_protocol"
  /** The platform refused the account's credentials for good. */
  | "credentials"
  | "failure"

/** Reasons that end the broker with exit code 1. */
export const isFailure = (reason: ShutdownReason): boolean =>
  reason === "unsupported_protocol" || reason === "credentials" || reason === "failure"

export class Shutdown extends Context.Tag("broker/Shutdown")<
  Shutdown,
  {
    /** The first reason counts. */
    readonly request: (reason: ShutdownReason) => Effect.Effect<void>
    /** Done when somebody asked. */
    readonly requested: Effect.Effect<ShutdownReason>
    /** True from the moment somebody asked: no new work. */
    readonly unsafeIsLeaving: () => boolean
    /** Why, from that moment. */
    readonly unsafeReason: () => ShutdownReason | undefined
  }
>() {}
