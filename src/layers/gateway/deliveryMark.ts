import { type Store, Transaction, table } from "../../services/Store.js"

/** Up to where numbered messages may have been handed over, and so pushed. */
const marks = table<{ readonly upTo: number }>("gateway_marks", 1)

/** So many numbers are marked ahead at least, and at most: a commit per message would cost too much. */
const least = 16
const most = 4_096

/**
 * Which of the gateway's numbered messages a plugin may know. That one was handed over is not recorded; that it may be is,
 * durably, before it is. After a crash what comes again up to the mark is pushed as redelivered.
 */
export class DeliveryMark {
  /** What earlier lives of the broker may have handed over. */
  readonly before: number
  private readonly store: Store["Type"]
  private readonly scope: string
  private readonly onMoved: () => void
  private upTo: number
  private isMoving = false
  /** The highest number that was handed over, and what that was when the mark was last drawn in. */
  private highest: number
  private lastHighest: number
  private ahead = least

  /** Everything up to `cursor` is accepted. `onMoved` is called each time the mark lies further than before. */
  constructor(store: Store["Type"], scope: string, cursor: number, onMoved: () => void) {
    this.store = store
    this.scope = scope
    this.onMoved = onMoved
    this.before = store.unsafeGet(marks, scope)?.upTo ?? 0
    this.upTo = this.before
    this.highest = cursor
    this.lastHighest = cursor
    this.moveBeyond(cursor)
  }

  /** True when messages up to this number may be handed over now. While the store fails they may: what needs no disk goes on. */
  allows(sequence: number): boolean {
    const isBeyond = sequence > this.upTo
    if (isBeyond && !this.isMoving) this.ahead = Math.min(most, this.ahead * 2)
    this.moveBeyond(sequence)
    if (isBeyond && this.store.unsafeHealth()._tag !== "Failing") return false
    this.highest = Math.max(this.highest, sequence)
    return true
  }

  /**
   * To be called now and then, best with another commit: the mark reaches no further than as many messages ahead as came since
   * the last time. What is new after a crash is not taken for known because many messages came long before it.
   */
  drawIn(): void {
    this.ahead = Math.min(most, Math.max(least, this.highest - this.lastHighest))
    this.lastHighest = this.highest
    const upTo = Math.max(this.before, this.highest + this.ahead)
    if (upTo < this.upTo && !this.isMoving) this.write(upTo)
  }

  /** The broker leaves and hands nothing over any more: what it never did is new to the next one. */
  leave(): void {
    const upTo = Math.max(this.before, this.highest)
    if (upTo !== this.upTo || this.isMoving) this.write(upTo)
  }

  /** Early enough that nothing has to wait, as a rule. */
  private moveBeyond(sequence: number): void {
    if (this.isMoving || sequence <= this.upTo - this.ahead / 2) return
    this.isMoving = true
    const upTo = sequence + this.ahead
    const transaction = new Transaction()
    transaction.put(marks, this.scope, { upTo })
    transaction.onDurable(() => {
      this.isMoving = false
      this.upTo = upTo
      // More was handed over while the store failed.
      this.moveBeyond(this.highest)
      this.onMoved()
    })
    this.store.unsafeCommit(transaction)
  }

  /** A mark that lies closer counts at once. */
  private write(upTo: number): void {
    this.upTo = upTo
    const transaction = new Transaction()
    transaction.put(marks, this.scope, { upTo })
    this.store.unsafeCommit(transaction)
  }
}
