/** Calls to the platform: the place where endpoints are registered and their owner looks at them. */

import type { Effect } from "effect"
import { Context, Data } from "effect"
import type { PlatformReport } from "./model/PlatformReport.js"
import type { Account } from "./model/PlatformWire.js"
import type { Workspace } from "./model/Session.js"

/** What the platform is told of a session. Keys are those of its wire. */
export interface PlatformRegistration {
  readonly runtime_kind: string
  /** Minted by the broker, one per registration: the same nonce again means the same endpoint. */
  readonly endpoint_nonce: string
  readonly display_label: string
  readonly workspace?: Workspace
  readonly tracking_ref?: string
  readonly session_name?: string
  readonly task_hint?: string
  readonly runtime_capabilities?: ReadonlyArray<string>
  readonly execution_surface?: string
  readonly runtime_session_id?: string
  readonly background_exchange_mode?: string
}

export interface PlatformEndpoint {
  readonly endpointId: string
  /** The broker sends a heartbeat this often, milliseconds; absent where the platform wants none. */
  readonly heartbeatAfterMs?: number
  readonly sessionNaming?: { readonly nickname: string; readonly owner_edited_name: string | null }
}

/**
 * It did not work. `unauthorized`: the platform does not know the broker (401). `refused`: it will never take this, however often it
 * is repeated. `unavailable`: it failed, or no answer came; whether it was done is not known.
 */
export class PlatformError extends Data.TaggedError("PlatformError")<{
  readonly kind: "unauthorized" | "refused" | "unavailable"
  /** HTTP status, where there was an answer. */
  readonly status?: number
  /** The platform's code, or `timeout` or `network`. */
  readonly code: string
  readonly reason: string
  /** The platform asked to wait so long, milliseconds. */
  readonly retryAfterMs?: number
}> {
  override get message() {
    return `The platform ${this.outcome} (${this.code}): ${this.reason}.`
  }

  private get outcome() {
    if (this.kind !== "unavailable") return "refused the call"
    return this.status === undefined ? "gave no answer" : "could not do it"
  }
}

/** Every call ends within the setting `platformMs`, and may be repeated. */
export class PlatformApi extends Context.Tag("broker/PlatformApi")<
  PlatformApi,
  {
    readonly name: string
    /** The same nonce again is the same endpoint while that is open. */
    readonly register: (registration: PlatformRegistration) => Effect.Effect<PlatformEndpoint, PlatformError>
    /** Keeps the lease of an endpoint. `refused` with status 404: it is lost, and the broker registers the endpoint again. */
    readonly heartbeat: (endpointId: string) => Effect.Effect<void, PlatformError>
    /** Closes the endpoint; of one that is closed or never was there is nothing to do. */
    readonly unregister: (endpointId: string) => Effect.Effect<void, PlatformError>
    /** What became of an endpoint: `closed` was retired, `unknown` never was or is not ours. */
    readonly endpointState: (endpointId: string) => Effect.Effect<"open" | "closed" | "unknown", PlatformError>
    /** Posts one report. Done means the platform has it, or has no use for it. */
    readonly post: (report: PlatformReport) => Effect.Effect<void, PlatformError>
    /** Whose credentials these are; absent on networks without accounts. */
    readonly whoami?: Effect.Effect<Account, PlatformError>
  }
>() {}
