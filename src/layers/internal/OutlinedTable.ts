/**
 * A table whose records may be many and large: memory holds an outline of each, and the record itself only until it is durable.
 * From then on it is read from the store when it is asked for.
 */
import type { Key, Store, Table, Transaction } from "../../services/Store.js"

interface Entry<A, Outline> {
  readonly outline: Outline
  undurable: A | undefined
}

/** Records that are in memory at a time when the table is opened. */
const page = 16

export class OutlinedTable<A, Outline> {
  private readonly entries: Map<Key, Entry<A, Outline>>
  private readonly table: Table<A>
  private readonly store: Store["Type"]
  private readonly outlineOf: (record: A) => Outline

  /** `order` is that of the records that are there; without it they are in key order. */
  constructor(
    table: Table<A>,
    store: Store["Type"],
    outlineOf: (record: A) => Outline,
    order?: (a: Outline, b: Outline) => number
  ) {
    this.table = table
    this.store = store
    this.outlineOf = outlineOf
    const stored = [...this.stored()]
    if (order !== undefined) stored.sort(([, a], [, b]) => order(a, b))
    this.entries = new Map(stored.map(([key, outline]) => [key, { outline, undurable: undefined }]))
  }

  get size(): number {
    return this.entries.size
  }

  /** First those that were there, then the others as they were added. */
  *outlines(): IterableIterator<readonly [key: Key, outline: Outline]> {
    for (const [key, { outline }] of this.entries) yield [key, outline]
  }

  /** The whole record; `undefined` also where the store finds it damaged. */
  get(key: Key): A | undefined {
    const entry = this.entries.get(key)
    return entry && (entry.undurable ?? this.store.unsafeGet(this.table, key))
  }

  /** The key is one that was never used. */
  add(transaction: Transaction, key: Key, record: A): Outline {
    const outline = this.outlineOf(record)
    const entry: Entry<A, Outline> = { outline, undurable: record }
    this.entries.set(key, entry)
    transaction.put(this.table, key, record)
    transaction.onDurable(() => {
      entry.undurable = undefined
    })
    return outline
  }

  remove(transaction: Transaction, key: Key): Outline | undefined {
    const entry = this.entries.get(key)
    if (entry === undefined) return undefined
    this.entries.delete(key)
    transaction.delete(this.table, key)
    return entry.outline
  }

  private *stored(): IterableIterator<readonly [Key, Outline]> {
    let last: Key | undefined
    do {
      const from = last === undefined ? { from: "" } : { after: last }
      const found = this.store.unsafeRange(this.table, { ...from, until: "~", limit: page })
      for (const [key, record] of found) yield [key, this.outlineOf(record)]
      last = found.at(-1)?.[0]
    } while (last !== undefined)
  }
}
