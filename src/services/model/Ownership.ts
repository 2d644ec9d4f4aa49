/** Who may act for an endpoint. */
import type { EndpointState } from "./EndpointLifecycle.js"
import { EndpointNotActive, EndpointOwnerTokenMismatch, EndpointPidMismatch } from "./Errors.js"

/** What a request says of its sender. Older clients say nothing. */
export interface Caller {
  /** `x-plugin-pid`. */
  readonly pid: number | undefined
  /** `x-endpoint-owner-token`. */
  readonly ownerToken: string | undefined
}

export interface Owned {
  readonly endpointId: string
  readonly pluginPid: number
  /** Set when the endpoint's channel announced `endpoint_owner_token_v1`: then the token is demanded. */
  readonly demandsToken: boolean
}

/** The refusal, or `undefined` when the caller may act. `tokenMatches` compares in constant time. */
export const refuseStranger = (
  owned: Owned,
  caller: Caller,
  tokenMatches: (token: string) => boolean
): EndpointPidMismatch | EndpointOwnerTokenMismatch | undefined => {
  if (caller.pid !== undefined && caller.pid !== owned.pluginPid) {
    return new EndpointPidMismatch({
      message: `Endpoint "${owned.endpointId}" belongs to process ${owned.pluginPid}, and the request comes from process ${caller.pid}.`
    })
  }
  if (owned.demandsToken && (caller.ownerToken === undefined || !tokenMatches(caller.ownerToken))) {
    return new EndpointOwnerTokenMismatch({
      message:
        caller.ownerToken === undefined
          ? `Endpoint "${owned.endpointId}" asks for its owner token in the header x-endpoint-owner-token.`
          : `The owner token in x-endpoint-owner-token is not that of endpoint "${owned.endpointId}".`
    })
  }
  return undefined
}

/** The refusal of what only an endpoint does whose plugin is there, or `undefined`. */
export const refuseAway = (endpoint: {
  readonly id: string
  readonly state: EndpointState
}): EndpointNotActive | undefined => {
  switch (endpoint.state._tag) {
    case "Active":
      return undefined
    case "Reconnecting":
      return new EndpointNotActive({
        message: `Endpoint "${endpoint.id}" is reconnecting; reattach it on an open channel first.`
      })
    case "Closed":
      return new EndpointNotActive({ message: `Endpoint "${endpoint.id}" has ended; register again.` })
  }
}
