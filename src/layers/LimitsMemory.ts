/** Counts of this process, in memory. */
import { Layer } from "effect"
import { type LimitName, Limits } from "../services/Limits.js"

export const layer: Layer.Layer<Limits> = Layer.sync(Limits, () => {
  const hits = new Map<LimitName, number>()
  let sockets = 0
  return {
    unsafeHit: (limit) => {
      hits.set(limit, (hits.get(limit) ?? 0) + 1)
    },
    unsafeHits: () => Object.fromEntries(hits),
    unsafeConnected: () => {
      sockets++
    },
    unsafeDisconnected: () => {
      sockets--
    },
    unsafeSockets: () => sockets
  }
})
