import { ordered } from "../../services/model/StoreKey.js"
import type { Store, Table, Transaction } from "../../services/Store.js"

export interface DeadLetterLimits {
  readonly deadLetters: number
  readonly deadLetterMs: number
}

/**
 * What was given up, over a table: the newest, as many as the limits allow, in memory too. The id of an entry is its key
 * without leading zeros.
 */
export class DeadLetterBox<A extends { readonly at: number }> {
  private readonly entries: Map<string, A>
  private readonly table: Table<A>
  private readonly limits: DeadLetterLimits

  constructor(table: Table<A>, store: Store["Type"], limits: DeadLetterLimits) {
    this.table = table
    this.limits = limits
    const stored = store.unsafeRange(table, { from: "", until: "~" })
    this.entries = new Map(
      [...stored].sort(([, a], [, b]) => a.at - b.at).map(([key, entry]) => [idOf(Number.parseInt(key, 36)), entry])
    )
  }

  get size(): number {
    return this.entries.size
  }

  /** The oldest first. */
  list(): ReadonlyArray<readonly [id: string, entry: A]> {
    return [...this.entries]
  }

  get(id: string): A | undefined {
    return this.entries.get(id)
  }

  /** The highest number of an entry; 0 when there is none. */
  last(): number {
    return [...this.entries.keys()].reduce((last, id) => Math.max(last, Number.parseInt(id, 36)), 0)
  }

  /** Adds it as the newest; the oldest go where the limits demand it. */
  add(transaction: Transaction, number: number, entry: A): void {
    this.entries.set(idOf(number), entry)
    transaction.put(this.table, ordered(number), entry)
    for (const [id, { at }] of this.entries) {
      if (this.entries.size <= this.limits.deadLetters && entry.at - at < this.limits.deadLetterMs) return
      this.take(transaction, id)
    }
  }

  /** Takes the entry out. */
  take(transaction: Transaction, id: string): A | undefined {
    const entry = this.entries.get(id)
    if (entry === undefined) return undefined
    this.entries.delete(id)
    transaction.delete(this.table, ordered(Number.parseInt(id, 36)))
    return entry
  }
}

const idOf = (number: number): string => number.toString(36)
