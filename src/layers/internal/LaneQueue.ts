import { Order, RedBlackTree } from "effect"

interface Turn {
  readonly at: number
  /** Of those with one time the first added goes first. */
  readonly number: number
}

/**
 * Whose turn is next: of the ready ones the first that became it; of those that wait, each once its time has come. However many
 * there are, none costs a fiber or a timer.
 */
export class LaneQueue<L> {
  private readonly ready = new Set<L>()
  private waiting = RedBlackTree.empty<Turn, L>(Order.struct({ at: Order.number, number: Order.number }))
  private added = 0

  /** Behind all that are ready. */
  add(lane: L): void {
    this.ready.add(lane)
  }

  /** Ready at `at`, epoch milliseconds. */
  addAt(lane: L, at: number): void {
    this.waiting = RedBlackTree.insert(this.waiting, { at, number: this.added++ }, lane)
  }

  /** When the first of those that wait becomes ready. */
  get nextAt(): number | undefined {
    for (const [{ at }] of this.waiting) return at
    return undefined
  }

  /** The first one that is ready by now; it is in the queue no more. */
  take(now: number): L | undefined {
    for (const [turn, lane] of this.waiting) {
      if (turn.at > now) break
      this.waiting = RedBlackTree.removeFirst(this.waiting, turn)
      this.ready.add(lane)
    }
    for (const lane of this.ready) {
      this.ready.delete(lane)
      return lane
    }
    return undefined
  }
}
