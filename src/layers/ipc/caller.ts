/** Who is behind a request to an endpoint's routes, and whether they may. */
import { Effect } from "effect"
import type { Endpoint } from "../../services/Directory.js"
import { type CallerHeaders, pidFromHeader } from "../../services/ipc/Fields.js"
import {
  type EndpointOwnerTokenMismatch,
  type EndpointPidMismatch,
  PluginPidMismatch
} from "../../services/model/Errors.js"
import { type Caller, refuseStranger } from "../../services/model/Ownership.js"
import { tokenMatcher } from "../internal/tokens.js"

export const callerOf = (headers: CallerHeaders): Caller => ({
  pid: headers["x-plugin-pid"] === undefined ? undefined : pidFromHeader(headers["x-plugin-pid"]),
  ownerToken: headers["x-endpoint-owner-token"]
})

/** Header and body must not name different processes. */
export const sameProcess = (caller: Caller, bodyPid: number): Effect.Effect<void, PluginPidMismatch> =>
  caller.pid === undefined || caller.pid === bodyPid
    ? Effect.void
    : Effect.fail(
        new PluginPidMismatch({
          message: `The header x-plugin-pid says ${caller.pid} and "plugin_pid" says ${bodyPid}; they must be the same.`
        })
      )

/** The refusal for a caller that may not act for the endpoint, or `undefined`. */
export const strangerTo = (endpoint: Endpoint, caller: Caller) =>
  refuseStranger(
    { endpointId: endpoint.id, pluginPid: endpoint.pluginPid, demandsToken: endpoint.demandsToken },
    caller,
    tokenMatcher(endpoint.ownerToken)
  )

/** The endpoint found under `id`, for a caller that may act for it; `unknown` is how the route says that there is none. */
export const ownEndpoint = <E>(
  endpoint: Endpoint | undefined,
  id: string,
  caller: Caller,
  unknown: (message: string) => E
): Effect.Effect<Endpoint, E | EndpointPidMismatch | EndpointOwnerTokenMismatch> => {
  if (endpoint === undefined) return Effect.fail(unknown(`No endpoint "${id}" is registered here.`))
  const stranger = strangerTo(endpoint, caller)
  return stranger === undefined ? Effect.succeed(endpoint) : Effect.fail(stranger)
}
