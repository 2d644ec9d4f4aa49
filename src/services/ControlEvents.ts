/**
 * The subscription to what the platform tells this broker. It hands each event to the `ControlDispatcher`, is
 * opened again whenever it is lost or silent for too long, and ends at once when the broker is asked to leave.
 *
 * Its position moves on when an event and all before it are handled, and is durable: a new subscription, also of the next
 * broker, asks for every event that was not handled.
 */
import type { Effect, Scope } from "effect"
import { Context } from "effect"

export interface ControlStatus {
  /** `off`: this network has no control events, or the broker is leaving. `waiting`: until the next attempt. */
  readonly state: "off" | "connecting" | "open" | "waiting"
  /** Since when it is open, off, or neither of them, whatever was tried meanwhile. Epoch milliseconds. */
  readonly since: number
  /** Id of the last event before which all are handled. */
  readonly position: string | undefined
  /** Why the last subscription ended; absent while one is open. */
  readonly lastFailure: string | undefined
}

export class ControlEvents extends Context.Tag("broker/ControlEvents")<
  ControlEvents,
  {
    readonly name: string
    /** Listens from now until the scope ends. To be run once, when what the platform may ask for can be done. */
    readonly listen: Effect.Effect<void, never, Scope.Scope>
    readonly unsafeStatus: () => ControlStatus
  }
>() {}
