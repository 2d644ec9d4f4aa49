/**
 * What happens behind a message that cannot be stored: it is not accepted, it is dropped from memory, and it is asked for
 * again. Until it arrives again, nothing passes it on its way to the same destination.
 *
 * The network redelivers in order. So the messages a destination waits for come back in the order they were refused, and one
 * that does not come back before its successor is no longer owed.
 */
import type { MessageId } from "./Ids.js"

/** The inbox, or one endpoint's mailbox. */
export type Destination = string

interface Blocked {
  /** The refused, in the order they first came, with the round in which each was last seen. */
  readonly waiting: Map<MessageId, number>
  readonly since: number
}

export interface HoldBackLimits {
  /** Behind a held-back message at most so many messages are taken; `undefined` where the network tracks each by itself. */
  readonly messages: number | undefined
  readonly bytes: number | undefined
}

export class HoldBack {
  private readonly blocked = new Map<Destination, Blocked>()
  private readonly destinationOf = new Map<MessageId, Destination>()
  private round = 0
  private takenMessages = 0
  private takenBytes = 0
  /** Once the limit is reached: the first message refused for it. Nothing passes until it is back. */
  private stalledAt: MessageId | undefined
  private readonly limits: HoldBackLimits

  constructor(limits: HoldBackLimits) {
    this.limits = limits
  }

  get isEmpty(): boolean {
    return this.blocked.size === 0 && this.stalledAt === undefined
  }

  /** True when the message may try its destination now. */
  mayPass(id: MessageId, destination: Destination): boolean {
    if (this.stalledAt !== undefined) {
      if (this.stalledAt !== id) return false
      this.stalledAt = undefined
      this.takenMessages = 0
      this.takenBytes = 0
    }
    const before = this.destinationOf.get(id)
    // Routed elsewhere than last time: nobody need wait for it there.
    if (before !== undefined && before !== destination) this.settle(id)
    const blocked = this.blocked.get(destination)
    if (blocked === undefined) return true
    if (blocked.waiting.has(id)) this.forgetOvertaken(blocked, id)
    const first = blocked.waiting.keys().next().value
    return first === id
  }

  /** The message was not stored. It will be asked for again. */
  refuse(id: MessageId, destination: Destination, now: number): void {
    if (this.stalledAt !== undefined) return
    let blocked = this.blocked.get(destination)
    if (blocked === undefined) {
      blocked = { waiting: new Map(), since: now }
      this.blocked.set(destination, blocked)
    }
    blocked.waiting.set(id, this.round)
    this.destinationOf.set(id, destination)
  }

  /** The message was taken: stored, pushed, or dead. Counts against the limit while something is held back. */
  take(id: MessageId, bytes: number): void {
    this.settle(id)
    if (this.blocked.size === 0) {
      this.takenMessages = 0
      this.takenBytes = 0
      return
    }
    this.takenMessages++
    this.takenBytes += bytes
  }

  /** True when so much was taken behind a held-back message that this one, too, must wait at the network. */
  stalls(id: MessageId): boolean {
    if (this.stalledAt !== undefined) return this.stalledAt !== id
    const { messages, bytes } = this.limits
    const isFull =
      (messages !== undefined && this.takenMessages >= messages) || (bytes !== undefined && this.takenBytes >= bytes)
    if (!isFull || this.destinationOf.has(id)) return false
    this.stalledAt = id
    return true
  }

  /** All that is held back is asked for again. */
  askAgain(): void {
    this.round++
  }

  /** What is blocked, for status: the destination, since when, and how many messages it is known to wait for. */
  list(): ReadonlyArray<{ readonly destination: Destination; readonly since: number; readonly waiting: number }> {
    return Array.from(this.blocked, ([destination, { since, waiting }]) => ({
      destination,
      since,
      waiting: waiting.size
    }))
  }

  get isStalled(): boolean {
    return this.stalledAt !== undefined
  }

  private settle(id: MessageId): void {
    const destination = this.destinationOf.get(id)
    if (destination === undefined) return
    this.destinationOf.delete(id)
    const blocked = this.blocked.get(destination)
    if (blocked === undefined) return
    blocked.waiting.delete(id)
    if (blocked.waiting.size === 0) this.blocked.delete(destination)
  }

  /** `id` came back in this round and those before it did not: the network no longer has them. */
  private forgetOvertaken(blocked: Blocked, id: MessageId): void {
    for (const [earlier, seenIn] of blocked.waiting) {
      if (earlier === id) break
      if (seenIn < this.round) {
        blocked.waiting.delete(earlier)
        this.destinationOf.delete(earlier)
      }
    }
    blocked.waiting.set(id, this.round)
  }
}
