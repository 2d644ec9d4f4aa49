/** Records in memory: for tests, and for a broker that may forget. Keeps what the durable store keeps, until the process ends. */
import { Context, Effect, Layer, Option, Order, RedBlackTree } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { EventLog } from "../services/EventLog.js"
import { StoreNotReadable } from "../services/model/Errors.js"
import { type Key, type KeyRange, type Op, Store, type Table } from "../services/Store.js"
import { StoreInspection } from "../services/StoreInspection.js"
import { nothingFound, StoreReport } from "../services/StoreReport.js"
import { groupCommit, type StoreDriver } from "./internal/groupCommit.js"

const makeDriver = (): StoreDriver => {
  const tables = new Map<string, RedBlackTree.RedBlackTree<Key, unknown>>()
  const empty = RedBlackTree.empty<Key, unknown>(Order.string)

  const apply = (op: Op) => {
    const before = RedBlackTree.removeFirst(tables.get(op.table.name) ?? empty, op.key)
    tables.set(op.table.name, op._tag === "Put" ? RedBlackTree.insert(before, op.key, op.value) : before)
  }

  const range = <A>(table: Table<A>, { after, bytes, from, limit, until }: KeyRange) => {
    const tree = tables.get(table.name) ?? empty
    const found: Array<readonly [Key, A]> = []
    const records =
      after !== undefined ? RedBlackTree.greaterThan(tree, after) : RedBlackTree.greaterThanEqual(tree, from ?? "")
    let size = 0
    for (const [key, value] of records) {
      if (key >= until || found.length === limit) break
      if (bytes !== undefined) size += Buffer.byteLength(JSON.stringify(value))
      if (bytes !== undefined && size > bytes && found.length > 0) break
      found.push([key, value as A])
    }
    return found
  }

  return {
    write: async (batch) => {
      for (const { ops } of batch) for (const op of ops) apply(op)
      return batch.length
    },
    get: <A>(table: Table<A>, key: Key) =>
      Option.getOrUndefined(RedBlackTree.findFirst(tables.get(table.name) ?? empty, key)) as A | undefined,
    range,
    keys: (table) => RedBlackTree.keys(tables.get(table) ?? empty),
    count: <A>(table: Table<A>, given: Pick<KeyRange, "from" | "until">) => range(table, given).length
  }
}

const nothingToRead = new StoreNotReadable({
  message: "This broker keeps its records in memory; there is no store on disk to look into."
})

export const layer: Layer.Layer<Store | StoreReport | StoreInspection, never, BrokerConfig | EventLog> =
  Layer.scopedContext(
    Effect.gen(function* () {
      const config = yield* BrokerConfig
      const log = yield* EventLog
      const store = yield* groupCommit(makeDriver(), log, {
        base: 100,
        cap: config.backoffMaxMs,
        waitMs: config.storeWaitMs
      })
      return Context.make(Store, store).pipe(
        Context.add(StoreReport, { opened: nothingFound(0), unsafeDamaged: () => 0 }),
        Context.add(StoreInspection, {
          inspect: nothingToRead,
          verify: nothingToRead,
          lines: nothingToRead
        })
      )
    })
  )
