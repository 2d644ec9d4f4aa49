/** Things on their way out, in order, unless a fault says otherwise. */
import { type ActiveFault, defaultDelayMs, type FaultBoard, type FaultPoint } from "./Faults.js"

export interface Sink<A> {
  readonly write: (item: A) => void
  /** Writes nonsense in front of the item: this text, or what suits. */
  readonly garble: (text: string | undefined) => void
  /** Ends what it is written to. */
  readonly cut: () => void
}

/** Calls back after so many milliseconds, unless everything has ended by then. */
export type Later = (ms: number, callback: () => void) => void

export class Outflow<A> {
  private readonly board: FaultBoard
  private readonly sink: Sink<A>
  private readonly later: Later
  /** Delayed, and what came behind. */
  private delayed: Array<{ readonly item: A; isDue: boolean }> = []
  /** Held back by the fault of this id. */
  private held: Array<{ readonly item: A; readonly fault: number }> = []
  /** Written after the next. */
  private swapped: { readonly item: A; readonly fault: number } | undefined
  private readonly unsubscribe: () => void
  private isOpen = true

  constructor(board: FaultBoard, sink: Sink<A>, later: Later) {
    this.board = board
    this.sink = sink
    this.later = later
    this.unsubscribe = board.onCleared(() => this.release())
  }

  /** Sends the item, under the fault that strikes at the point now. */
  push(item: A, at: FaultPoint, account: string): void {
    this.pushUnder(item, this.board.take([at], account))
  }

  /** Sends the item under a fault that was taken before. */
  pushUnder(item: A, fault: ActiveFault | undefined) {
    if (!this.isOpen) return
    switch (fault?.does) {
      case "lose":
        return
      case "cut":
        return this.sink.cut()
      case "hold":
        this.held.push({ item, fault: fault.id })
        return
      case "delay":
        return this.delay(item, fault.ms ?? defaultDelayMs)
      case "duplicate":
        this.pass(item)
        return this.pass(item)
      case "malformed":
        this.sink.garble(fault.text)
        return this.pass(item)
      case "reorder":
        if (this.swapped !== undefined) return this.pass(item)
        this.swapped = { item, fault: fault.id }
        return
      default:
        return this.pass(item)
    }
  }

  /** Forgets what has not left. */
  close(): void {
    this.isOpen = false
    this.unsubscribe()
    this.delayed = []
    this.held = []
    this.swapped = undefined
  }

  private pass(item: A): void {
    if (this.delayed.length > 0) this.delayed.push({ item, isDue: true })
    else this.write(item)
  }

  private write(item: A): void {
    this.sink.write(item)
    const swapped = this.swapped
    this.swapped = undefined
    if (swapped !== undefined) this.sink.write(swapped.item)
  }

  private delay(item: A, ms: number): void {
    const entry = { item, isDue: false }
    this.delayed.push(entry)
    this.later(ms, () => {
      entry.isDue = true
      while (this.delayed[0]?.isDue) this.write(this.delayed.shift()!.item)
    })
  }

  private release(): void {
    const isOver = ({ fault }: { readonly fault: number }) => !this.board.has(fault)
    const free = this.held.filter(isOver)
    this.held = this.held.filter((entry) => !isOver(entry))
    for (const { item } of free) this.pass(item)
    if (this.swapped !== undefined && isOver(this.swapped)) {
      const { item } = this.swapped
      this.swapped = undefined
      this.pass(item)
    }
  }
}
