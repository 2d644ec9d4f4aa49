/**
 * What happens behind a message that cannot be stored: it is not accepted, it is dropped from memory, and it is asked for
 * again. Until it arrives again, nothing passes it on its way to the same destination.
 *
 * The network redelivers in order. So the messages a destination waits for come back in the order they were refused, and one
 * that does not come back before its successor, or in three rounds of asking, is no longer owed.
 */
import type { MessageId } from "./Ids.js"

/** The inbox, or one endpoint's mailbox. */
export type Destination = string

/** A refused message. */
interface Waiting {
  /** The round in which it was last seen. */
  seenIn: number
  /** What had been taken when it was first refused. */
  readonly messages: number
  readonly bytes: number
}

interface Blocked {
  /** In the order they first came. */
  readonly waiting: Map<MessageId, Waiting>
  readonly since: number
}

export interface HoldBackLimits {
  /** Behind a held-back message at most so many messages are taken; `undefined` where the network tracks each by itself. */
  readonly messages: number | undefined
  readonly bytes: number | undefined
}

/** What did not come back in so many rounds is not waited for. */
const patience = 3

export class HoldBack {
  private readonly blocked = new Map<Destination, Blocked>()
  private readonly destinationOf = new Map<MessageId, Destination>()
  private round = 0
  private takenMessages = 0
  private takenBytes = 0
  /** Once the limit is reached: the first message that waits for it, and when it was last seen. */
  private stall: { readonly id: MessageId; seenIn: number } | undefined
  private readonly limits: HoldBackLimits

  constructor(limits: HoldBackLimits) {
    this.limits = limits
  }

  get isEmpty(): boolean {
    return this.blocked.size === 0 && this.stall === undefined
  }

  /** True when the message may try its destination now. */
  mayPass(id: MessageId, destination: Destination): boolean {
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
    let blocked = this.blocked.get(destination)
    if (blocked === undefined) {
      blocked = { waiting: new Map(), since: now }
      this.blocked.set(destination, blocked)
    }
    const waiting = blocked.waiting.get(id)
    if (waiting !== undefined) waiting.seenIn = this.round
    else blocked.waiting.set(id, { seenIn: this.round, messages: this.takenMessages, bytes: this.takenBytes })
    this.destinationOf.set(id, destination)
  }

  /** The message was taken: stored, pushed, or dead. One that was not held back counts against the limit. */
  take(id: MessageId, bytes: number): void {
    if (this.stall?.id === id) this.stall = undefined
    if (this.blocked.size === 0 || this.settle(id)) return
    this.takenMessages++
    this.takenBytes += bytes
  }

  /** True when so much was taken behind a held-back message that this one, too, must wait at the network. */
  stalls(id: MessageId): boolean {
    // Held back itself, it comes before everything that waits for the limit.
    if (this.destinationOf.has(id)) return false
    if (this.stall !== undefined) {
      if (this.stall.id !== id) return true
      this.stall.seenIn = this.round
      // It came back, and what came before it did not.
      this.forgetBefore(this.round)
    }
    if (!this.isFull()) {
      this.stall = undefined
      return false
    }
    this.stall ??= { id, seenIn: this.round }
    return true
  }

  /** All that is held back is asked for again. */
  askAgain(): void {
    this.round++
    this.forgetBefore(this.round - patience + 1)
    if (this.stall !== undefined && this.stall.seenIn <= this.round - patience) this.stall = undefined
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
    return this.stall !== undefined
  }

  /** Counted behind the message held back longest. */
  private isFull(): boolean {
    const { bytes, messages } = this.limits
    for (const { waiting } of this.blocked.values()) {
      const [oldest] = waiting.values()
      if (oldest === undefined) continue
      if (messages !== undefined && this.takenMessages - oldest.messages >= messages) return true
      if (bytes !== undefined && this.takenBytes - oldest.bytes >= bytes) return true
    }
    return false
  }

  /** True when it was held back. */
  private settle(id: MessageId): boolean {
    const destination = this.destinationOf.get(id)
    if (destination === undefined) return false
    this.forget(destination, id)
    return true
  }

  /** `id` came back in this round and those before it did not: the network no longer has them. */
  private forgetOvertaken({ waiting }: Blocked, id: MessageId): void {
    for (const [earlier, { seenIn }] of waiting) {
      if (earlier === id) break
      if (seenIn < this.round) {
        waiting.delete(earlier)
        this.destinationOf.delete(earlier)
      }
    }
    waiting.get(id)!.seenIn = this.round
  }

  /** Those last seen before that round are not owed any longer. */
  private forgetBefore(round: number): void {
    for (const [destination, { waiting }] of this.blocked) {
      for (const [id, { seenIn }] of waiting) if (seenIn < round) this.forget(destination, id)
    }
  }

  private forget(destination: Destination, id: MessageId): void {
    this.destinationOf.delete(id)
    const blocked = this.blocked.get(destination)
    if (blocked === undefined) return
    blocked.waiting.delete(id)
    if (blocked.waiting.size === 0) this.blocked.delete(destination)
  }
}
