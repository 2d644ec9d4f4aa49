/** No platform: ids are minted here, reports go nowhere, and the last endpoints that closed are remembered. */
import { Effect, Layer } from "effect"
import { PlatformApi } from "../services/PlatformApi.js"
import { mintUuid } from "./internal/minting.js"

const remembered = 10_000

export const layer: Layer.Layer<PlatformApi> = Layer.sync(PlatformApi, () => {
  const open = new Set<string>()
  const closed = new Set<string>()

  const close = (endpointId: string) => {
    open.delete(endpointId)
    closed.add(endpointId)
    if (closed.size > remembered) closed.delete(closed.values().next().value!)
  }

  return {
    name: "local",
    register: () =>
      Effect.sync(() => {
        const endpointId = `ep_${mintUuid()}`
        open.add(endpointId)
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
