/**
 * A table whose records may be many and large: memory holds an outline of each, and the record itself only until it is durable.
 * From then on it is read from the store when it is asked for.
 */
import type { Key, KeySummary, Store, Table, Transaction } from "../../services/Store.js"

interface Entry<A, Outline> {
  readonly outline: Outline
  undurable: A | undefined
}

export interface OutlinedOptions<A, Outline> {
  readonly outlineOf: (record: A, key: Key) => Outline
  /** Where keys tell enough, opening the table reads no records but those of which this gives `undefined`. */
  readonly outlineOfKey?: (key: Key) => Outline | undefined
  /** Of the records that are there; without it they are in key order. */
  readonly order?: (a: Outline, b: Outline) => number
}

/** Records that are in memory at a time when the table is opened. */
const page = 16

export class OutlinedTable<A, Outline> {
  private readonly entries: Map<Key, Entry<A, Outline>>
  private readonly table: Table<A>
  private readonly store: Store["Type"]
  private readonly options: OutlinedOptions<A, Outline>

  constructor(table: Table<A>, store: Store["Type"], options: OutlinedOptions<A, Outline>) {
    this.table = table
    this.store = store
    this.options = options
    const { order, outlineOfKey } = options
    const stored = [...(outlineOfKey === undefined ? this.read() : this.readKeys(outlineOfKey))]
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

  /** The key is that of no record that is there. */
  add(transaction: Transaction, key: Key, record: A): Outline {
    const outline = this.options.outlineOf(record, key)
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

  private *read(): IterableIterator<readonly [Key, Outline]> {
    let last: Key | undefined
    do {
      const from = last === undefined ? { from: "" } : { after: last }
      const found = this.store.unsafeRange(this.table, { ...from, until: "~", limit: page })
      for (const [key, record] of found) yield [key, this.options.outlineOf(record, key)]
      last = found.at(-1)?.[0]
    } while (last !== undefined)
  }

  private *readKeys(outlineOfKey: (key: Key) => Outline | undefined): IterableIterator<readonly [Key, Outline]> {
    for (const key of this.store.unsafeSummary(keysOf(this.table))) {
      const told = outlineOfKey(key)
      const record = told === undefined ? this.store.unsafeGet(this.table, key) : undefined
      const outline = told ?? (record && this.options.outlineOf(record, key))
      if (outline !== undefined) yield [key, outline]
    }
  }
}

const keysOf = ({ name }: { readonly name: string }): KeySummary<Array<Key>> => ({
  table: name,
  empty: () => [],
  add: (keys, bytes, start, end) => {
    keys.push(Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("latin1"))
  }
})
