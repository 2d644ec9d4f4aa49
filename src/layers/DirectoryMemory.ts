/** The endpoints in memory. */
import { Layer } from "effect"
import { Directory, type Endpoint } from "../services/Directory.js"
import type { EndpointKey } from "../services/model/Ids.js"

/** How many ids, and how many agents, of ended endpoints are known. */
const remembered = 10_000

const remember = (ended: Set<string>, name: string) => {
  ended.delete(name)
  ended.add(name)
  if (ended.size > remembered) ended.delete(ended.values().next().value!)
}

export const layer: Layer.Layer<Directory> = Layer.sync(Directory, () => {
  const byKey = new Map<EndpointKey, Endpoint>()
  const byId = new Map<string, Endpoint>()
  /** How many endpoints each agent has. */
  const agents = new Map<string, number>()
  const endedIds = new Set<string>()
  const endedAgents = new Set<string>()

  const idsOf = ({ aliases, id }: Endpoint) => [id, ...aliases]

  const count = (agent: string, change: 1 | -1) => {
    const there = (agents.get(agent) ?? 0) + change
    if (there > 0) agents.set(agent, there)
    else {
      agents.delete(agent)
      remember(endedAgents, agent)
    }
  }

  return {
    unsafeGet: (id) => byId.get(id),
    unsafeByKey: (key) => byKey.get(key),
    unsafeHasEnded: (id) => endedIds.has(id),
    unsafeCount: () => byKey.size,
    unsafeAll: () => byKey.values(),
    unsafeKnowsAgent: (agent) => agents.has(agent) || endedAgents.has(agent),
    unsafePut: (endpoint) => {
      const before = byKey.get(endpoint.key)
      count(endpoint.agent, 1)
      if (before !== undefined) count(before.agent, -1)
      byKey.set(endpoint.key, endpoint)
      for (const id of idsOf(endpoint)) byId.set(id, endpoint)
    },
    unsafeRemove: (endpoint) => {
      if (byKey.delete(endpoint.key)) count(endpoint.agent, -1)
      for (const id of idsOf(endpoint)) {
        byId.delete(id)
        remember(endedIds, id)
      }
    }
  }
})
