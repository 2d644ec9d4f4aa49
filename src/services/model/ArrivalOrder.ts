/**
 * Hands messages over in the order of their numbers, whatever the order they come in. A message that came early waits for the
 * numbers before it that were never seen, and goes without them when it has waited long enough or too much waits.
 *
 * A message that comes again, because it was let go, waits for nothing but those before it that were asked for again with it.
 * It never makes a new one wait.
 */
import { NumberRanges, type Run } from "./NumberRanges.js"

export interface OrderLimits {
  /** No message waits longer for those before it, milliseconds. */
  readonly waitMs: number
  /** No more messages wait. */
  readonly messages: number
  /** Nor more bytes of them. */
  readonly bytes: number
}

interface Arrival {
  readonly number: number
  readonly since: number
  isGone: boolean
}

interface Waiting<A> {
  readonly arrival: Arrival
  readonly item: A
  readonly bytes: number
}

/** Messages that wait: by number, and by arrival. */
class WaitingRoom<A> {
  private readonly entries = new Map<number, Waiting<A>>()
  private readonly numbers: Array<number> = []
  /** In order of arrival from `head` on; those that are gone are passed over. */
  private arrivals: Array<Arrival> = []
  private head = 0
  bytes = 0

  get size(): number {
    return this.numbers.length
  }

  get first(): number | undefined {
    return this.numbers[0]
  }

  get last(): number | undefined {
    return this.numbers[this.numbers.length - 1]
  }

  /** When the one that waits longest came. */
  get oldest(): number | undefined {
    this.passGone()
    return this.arrivals[this.head]?.since
  }

  add(number: number, item: A, bytes: number, since: number): void {
    const arrival = { number, since, isGone: false }
    this.entries.set(number, { arrival, item, bytes })
    this.arrivals.push(arrival)
    this.numbers.splice(indexIn(this.numbers, number), 0, number)
    this.bytes += bytes
  }

  remove(number: number): void {
    if (!this.entries.has(number)) return
    this.numbers.splice(indexIn(this.numbers, number), 1)
    this.forget(number)
  }

  /** Takes those up to `number` out, in order. */
  takeUpTo(number: number): ReadonlyArray<A> {
    return this.takeFirst(indexIn(this.numbers, number + 1))
  }

  /** Takes those out that follow each other without a gap, beginning with `number`. */
  takeRun(number: number): ReadonlyArray<A> {
    let count = 0
    while (this.numbers[count] === number + count) count++
    return this.takeFirst(count)
  }

  /** The highest number of those that came at `time` or before. */
  highestSince(time: number): number | undefined {
    this.passGone()
    let highest: number | undefined
    for (let index = this.head; index < this.arrivals.length; index++) {
      const { isGone, number, since } = this.arrivals[index]!
      if (since > time) break
      if (!isGone) highest = Math.max(number, highest ?? number)
    }
    return highest
  }

  private takeFirst(count: number): ReadonlyArray<A> {
    return this.numbers.splice(0, count).map((number) => this.forget(number))
  }

  private passGone(): void {
    while (this.arrivals[this.head]?.isGone === true) this.head++
    if (this.head < 1_000 || this.head * 2 < this.arrivals.length) return
    this.arrivals = this.arrivals.slice(this.head)
    this.head = 0
  }

  private forget(number: number): A {
    const { arrival, bytes, item } = this.entries.get(number)!
    this.entries.delete(number)
    arrival.isGone = true
    this.bytes -= bytes
    return item
  }
}

/** Where `number` is, or belongs, in an ascending list. */
const indexIn = (numbers: ReadonlyArray<number>, number: number): number => {
  let low = 0
  let high = numbers.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (numbers[middle]! < number) low = middle + 1
    else high = middle
  }
  return low
}

export class ArrivalOrder<A> {
  private readonly limits: OrderLimits
  /** Nothing waits for these: they were handed over, are done with, or were given up. */
  private through: number
  /** Done with, beyond `through`. */
  private readonly done: NumberRanges
  private readonly early = new WaitingRoom<A>()
  private readonly again = new WaitingRoom<A>()
  /** Asked for again and not come yet, ascending. */
  private asked: Array<number> = []
  private ready: Array<A> = []

  /** Nothing up to `through`, and none of `done`, is waited for. */
  constructor(limits: OrderLimits, through = 0, done: Iterable<Run> = []) {
    this.limits = limits
    this.through = through
    this.done = new NumberRanges(done)
    this.goOn()
  }

  get waiting(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.early.size + this.again.size, bytes: this.early.bytes + this.again.bytes }
  }

  /** When the next message has waited long enough. */
  get nextExpiry(): number | undefined {
    const oldest = Math.min(
      this.early.oldest ?? Number.POSITIVE_INFINITY,
      this.again.oldest ?? Number.POSITIVE_INFINITY
    )
    return oldest === Number.POSITIVE_INFINITY ? undefined : oldest + this.limits.waitMs
  }

  /** What goes to the broker now, in order. */
  take(): ReadonlyArray<A> {
    const { ready } = this
    if (ready.length > 0) this.ready = []
    return ready
  }

  /** A message came that is neither with the broker nor waiting. */
  arrive(number: number, item: A, bytes: number, now: number): void {
    if (number <= this.through || this.done.has(number)) {
      this.unask(number)
      this.again.add(number, item, bytes, now)
      this.goOnAgain()
    } else if (number === this.through + 1) {
      this.through = number
      this.ready.push(item)
      this.goOn()
    } else this.early.add(number, item, bytes, now)
    const { bytes: waitingBytes, messages } = this.waiting
    if (messages > this.limits.messages || waitingBytes > this.limits.bytes) this.giveUp()
  }

  /** No message need come under this number any more; one that waits is dropped. */
  settle(number: number): void {
    const isNew = number > this.through
    if (!isNew && this.asked.length === 0) return
    this.again.remove(number)
    this.unask(number)
    this.goOnAgain()
    if (!isNew) return
    this.early.remove(number)
    this.done.add(number)
    this.goOn()
  }

  /** Nothing up to this number is waited for; what waits goes to the broker. */
  settleUpTo(number: number): void {
    this.unaskUpTo(number)
    this.passTo(number)
  }

  /** These, which the broker let go, were asked for again. Ascending. */
  ask(numbers: ReadonlyArray<number>): void {
    this.asked = [...numbers]
    this.goOnAgain()
  }

  /** What has waited long enough goes to the broker, and what can go after it. */
  expire(now: number): void {
    const time = now - this.limits.waitMs
    const again = this.again.highestSince(time)
    if (again !== undefined) this.unaskUpTo(again)
    const early = this.early.highestSince(time)
    if (early !== undefined) this.passTo(early)
  }

  /** Everything that waits goes. */
  private giveUp(): void {
    this.ask([])
    if (this.early.last !== undefined) this.passTo(this.early.last)
  }

  private passTo(number: number): void {
    if (number <= this.through) return
    this.handOver(this.early.takeUpTo(number))
    this.through = number
    this.goOn()
  }

  /** Passes everything that waits for nothing. */
  private goOn(): void {
    while (true) {
      this.through = this.done.endOfRun(this.through + 1)
      if (this.early.first !== this.through + 1) break
      const run = this.early.takeRun(this.through + 1)
      this.through += run.length
      this.handOver(run)
    }
    if (this.done.size > 0) this.done.deleteUpTo(this.through)
  }

  private goOnAgain(): void {
    if (this.again.size > 0) this.handOver(this.again.takeUpTo((this.asked[0] ?? Number.POSITIVE_INFINITY) - 1))
  }

  private handOver(items: ReadonlyArray<A>): void {
    for (const item of items) this.ready.push(item)
  }

  private unaskUpTo(number: number): void {
    this.asked.splice(0, indexIn(this.asked, number + 1))
    this.goOnAgain()
  }

  private unask(number: number): void {
    const index = indexIn(this.asked, number)
    if (this.asked[index] === number) this.asked.splice(index, 1)
  }
}
