/** No platform: ids are minted here, reports go nowhere, and the last endpoints that closed are remembered. */
import { Effect, Layer } from "effect"
import { PlatformApi } from "../services/PlatformApi.js"
import { mintUuid } from "./internal/minting.js"

const remembered = 10_000

export const layer: Layer.Layer<PlatformApi> = Layer.sync(PlatformApi, () => {
  /** Endpoint id by nonce, and the nonce of each endpoint; those registered before the broker started have none here. */
  const byNonce = new Map<string, string>()
  const open = new Map<string, string>()
  const closed = new Map<string, string | undefined>()

  const close = (endpointId: string) => {
    if (closed.has(endpointId)) return
    closed.set(endpointId, open.get(endpointId))
    open.delete(endpointId)
    if (closed.size > remembered) forget(closed.keys().next().value!)
  }

  const forget = (endpointId: string) => {
    const nonce = closed.get(endpointId)
    closed.delete(endpointId)
    if (nonce !== undefined) byNonce.delete(nonce)
  }

  return {
    name: "local",
    register: ({ endpoint_nonce }) =>
      Effect.sync(() => {
        const endpointId = byNonce.get(endpoint_nonce) ?? `ep_${mintUuid()}`
        closed.delete(endpointId)
        open.set(endpointId, endpoint_nonce)
        byNonce.set(endpoint_nonce, endpointId)
        return { endpointId }
      }),
    heartbeat: () => Effect.void,
    unregister: (endpointId) => Effect.sync(() => close(endpointId)),
    endpointState: (endpointId) =>
      Effect.sync(() => (open.has(endpointId) ? "open" : closed.has(endpointId) ? "closed" : "unknown")),
    post: (report) =>
      Effect.sync(() => {
        if (report._tag === "EndpointRemoved") close(report.endpointId)
      })
  }
})
