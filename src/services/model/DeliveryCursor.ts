/**
 * Which of a sequenced network's messages the broker has, and in which order it gets them: the cursor, what is accepted beyond
 * it, what is in the broker's hands, and where there are gaps. Pure bookkeeping; the connector sends what it asks for.
 *
 * A number is *accepted* once. It is *held* while its message is here and not accepted, *released* when the broker let go of the
 * message, and otherwise *missing*. The cursor is the highest number up to which everything is accepted.
 */
import { ArrivalOrder, type OrderLimits } from "./ArrivalOrder.js"
import { delay } from "./Backoff.js"
import { NumberRanges, type Run } from "./NumberRanges.js"
import { RememberedIds } from "./RememberedIds.js"

export interface CursorLimits {
  /** A message that came early waits for those before it. */
  readonly order: OrderLimits
  /** A request to fill a gap that brought nothing is repeated after so long, milliseconds; doubles. */
  readonly gapRetryMs: number
  /** The longest such wait. */
  readonly gapRetryMaxMs: number
  /** How many ids of accepted messages are remembered. */
  readonly rememberedIds: number
}

/** What survives the broker. */
export interface CursorRecord {
  readonly sequence: number
  /** Accepted beyond it. */
  readonly beyond: ReadonlyArray<Run>
}

/** A message as the network names it: by a number, by an id, by both, or not at all. */
export interface Delivery {
  readonly sequence: number | undefined
  readonly id: string | undefined
}

/** No two requests come closer than this part of the first wait. */
const closest = 1 / 10

export class DeliveryCursor<A> {
  private readonly limits: CursorLimits
  private readonly order: ArrivalOrder<A>
  /** Messages without a number that go to the broker now. */
  private unnumbered: Array<A> = []
  /** Everything up to here is accepted. */
  private floor: number
  private readonly beyond: NumberRanges
  /** Numbers whose message is here, with its id. */
  private readonly held = new Map<number, string | undefined>()
  private readonly released = new Set<number>()
  /** Ids of messages that are here, with the numbers they came under. */
  private readonly numbersOf = new Map<string, Array<number>>()
  /** Ids of accepted messages. */
  private readonly known: RememberedIds
  private unsaved: Array<string> = []
  /** The highest number that is known to exist. */
  private highest: number

  /** Something is missing that was not there to be asked for by the last request. */
  private hasNewGap = false
  private isAsking = false
  private askedAt = Number.NEGATIVE_INFINITY
  private retryAt = Number.NEGATIVE_INFINITY
  private attempts = 0

  /** `knownIds` gives those of accepted messages, the oldest first; it is asked when the first message comes. */
  constructor(
    limits: CursorLimits,
    { beyond, sequence }: CursorRecord = { sequence: 0, beyond: [] },
    knownIds?: () => Iterable<string>
  ) {
    this.limits = limits
    this.floor = sequence
    this.beyond = new NumberRanges(beyond)
    this.order = new ArrivalOrder<A>(limits.order, sequence, beyond)
    this.highest = beyond.at(-1)?.[1] ?? sequence
    this.hasNewGap = this.missing > 0
    this.known = new RememberedIds(limits.rememberedIds, knownIds)
  }

  get cursor(): number {
    return this.floor
  }

  /** What to keep; of many runs the first ones. */
  record(runs: number): CursorRecord {
    return { sequence: this.floor, beyond: this.beyond.runs().slice(0, runs) }
  }

  /** Messages that are here, waiting for others or with the broker, and those accepted beyond the cursor. */
  get outstanding(): number {
    return this.held.size + this.beyond.size
  }

  /** Messages that wait for others. */
  get waiting(): { readonly messages: number; readonly bytes: number } {
    return this.order.waiting
  }

  // -- messages ----------------------------------------------------------------------------------------------------------

  /** A message came. False for one that is here or accepted already: there is nothing to do about it. */
  arrive({ id, sequence }: Delivery, item: A, bytes: number, now: number): boolean {
    if (sequence === undefined) {
      if (id !== undefined) {
        if (this.known.has(id) || this.numbersOf.has(id)) return false
        this.numbersOf.set(id, [])
      }
      this.unnumbered.push(item)
      return true
    }
    this.exists(sequence, sequence - 1)
    if (this.isAccepted(sequence) || this.held.has(sequence)) return false
    if (id !== undefined) {
      if (this.known.has(id)) {
        // The network gave a message we have another number: that number is done with, too.
        this.accept({ sequence, id: undefined })
        return false
      }
      const numbers = this.numbersOf.get(id)
      if (numbers !== undefined) {
        numbers.push(sequence)
        this.hold(sequence, id)
        this.order.settle(sequence)
        return false
      }
      this.numbersOf.set(id, [sequence])
    }
    this.hold(sequence, id)
    this.order.arrive(sequence, item, bytes, now)
    return true
  }

  /** The messages that go to the broker now, in order. */
  take(now: number): ReadonlyArray<A> {
    const { nextExpiry } = this.order
    if (nextExpiry !== undefined && nextExpiry <= now) this.order.expire(now)
    const numbered = this.order.take()
    if (this.unnumbered.length === 0) return numbered
    const { unnumbered } = this
    this.unnumbered = []
    return numbered.length === 0 ? unnumbered : [...numbered, ...unnumbered]
  }

  /** The broker has the message for good, or the network wants nothing done about it. In any order, and more than once. */
  accept({ id, sequence }: Delivery): void {
    const known = id ?? (sequence === undefined ? undefined : this.held.get(sequence))
    const numbers = known === undefined ? undefined : this.numbersOf.get(known)
    if (sequence !== undefined && !this.isAccepted(sequence)) this.acceptNumber(sequence)
    if (numbers !== undefined) for (const number of numbers) if (!this.isAccepted(number)) this.acceptNumber(number)
    if (known === undefined) return
    this.numbersOf.delete(known)
    this.remember(known)
  }

  /** The broker let go of the message: it may come again. */
  release({ id, sequence }: Delivery): void {
    const numbers =
      (id === undefined ? undefined : this.numbersOf.get(id)) ?? (sequence === undefined ? [] : [sequence])
    for (const number of numbers) if (this.held.delete(number)) this.released.add(number)
    if (id !== undefined) this.numbersOf.delete(id)
  }

  // -- what the network says ---------------------------------------------------------------------------------------------

  /** The network says everything up to here was delivered, to us or before us. What waits is handed over all the same. */
  advanceTo(sequence: number): void {
    if (sequence <= this.floor) return
    this.highest = Math.max(this.highest, sequence)
    this.floor = sequence
    this.beyond.deleteUpTo(sequence)
    for (const number of this.held.keys()) if (number <= sequence) this.held.delete(number)
    for (const number of this.released) if (number <= sequence) this.released.delete(number)
    this.order.settleUpTo(sequence)
    this.advance()
    this.lookForGaps()
  }

  /** The network says that numbers up to `sequence` exist; of those, up to `before` must come by themselves or be asked for. */
  exists(sequence: number, before = sequence): void {
    if (before > this.highest) this.hasNewGap = true
    this.highest = Math.max(this.highest, sequence)
  }

  /** The network asks to be asked for whatever is missing. */
  invite(): void {
    this.hasNewGap = this.missing > 0
  }

  /** The network was just told the cursor anew, on a new link, and sends what is beyond by itself. */
  reconnected(now: number, random: number): void {
    this.isAsking = false
    this.hasNewGap = false
    this.attempts = 0
    if (this.missing > 0) this.requested(now, random)
    this.askedAt = Number.NEGATIVE_INFINITY
  }

  // -- gaps --------------------------------------------------------------------------------------------------------------

  /** Everything released is to be asked for. */
  askAgain(): void {
    if (this.released.size === 0) return
    this.isAsking = true
    this.order.ask([...this.released].sort((a, b) => a - b))
  }

  /** The number after which to ask the network to fill in, if it is time to; `requested` when it was asked. */
  gapRequest(now: number): number | undefined {
    const at = this.nextRequestAt()
    return at !== undefined && at <= now ? this.floor : undefined
  }

  /** The request was sent. */
  requested(now: number, random: number): void {
    this.isAsking = false
    this.askedAt = now
    if (this.hasNewGap) this.attempts = 0
    this.hasNewGap = false
    const { gapRetryMaxMs, gapRetryMs } = this.limits
    this.retryAt = now + Math.ceil(delay({ base: gapRetryMs, cap: gapRetryMaxMs }, this.attempts, random))
    this.attempts++
  }

  /** When to ask; `undefined` when there is nothing to ask for. */
  nextRequestAt(): number | undefined {
    if (this.isAsking) return Number.NEGATIVE_INFINITY
    if (this.missing === 0) return undefined
    return this.hasNewGap ? Math.min(this.askedAt + this.limits.gapRetryMs * closest, this.retryAt) : this.retryAt
  }

  /** When to `take` although nothing happened; `undefined` when nothing waits. */
  nextExpiry(): number | undefined {
    return this.order.nextExpiry
  }

  // -- ids ---------------------------------------------------------------------------------------------------------------

  /** Ids of accepted messages that were not handed out here before. */
  takeUnsaved(): ReadonlyArray<string> {
    const { unsaved } = this
    this.unsaved = []
    return unsaved
  }

  private get missing(): number {
    return this.highest - this.floor - this.outstanding - this.released.size
  }

  private isAccepted(sequence: number): boolean {
    return sequence <= this.floor || this.beyond.has(sequence)
  }

  private hold(sequence: number, id: string | undefined): void {
    this.released.delete(sequence)
    this.held.set(sequence, id)
    this.lookForGaps()
  }

  /** Once nothing is missing, the next gap is a new matter. */
  private lookForGaps(): void {
    if (this.released.size === 0) this.isAsking = false
    if (this.missing > 0) return
    this.hasNewGap = false
    this.attempts = 0
    this.askedAt = Number.NEGATIVE_INFINITY
    this.retryAt = Number.NEGATIVE_INFINITY
  }

  private acceptNumber(sequence: number): void {
    this.exists(sequence, sequence - 1)
    this.held.delete(sequence)
    this.released.delete(sequence)
    if (sequence === this.floor + 1) {
      this.floor = sequence
      this.advance()
    } else this.beyond.add(sequence)
    this.order.settle(sequence)
    this.lookForGaps()
  }

  private advance(): void {
    if (this.beyond.size === 0) return
    this.floor = this.beyond.endOfRun(this.floor + 1)
    this.beyond.deleteUpTo(this.floor)
  }

  private remember(id: string): void {
    if (!this.known.add(id)) return
    this.unsaved.push(id)
    const { rememberedIds } = this.limits
    if (this.unsaved.length > 2 * rememberedIds) this.unsaved.splice(0, rememberedIds)
  }
}
