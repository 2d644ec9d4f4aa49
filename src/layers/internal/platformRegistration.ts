import type { Endpoint } from "../../services/Directory.js"
import { displayLabel } from "../../services/model/Session.js"
import type { PlatformRegistration } from "../../services/PlatformApi.js"

/**
 * What the platform is told of an endpoint. The same nonce again means the same endpoint. `canSpawn`: sessions of its kind can
 * be started here.
 */
export const platformRegistration = ({
  canSpawn,
  nonce,
  pluginPid,
  session
}: Pick<Endpoint, "session" | "pluginPid" | "nonce"> & { readonly canSpawn: boolean }): PlatformRegistration => {
  const values = {
    runtime_kind: session.kind,
    endpoint_nonce: nonce,
    display_label: displayLabel(session, pluginPid),
    workspace: session.workspace,
    tracking_ref: session.trackingRef,
    session_name: session.sessionName,
    task_hint: session.taskHint,
    runtime_capabilities: canSpawn
      ? [...(session.runtimeCapabilities ?? []), "remote_spawn_v1"]
      : session.runtimeCapabilities,
    execution_surface: session.executionSurface,
    runtime_session_id: session.runtimeSessionId,
    background_exchange_mode: session.backgroundExchangeMode
  }
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined)
  ) as unknown as PlatformRegistration
}
