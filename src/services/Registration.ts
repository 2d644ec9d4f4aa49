/** How a session becomes an endpoint, or comes back to the one it left. */

import type { Effect } from "effect"
import { Context } from "effect"
import type {
  EndpointNotReconnecting,
  EndpointOwnerTokenMismatch,
  EndpointUnknown,
  InvalidRequest,
  InvalidRuntimeSessionId,
  IpcChannelMissing,
  PlatformRefused,
  PlatformUnauthorized,
  PlatformUnavailable,
  ReattachPidMismatch,
  StoreUnavailable,
  TooManyEndpoints
} from "./model/Errors.js"
import type { EndpointId } from "./model/Ids.js"
import type { Caller } from "./model/Ownership.js"
import type { SessionClaims } from "./model/Session.js"

export interface RegisterRequest extends SessionClaims {
  readonly plugin_pid: number
  readonly spawn_token?: string | null | undefined
  /** Take over this endpoint, from whatever process. */
  readonly resume?: { readonly endpoint_id: string; readonly endpoint_owner_token: string } | null | undefined
}

export interface Registered {
  readonly endpointId: EndpointId
  readonly ownerToken: string
  /** It is an endpoint that was here before, with its mail. */
  readonly resumed: boolean
  readonly sessionNaming: { readonly nickname: string; readonly owner_edited_name: string | null } | undefined
}

export class Registration extends Context.Tag("broker/Registration")<
  Registration,
  {
    /**
     * Registers the session, or resumes the endpoint it left: the earliest of the same process and session that is waiting,
     * or was carried over to the process's newer channel and not claimed there yet. An endpoint in use is never resumed, one that
     * demands its owner token only with `resume`. A new one is refused while there are as many as the setting `endpoints` says.
     * Answers when durable. Mail of a resumed endpoint is delivered at once, in order.
     */
    readonly register: (
      request: RegisterRequest
    ) => Effect.Effect<
      Registered,
      | IpcChannelMissing
      | InvalidRequest
      | InvalidRuntimeSessionId
      | EndpointUnknown
      | EndpointOwnerTokenMismatch
      | EndpointNotReconnecting
      | PlatformRefused
      | PlatformUnauthorized
      | PlatformUnavailable
      | StoreUnavailable
      | TooManyEndpoints
    >
    /** Binds a waiting or carried-over endpoint to its process's current channel. Answers how much mail was undelivered. */
    readonly reattach: (
      id: string,
      pluginPid: number,
      caller: Caller
    ) => Effect.Effect<
      number,
      | IpcChannelMissing
      | EndpointUnknown
      | ReattachPidMismatch
      | EndpointOwnerTokenMismatch
      | EndpointNotReconnecting
      | StoreUnavailable
    >
  }
>() {}
