import type { EndpointKey } from "../../services/model/Ids.js"

/**
 * Correlation ids per endpoint, the oldest first, bounded in number and age; and, per id, the endpoints that have it, the first
 * one first. Every operation but `sweep` and `forget` takes constant time.
 */
export class RecentIds {
  private readonly byEndpoint = new Map<EndpointKey, Map<string, number>>()
  private readonly byId = new Map<string, Set<EndpointKey>>()
  private readonly limits: { readonly count: number; readonly ageMs: number }
  private readonly onRemoved: (endpoint: EndpointKey, id: string) => void

  /** `onRemoved` hears of every id that leaves, for whatever reason. */
  constructor(
    limits: { readonly count: number; readonly ageMs: number },
    onRemoved: (endpoint: EndpointKey, id: string) => void
  ) {
    this.limits = limits
    this.onRemoved = onRemoved
  }

  /** Adds the id, or makes it the newest. */
  add(endpoint: EndpointKey, id: string, now: number): void {
    let ids = this.byEndpoint.get(endpoint)
    if (ids === undefined) {
      ids = new Map()
      this.byEndpoint.set(endpoint, ids)
    }
    ids.delete(id)
    ids.set(id, now)
    let owners = this.byId.get(id)
    if (owners === undefined) {
      owners = new Set()
      this.byId.set(id, owners)
    }
    owners.add(endpoint)
    if (ids.size > this.limits.count) this.remove(endpoint, ids.keys().next().value!)
  }

  remove(endpoint: EndpointKey, id: string): void {
    const ids = this.byEndpoint.get(endpoint)
    if (ids?.delete(id) !== true) return
    if (ids.size === 0) this.byEndpoint.delete(endpoint)
    const owners = this.byId.get(id)!
    owners.delete(endpoint)
    if (owners.size === 0) this.byId.delete(id)
    this.onRemoved(endpoint, id)
  }

  /** When the endpoint got the id, epoch milliseconds. */
  since(endpoint: EndpointKey, id: string): number | undefined {
    return this.byEndpoint.get(endpoint)?.get(id)
  }

  isTooOld(since: number, now: number): boolean {
    return now - since >= this.limits.ageMs
  }

  /** The endpoints that have the id, the first one first. */
  owners(id: string, now: number): ReadonlyArray<EndpointKey> {
    const owners = this.byId.get(id)
    return owners === undefined
      ? []
      : Array.from(owners).filter((endpoint) => !this.isTooOld(this.since(endpoint, id)!, now))
  }

  has(id: string): boolean {
    return this.byId.has(id)
  }

  count(endpoint: EndpointKey): number {
    return this.byEndpoint.get(endpoint)?.size ?? 0
  }

  forget(endpoint: EndpointKey): void {
    for (const id of [...(this.byEndpoint.get(endpoint)?.keys() ?? [])]) this.remove(endpoint, id)
  }

  /** Removes what is too old; returns how many. */
  sweep(now: number): number {
    let removed = 0
    for (const [endpoint, ids] of this.byEndpoint) {
      for (const [id, since] of ids) {
        if (!this.isTooOld(since, now)) break
        this.remove(endpoint, id)
        removed++
      }
    }
    return removed
  }
}
