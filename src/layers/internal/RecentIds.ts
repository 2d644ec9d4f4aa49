import type { EndpointKey } from "../../services/model/Ids.js"
import { oldestFirst } from "./oldestFirst.js"

/** An id an endpoint has. */
export interface OwnedId {
  readonly endpoint: EndpointKey
  readonly id: string
  /** When the endpoint got it last, epoch milliseconds. */
  readonly at: number
  /** Orders all by when the endpoint got the id first. */
  readonly first: number
}

/** The oldest first. */
class Owned extends Map<string, OwnedId> {
  /** An id that is to be removed now. */
  readonly oldest = oldestFirst(this)
}

/**
 * Correlation ids per endpoint, the oldest first, bounded in number and age; and, per id, the endpoints that have it, the first
 * one first. Every operation but `restore`, `sweep` and forgetting takes constant time.
 */
export class RecentIds {
  private readonly byEndpoint = new Map<EndpointKey, Owned>()
  /** Nearly every id has one owner: a set of its own would cost more than all the rest of it. */
  private readonly byId = new Map<string, EndpointKey | Set<EndpointKey>>()
  private next = 0
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
  add(endpoint: EndpointKey, id: string, now: number): OwnedId {
    const first = this.byEndpoint.get(endpoint)?.get(id)?.first ?? this.next++
    const owned = { endpoint, id, at: now, first }
    this.addOwner(owned)
    this.makeNewest(owned)
    this.trim(endpoint)
    return owned
  }

  /** Takes over, while it has none, what was known before, and keeps to the limit. */
  restore(known: ReadonlyArray<OwnedId>): void {
    for (const owned of known.toSorted((a, b) => a.first - b.first)) {
      this.addOwner(owned)
      this.next = owned.first + 1
    }
    for (const owned of known.toSorted((a, b) => a.at - b.at || a.first - b.first)) this.makeNewest(owned)
    for (const endpoint of this.byEndpoint.keys()) this.trim(endpoint)
  }

  remove(endpoint: EndpointKey, id: string): void {
    const ids = this.byEndpoint.get(endpoint)
    if (ids?.delete(id) !== true) return
    if (ids.size === 0) this.byEndpoint.delete(endpoint)
    const owners = this.byId.get(id)!
    if (typeof owners !== "number") owners.delete(endpoint)
    if (typeof owners === "number" || owners.size === 0) this.byId.delete(id)
    this.onRemoved(endpoint, id)
  }

  /** When the endpoint got the id, epoch milliseconds. */
  since(endpoint: EndpointKey, id: string): number | undefined {
    return this.byEndpoint.get(endpoint)?.get(id)?.at
  }

  isTooOld(since: number, now: number): boolean {
    return now - since >= this.limits.ageMs
  }

  /** The endpoints that have the id, the first one first. */
  owners(id: string, now: number): ReadonlyArray<EndpointKey> {
    const owners = this.byId.get(id)
    if (owners === undefined) return []
    const all = typeof owners === "number" ? [owners] : Array.from(owners)
    return all.filter((endpoint) => !this.isTooOld(this.since(endpoint, id)!, now))
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

  /** Forgets all endpoints but these. */
  forgetOthers(isThere: (endpoint: EndpointKey) => boolean): void {
    for (const endpoint of this.byEndpoint.keys()) if (!isThere(endpoint)) this.forget(endpoint)
  }

  /** Removes what is too old; returns how many. */
  sweep(now: number): number {
    let removed = 0
    for (const [endpoint, ids] of this.byEndpoint) {
      for (const [id, { at }] of ids) {
        if (!this.isTooOld(at, now)) break
        this.remove(endpoint, id)
        removed++
      }
    }
    return removed
  }

  private addOwner({ endpoint, id }: OwnedId): void {
    const owners = this.byId.get(id)
    if (owners === undefined) this.byId.set(id, endpoint)
    else if (typeof owners !== "number") owners.add(endpoint)
    else if (owners !== endpoint) this.byId.set(id, new Set([owners, endpoint]))
  }

  private makeNewest(owned: OwnedId): void {
    const { endpoint, id } = owned
    const ids = this.byEndpoint.get(endpoint)
    if (ids === undefined) {
      this.byEndpoint.set(endpoint, new Owned([[id, owned]]))
    } else {
      ids.delete(id)
      ids.set(id, owned)
    }
  }

  private trim(endpoint: EndpointKey): void {
    const ids = this.byEndpoint.get(endpoint)!
    while (ids.size > this.limits.count) this.remove(endpoint, ids.oldest())
  }
}
