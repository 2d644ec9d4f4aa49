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
interface Held {
  /** By first refusal: the network's order, for it delivers and redelivers in order. */
  readonly place: number
  /** What had been taken when it was first refused. */
  readonly messages: number
  readonly bytes: number
  /** The round in which it was last seen. */
  seenIn: number
  /** What it waits for; `undefined` while it is on its way to another destination than last time. */
  destination: Destination | undefined
}

interface Blocked {
  /** In their order. */
  waiting: Map<MessageId, Held>
  lastPlace: number
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
  private readonly held = new Map<MessageId, Held>()
  private readonly blocked = new Map<Destination, Blocked>()
  private lastPlace = 0
  private round = 0
  private takenMessages = 0
  private takenBytes = 0
  /** Once the limit is reached: the first message that waits for it, and when it was last seen. */
  private stall: { readonly id: MessageId; seenIn: number } | undefined
  /** Something was let go for the limit since all was asked for last: nobody else remembers it. */
  private isOwed = false
  private readonly limits: HoldBackLimits

  constructor(limits: HoldBackLimits) {
    this.limits = limits
  }

  /** True when there is nothing to ask for. */
  get isEmpty(): boolean {
    return this.blocked.size === 0 && this.stall === undefined && !this.isOwed
  }

  /** True when the message may try its destination now. */
  mayPass(id: MessageId, destination: Destination): boolean {
    const held = this.held.get(id)
    // Routed elsewhere than last time: nobody need wait for it there.
    if (held !== undefined && held.destination !== destination) this.leave(id, held)
    const waiting = this.blocked.get(destination)?.waiting
    if (waiting === undefined) return true
    if (held?.destination === destination) this.forgetOvertaken(waiting, id, held)
    const [first] = waiting
    return first === undefined || first[0] === id || (held !== undefined && held.place < first[1].place)
  }

  /** The message was not stored. It will be asked for again. */
  refuse(id: MessageId, destination: Destination, now: number): void {
    let held = this.held.get(id)
    if (held === undefined) {
      const { takenBytes: bytes, takenMessages: messages } = this
      held = { place: ++this.lastPlace, messages, bytes, seenIn: this.round, destination: undefined }
      this.held.set(id, held)
    }
    held.seenIn = this.round
    if (held.destination === destination) return
    this.leave(id, held)
    held.destination = destination
    const blocked = this.blocked.get(destination)
    if (blocked === undefined) {
      this.blocked.set(destination, { waiting: new Map([[id, held]]), lastPlace: held.place, since: now })
      return
    }
    blocked.waiting.set(id, held)
    if (held.place < blocked.lastPlace) {
      blocked.waiting = new Map([...blocked.waiting].sort(([, a], [, b]) => a.place - b.place))
    } else blocked.lastPlace = held.place
  }

  /** The message was taken: stored, pushed, or dead. One that was not held back counts against the limit. */
  take(id: MessageId, bytes: number): void {
    if (this.stall?.id === id) this.stall = undefined
    if (this.forget(id) || this.blocked.size === 0) return
    this.takenMessages++
    this.takenBytes += bytes
  }

  /** True when so much was taken behind a held-back message that this one, too, must wait at the network. */
  stalls(id: MessageId): boolean {
    // Held back itself, it comes before everything that waits for the limit.
    if (this.held.has(id)) return false
    if (this.stall?.id === id) {
      this.stall.seenIn = this.round
      // It came back, and what came before it did not.
      this.forgetBefore(this.round)
      if (!this.isFull()) this.stall = undefined
    } else if (this.stall === undefined && this.isFull()) this.stall = { id, seenIn: this.round }
    if (this.stall === undefined) return false
    this.isOwed = true
    return true
  }

  /** All that is held back is asked for again. */
  askAgain(): void {
    this.round++
    this.isOwed = false
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

  /** `id` came back in this round and those before it did not: the network no longer has them. */
  private forgetOvertaken(waiting: ReadonlyMap<MessageId, Held>, id: MessageId, held: Held): void {
    for (const [earlier, { seenIn }] of waiting) {
      if (earlier === id) break
      if (seenIn < this.round) this.forget(earlier)
    }
    held.seenIn = this.round
  }

  /** Those last seen before that round are not owed any longer. */
  private forgetBefore(round: number): void {
    for (const { waiting } of this.blocked.values()) {
      for (const [id, { seenIn }] of waiting) if (seenIn < round) this.forget(id)
    }
  }

  /** True when it was held back. */
  private forget(id: MessageId): boolean {
    const held = this.held.get(id)
    if (held === undefined) return false
    this.leave(id, held)
    return this.held.delete(id)
  }

  private leave(id: MessageId, held: Held): void {
    const { destination } = held
    if (destination === undefined) return
    held.destination = undefined
    const blocked = this.blocked.get(destination)!
    blocked.waiting.delete(id)
    if (blocked.waiting.size === 0) this.blocked.delete(destination)
  }
}
