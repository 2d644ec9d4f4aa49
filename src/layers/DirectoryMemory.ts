/** The endpoints in memory. */
import { Layer } from "effect"
import { Directory, type Endpoint } from "../services/Directory.js"
import type { EndpointKey } from "../services/model/Ids.js"

/** How many ids of ended endpoints are known. */
const remembered = 10_000

export const layer: Layer.Layer<Directory> = Layer.sync(Directory, () => {
  const byKey = new Map<EndpointKey, Endpoint>()
  const byId = new Map<string, Endpoint>()
  const agents = new Set<string>()
  const ended = new Set<string>()
  return {
    unsafeGet: (id) => byId.get(id),
    unsafeByKey: (key) => byKey.get(key),
    unsafeHasEnded: (id) => ended.has(id),
    unsafeCount: () => byKey.size,
    unsafeAll: () => byKey.values(),
    unsafeKnowsAgent: (agent) => agents.has(agent),
    unsafePut: (endpoint) => {
      byKey.set(endpoint.key, endpoint)
      for (const id of [endpoint.id, ...endpoint.aliases]) byId.set(id, endpoint)
      agents.add(endpoint.agent)
    },
    unsafeRemove: (endpoint) => {
      byKey.delete(endpoint.key)
      for (const id of [endpoint.id, ...endpoint.aliases]) {
        byId.delete(id)
        ended.add(id)
      }
      while (ended.size > remembered) ended.delete(ended.values().next().value!)
    }
  }
})
