/**
 * One endpoint's undelivered mail: what is in flight, what is held, what lies in the store, and what may be pushed next.
 *
 * A message is pushed live only when nothing is held before it, and whatever is written takes every earlier unreceipted
 * message along: what the store holds of a mailbox can be delivered in order whenever the process ends. Memory holds what is
 * in flight, one window of held mail and what is being written; the rest lies in the store and is only counted here. Without
 * an outlet it holds only what is being written.
 *
 * The class does no I/O. Its callers push, write and read, and tell it what happened.
 */
import type { ChannelId, PushId } from "./Ids.js"
import { exceeds, HeldLetters, type Letter, type MailWindow, type Place, type StoredMailbox } from "./Letter.js"
import type { Message } from "./Message.js"
import { isExpired } from "./Message.js"

export type { Letter, Place } from "./Letter.js"

const byPlace = (a: Letter, b: Letter): number => a.place - b.place

const nothingStored: StoredMailbox = { count: 0, bytes: 0, last: 0, knownUpTo: 0 }

export interface MailboxLimits extends MailWindow {
  /** Failed deliveries that make a message dead. */
  readonly deliveryLimit: number
}

/** The channel a mailbox delivers over. */
export interface Outlet {
  readonly channel: ChannelId
  /** Its plugin acknowledges each push. Without receipts a push that was written to the socket is delivered. */
  readonly receipts: boolean
}

/** What the mailbox wants next. */
export type Next =
  | { readonly _tag: "Push"; readonly letter: Letter }
  | { readonly _tag: "Expired"; readonly letter: Letter }
  /** Read on from the store behind `after`. */
  | { readonly _tag: "Load"; readonly after: Place }
  /** Nothing now; at `until`, or when something happens. */
  | { readonly _tag: "Wait"; readonly until: number | undefined }

const nothing: Next = { _tag: "Wait", until: undefined }

export class MailboxState {
  private readonly inFlight = new Map<PushId, Letter>()
  /** Durable, in memory, not in flight; in order. */
  private readonly held: HeldLetters
  /** Not in flight and not durable yet, in order of writing. */
  private readonly writing = new Set<Letter>()
  /** Durable records that are not in memory. They are all those behind `loadedUpTo`. */
  private unloaded = 0
  private loadedUpTo: Place = 0
  /** Turns whose commit must be durable before the store can be read: until then it holds what has left or has changed. */
  private unsettled = 0
  private last: Place
  /** All mail up to here was pushed before: pushes go in order. */
  private pushedUpTo: Place
  private bytesInFlight = 0
  private liveCount = 0
  private outlet: Outlet | undefined
  private congested = false
  private pausedUntil = 0
  /** Messages stored or being stored, in flight or not. */
  count = 0
  /** Their bytes. */
  bytes = 0

  private readonly limits: MailboxLimits

  constructor(limits: MailboxLimits, { bytes, count, knownUpTo, last }: StoredMailbox = nothingStored) {
    this.limits = limits
    this.held = new HeldLetters(limits)
    this.count = count
    this.bytes = bytes
    this.unloaded = count
    this.last = Math.max(last, knownUpTo)
    this.pushedUpTo = knownUpTo
  }

  /** Everything not delivered yet: stored or live. */
  get size(): number {
    return this.count + this.liveCount
  }

  get flying(): number {
    return this.inFlight.size
  }

  /** Durable mail in memory that is not in flight, in order. */
  get loaded(): ReadonlyArray<Letter> {
    return this.held.all
  }

  /** How many lie in the store only. */
  get unloadedCount(): number {
    return this.unloaded
  }

  /** False from a `detach` or an `expire` until its `settled`. */
  get isSettled(): boolean {
    return this.unsettled === 0
  }

  /** What is in flight. */
  pushIds(): Iterable<PushId> {
    return this.inFlight.keys()
  }

  get deliversOver(): Outlet | undefined {
    return this.outlet
  }

  // -- arrival -------------------------------------------------------------------------------------------------------

  /** A letter for a message that arrives now. It goes behind everything else. */
  letter(
    message: Message,
    { isAccepted, redelivered = false, token }: { token: unknown; isAccepted: boolean; redelivered?: boolean }
  ): Letter {
    const place = ++this.last
    return { message, place, token, isAccepted, stored: "live", redelivered, failures: 0, pushedAt: undefined }
  }

  /** True when an arriving letter can be pushed at once: nothing waits before it and the window is open. */
  canPushLive(letter: Letter, now: number): boolean {
    return (
      this.outlet !== undefined &&
      !this.congested &&
      now >= this.pausedUntil &&
      this.held.first === undefined &&
      this.unloaded === 0 &&
      this.writing.size === 0 &&
      this.hasRoom(letter)
    )
  }

  /** The letters one commit must hold to store `letter`: every earlier live one, then itself. They count as `writing` now. */
  write(letter: Letter): ReadonlyArray<Letter> {
    const letters = this.spill(letter.place)
    this.startWriting(letter)
    this.writing.add(letter)
    return [...letters, letter]
  }

  /** The live letters up to `upTo`, which one commit must hold together. They stay in flight. */
  spill(upTo: Place): Array<Letter> {
    const letters: Array<Letter> = []
    if (this.liveCount === 0) return letters
    for (const letter of this.inFlight.values()) {
      if (letter.stored === "live" && letter.place <= upTo) letters.push(letter)
    }
    for (const letter of letters) {
      this.liveCount--
      this.startWriting(letter)
    }
    return letters
  }

  /** The letter's commit is durable. */
  wrote(letter: Letter): void {
    letter.stored = "written"
    if (this.writing.delete(letter)) this.keep(letter)
  }

  // -- delivery ------------------------------------------------------------------------------------------------------

  /** Delivery starts over `outlet`. */
  attach(outlet: Outlet): void {
    this.outlet = outlet
    this.congested = false
    this.pausedUntil = 0
  }

  /** The channel's backlog is above its high-water mark, or below its low one again. */
  setCongested(congested: boolean): void {
    this.congested = congested
  }

  next(now: number): Next {
    if (this.outlet === undefined || this.congested) return nothing
    if (now < this.pausedUntil) return { _tag: "Wait", until: this.pausedUntil }
    const letter = this.held.first
    if (letter === undefined) {
      return this.unloaded > 0 && this.isSettled ? { _tag: "Load", after: this.loadedUpTo } : nothing
    }
    if (isExpired(letter.message, now)) return { _tag: "Expired", letter }
    return this.hasRoom(letter) ? { _tag: "Push", letter } : nothing
  }

  /** What the store holds behind the `Load` point, the first of it, in order; nothing where it holds no more. False: it led nowhere yet. */
  load(letters: ReadonlyArray<Letter>): boolean {
    const before = this.unloaded
    if (letters.length === 0) this.correct()
    const underWay = new Set(Array.from(this.writing, ({ place }) => place))
    for (const letter of letters) {
      // Durable already, but its `wrote` has not run: it places itself, and so does all behind it.
      if (underWay.has(letter.place) || this.held.isFullFor(letter)) break
      if (letter.place <= this.pushedUpTo) letter.redelivered = true
      this.held.add(letter)
      this.loadedUpTo = letter.place
      this.unloaded--
    }
    return this.unloaded < before
  }

  /** The letter was pushed and its receipt is awaited. */
  pushed(letter: Letter, pushId: PushId, now: number): void {
    this.held.remove(letter.place)
    if (letter.stored === "live") this.liveCount++
    letter.pushedAt = now
    this.pushedUpTo = Math.max(this.pushedUpTo, letter.place)
    this.inFlight.set(pushId, letter)
    this.bytesInFlight += letter.message.bytes
  }

  /** The letter left the mailbox without being in flight: written to a channel without receipts, or expired. */
  drop(letter: Letter): void {
    this.held.remove(letter.place)
    this.forget(letter)
  }

  /**
   * The time of the stored message there, of so many bytes, is over. True when it leaves with that. False while it is in flight
   * or being written: it is asked about again when it comes back. Only while the mailbox is settled, and once a turn.
   */
  expire(place: Place, bytes: number): boolean {
    if (!this.held.remove(place)) {
      if (!this.isUnloaded(place)) return false
      this.unloaded--
    }
    this.count--
    this.bytes -= bytes
    this.unsettled++
    return true
  }

  /** What a `detach`, or an `expire` that was true, decided is durable, and everything decided before. */
  settled(): void {
    this.unsettled--
  }

  /** The plugin acknowledged the push. `undefined` when it is not in flight. */
  acknowledge(pushId: PushId): Letter | undefined {
    const letter = this.land(pushId)
    if (letter !== undefined) this.forget(letter)
    return letter
  }

  /** The plugin refused the push: again after `pauseMs`, at the head, until the delivery limit makes it dead. */
  refuse(
    pushId: PushId,
    now: number,
    pauseMs: (failures: number) => number
  ): { readonly letter: Letter; readonly dead: boolean; readonly write: ReadonlyArray<Letter> } | undefined {
    const letter = this.land(pushId)
    if (letter === undefined) return undefined
    letter.failures++
    if (letter.failures >= this.limits.deliveryLimit) {
      this.forget(letter)
      return { letter, dead: true, write: [] }
    }
    this.pausedUntil = now + pauseMs(letter.failures)
    return { letter, dead: false, write: this.comeBack(letter) }
  }

  /**
   * The channel ended or was replaced. What was in flight waits for the next one; the live part of it must be written.
   * The oldest counts a failed delivery (`failed`) and may be dead. What is durable leaves memory; it is read again for the
   * next channel, once `settled`.
   */
  detach(): {
    readonly write: ReadonlyArray<Letter>
    readonly failed: Letter | undefined
    readonly dead: Letter | undefined
  } {
    this.outlet = undefined
    const returned = [...this.inFlight.values()].sort(byPlace)
    const pushIds = [...this.inFlight.keys()]
    for (const pushId of pushIds) this.land(pushId)
    const oldest = returned[0]
    let dead: Letter | undefined
    if (oldest !== undefined && ++oldest.failures >= this.limits.deliveryLimit) {
      dead = oldest
      this.forget(oldest)
      returned.shift()
    }
    const failed = dead === undefined ? oldest : undefined
    const write = returned.flatMap((letter) => this.comeBack(letter))
    this.unloaded += this.held.all.length
    this.held.clear()
    this.loadedUpTo = 0
    this.unsettled++
    return { write, failed, dead }
  }

  /** The mailbox ends. What memory holds, in order; `unloaded` more lie in the store behind `after`. `bytes` counts all. */
  close(): {
    readonly letters: ReadonlyArray<Letter>
    readonly unloaded: number
    readonly after: Place
    readonly bytes: number
  } {
    this.outlet = undefined
    const letters = [...this.inFlight.values(), ...this.held.all, ...this.writing].sort(byPlace)
    const rest = { letters, unloaded: this.unloaded, after: this.loadedUpTo, bytes: this.bytes }
    this.inFlight.clear()
    this.held.clear()
    this.writing.clear()
    this.unloaded = 0
    this.liveCount = 0
    this.bytesInFlight = 0
    this.count = 0
    this.bytes = 0
    return rest
  }

  // -- the parts -----------------------------------------------------------------------------------------------------

  private hasRoom(letter: Letter): boolean {
    return (
      this.inFlight.size === 0 ||
      !exceeds(this.limits, this.inFlight.size + 1, this.bytesInFlight + letter.message.bytes)
    )
  }

  private startWriting(letter: Letter): void {
    letter.stored = "writing"
    this.count++
    this.bytes += letter.message.bytes
  }

  /** Out of flight. */
  private land(pushId: PushId): Letter | undefined {
    const letter = this.inFlight.get(pushId)
    if (letter === undefined) return undefined
    this.inFlight.delete(pushId)
    this.bytesInFlight -= letter.message.bytes
    if (letter.stored === "live") this.liveCount--
    return letter
  }

  /** Back from flight, to be pushed again before everything that came after it. Returns what must be written now. */
  private comeBack(letter: Letter): ReadonlyArray<Letter> {
    letter.redelivered = true
    switch (letter.stored) {
      case "written":
        this.keep(letter)
        return []
      case "writing":
        this.writing.add(letter)
        return []
      case "live": {
        // A crash before its receipt must not let a later stored letter overtake it.
        return this.write(letter)
      }
    }
  }

  /** A durable letter that is not in flight: into memory where it belongs there, else left to the store. */
  private keep(letter: Letter): void {
    if (letter.place > this.loadedUpTo) {
      if (this.unloaded > 0 || this.outlet === undefined || this.held.isFullFor(letter)) {
        this.leaveToStore(letter)
        return
      }
      this.loadedUpTo = letter.place
    }
    // What was pushed before is no more than a window: only what is newer gives way to it.
    for (const ousted of this.held.add(letter)) this.leaveToStore(ousted)
  }

  private leaveToStore({ place }: Letter): void {
    if (this.unloaded === 0 || place <= this.loadedUpTo) this.loadedUpTo = place - 1
    this.unloaded++
  }

  /** True where stored mail is not in memory. */
  private isUnloaded(place: Place): boolean {
    if (this.unloaded === 0 || place <= this.loadedUpTo) return false
    for (const letter of this.writing) if (letter.place === place) return false
    return true
  }

  /** The store holds less than it said. */
  private correct(): void {
    const stored = [...this.inFlight.values(), ...this.held.all, ...this.writing].filter(
      ({ stored }) => stored !== "live"
    )
    this.unloaded = 0
    this.count = stored.length
    this.bytes = stored.reduce((sum, { message }) => sum + message.bytes, 0)
  }

  private forget(letter: Letter): void {
    if (letter.stored === "live") return
    this.count--
    this.bytes -= letter.message.bytes
  }
}
