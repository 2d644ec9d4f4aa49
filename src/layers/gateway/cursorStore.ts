/** What is remembered of the gateway's deliveries over a restart: the cursor, and the ids of messages delivered last. */
import { createHash } from "node:crypto"
import type { CursorRecord } from "../../services/model/DeliveryCursor.js"
import { join, ordered, under } from "../../services/model/StoreKey.js"
import { type Store, Transaction, table } from "../../services/Store.js"

const cursors = table<CursorRecord>("gateway_cursor", 1)
/** Ids in pages: one write for many of them. */
const pages = table<ReadonlyArray<string>>("gateway_delivered", 1)

/** Runs of numbers accepted beyond the cursor that are kept; those left out are delivered again after a crash. */
export const runsKept = 1_000
const pageSize = 256

interface Page {
  readonly key: string
  ids: ReadonlyArray<string>
}

export interface CursorStore {
  readonly cursor: CursorRecord
  /** As `idInKey` has them, the oldest first. Reading many would hold a start up: they are read when somebody asks, or when the first are written. */
  readonly ids: () => ReadonlyArray<string>
  /** Writes the cursor, and the ids behind those written before. `onDurable` says when. */
  readonly unsafeSave: (cursor: CursorRecord, ids: ReadonlyArray<string>, onDurable: () => void) => void
}

/** The pages that are kept, the oldest first. */
class Pages {
  private readonly scope: string
  private readonly kept: Array<Page>
  private count: number
  private last: number

  constructor(store: Store["Type"], scope: string) {
    this.scope = scope
    this.kept = store.unsafeRange(pages, under(scope)).map(([key, ids]) => ({ key, ids }))
    this.count = this.kept.reduce((sum, { ids }) => sum + ids.length, 0)
    const newest = this.kept.at(-1)
    this.last = newest === undefined ? 0 : Number.parseInt(newest.key.slice(scope.length + 1), 36)
  }

  get ids(): ReadonlyArray<string> {
    return this.kept.flatMap(({ ids }) => ids)
  }

  add(transaction: Transaction, ids: ReadonlyArray<string>): void {
    for (let at = 0; at < ids.length; ) at += this.fill(transaction, ids.slice(at, at + pageSize))
  }

  /** Removes the oldest, as long as so many ids are left. */
  trim(transaction: Transaction, limit: number): void {
    while (this.kept.length > 1 && this.count - this.kept[0]!.ids.length >= limit) {
      const { ids, key } = this.kept.shift()!
      this.count -= ids.length
      transaction.delete(pages, key)
    }
  }

  /** Adds as many as fit on a page; the number of those. */
  private fill(transaction: Transaction, ids: ReadonlyArray<string>): number {
    let page = this.kept.at(-1)
    if (page === undefined || page.ids.length >= pageSize) {
      page = { key: join(this.scope, ordered(++this.last)), ids: [] }
      this.kept.push(page)
    }
    const added = ids.slice(0, pageSize - page.ids.length)
    page.ids = [...page.ids, ...added]
    this.count += added.length
    transaction.put(pages, page.key, page.ids)
    return added.length
  }
}

/** What is remembered for a runtime session, empty for none, has this in its keys. */
export const scopeOf = (runtimeSessionId: string): string =>
  runtimeSessionId === "" ? "agent" : createHash("sha256").update(runtimeSessionId).digest("hex")

/** Reads what is there for this runtime session. `limit` ids are kept, a page more at most. */
export const openCursorStore = (store: Store["Type"], runtimeSessionId: string, limit: number): CursorStore => {
  const scope = scopeOf(runtimeSessionId)
  let read: Pages | undefined
  const kept = () => (read ??= new Pages(store, scope))

  return {
    cursor: store.unsafeGet(cursors, scope) ?? { sequence: 0, beyond: [] },
    ids: () => kept().ids,
    unsafeSave: (cursor, ids, onDurable) => {
      const transaction = new Transaction()
      transaction.put(cursors, scope, cursor)
      kept().add(transaction, ids)
      kept().trim(transaction, limit)
      transaction.onDurable(onDurable)
      store.unsafeCommit(transaction)
    }
  }
}
