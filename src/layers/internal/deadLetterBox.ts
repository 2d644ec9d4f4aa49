import { ordered } from "../../services/model/StoreKey.js"
import type { Key, Store, Table, Transaction } from "../../services/Store.js"
import { OutlinedTable } from "./OutlinedTable.js"

export interface DeadLetterLimits {
  readonly deadLetters: number
  readonly deadLetterBytes: number
  readonly deadLetterMs: number
}

/** What memory holds of an entry. */
export interface DeadOutline {
  readonly at: number
  /** That the store keeps; entries without count as small. */
  readonly bytes?: number
}

/**
 * What was given up, over a table: the newest, as many as the limits allow. The id of an entry is its key without leading zeros.
 */
export class DeadLetterBox<A, Outline extends DeadOutline> {
  private readonly records: OutlinedTable<A, Outline>
  private readonly limits: DeadLetterLimits
  private bytes = 0

  constructor(table: Table<A>, store: Store["Type"], limits: DeadLetterLimits, outlineOf: (entry: A) => Outline) {
    this.limits = limits
    this.records = new OutlinedTable(table, store, { outlineOf, order: (a, b) => a.at - b.at })
    for (const [, outline] of this.records.outlines()) this.bytes += bytesOf(outline)
  }

  get size(): number {
    return this.records.size
  }

  /** The oldest first. */
  list(): ReadonlyArray<readonly [id: string, outline: Outline]> {
    return Array.from(this.records.outlines(), ([key, outline]) => [idOf(key), outline])
  }

  /** The whole entry; `undefined` also where the store finds it damaged. */
  get(id: string): A | undefined {
    return this.records.get(keyOf(id))
  }

  /** The highest number of an entry; 0 when there is none. */
  last(): number {
    let last = 0
    for (const [key] of this.records.outlines()) last = Math.max(last, numberOf(key))
    return last
  }

  /** Adds it as the newest. The oldest go where the limits demand it, and are returned; the newest itself stays. */
  add(transaction: Transaction, number: number, entry: A): ReadonlyArray<readonly [id: string, outline: Outline]> {
    const key = ordered(number)
    const outline = this.records.add(transaction, key, entry)
    this.bytes += bytesOf(outline)
    const gone: Array<readonly [string, Outline]> = []
    for (const [oldest, { at }] of this.records.outlines()) {
      const isOld = outline.at - at >= this.limits.deadLetterMs
      const isFull = this.size > this.limits.deadLetters || this.bytes > this.limits.deadLetterBytes
      if (oldest === key || !(isOld || isFull)) break
      gone.push([idOf(oldest), this.take(transaction, idOf(oldest))!])
    }
    return gone
  }

  /** Takes the entry out. */
  take(transaction: Transaction, id: string): Outline | undefined {
    const outline = this.records.remove(transaction, keyOf(id))
    if (outline !== undefined) this.bytes -= bytesOf(outline)
    return outline
  }
}

const bytesOf = ({ bytes = 0 }: DeadOutline): number => bytes
const numberOf = (key: Key): number => Number.parseInt(key, 36)
const idOf = (key: Key): string => numberOf(key).toString(36)
/** Of a text that is no id it is no key either. */
const keyOf = (id: string): Key => id.padStart(ordered(0).length, "0")
