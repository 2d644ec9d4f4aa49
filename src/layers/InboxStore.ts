/** The undispatched inbox over the store: a few hundred messages, all in memory too. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Emitters } from "../services/Emitters.js"
import type { EventLog } from "../services/EventLog.js"
import { Inbox, type UndispatchedItem } from "../services/Inbox.js"
import { Ledger } from "../services/Ledger.js"
import { ordered } from "../services/model/StoreKey.js"
import { Store, Transaction } from "../services/Store.js"
import { inbox as records } from "./internal/messageTables.js"
import { makeSweeper } from "./internal/sweeper.js"

export const layer: Layer.Layer<Inbox, never, Store | Emitters | Ledger | BrokerConfig | EventLog> = Layer.scoped(
  Inbox,
  Effect.gen(function* () {
    const { inboxBytes, inboxMessages } = yield* BrokerConfig
    const store = yield* Store
    const emitters = yield* Emitters
    const ledger = yield* Ledger
    const items = new Map<string, { readonly place: number; readonly item: UndispatchedItem }>()
    const listeners: Array<() => void> = []
    let bytes = 0
    let last = 0

    const take = (transaction: Transaction, id: string) => {
      const taken = items.get(id)
      if (taken === undefined) return undefined
      items.delete(id)
      bytes -= taken.item.message.bytes
      transaction.delete(records, ordered(taken.place))
      transaction.onDurable(() => {
        for (const listener of listeners) listener()
      })
      return taken.item
    }

    const sweeper = yield* makeSweeper("inbox", (now) => {
      const transaction = new Transaction()
      let next = Number.POSITIVE_INFINITY
      for (const { item } of [...items.values()]) {
        const { expiresAt = Number.POSITIVE_INFINITY, id } = item.message
        if (expiresAt > now) {
          next = Math.min(next, expiresAt)
          continue
        }
        take(transaction, id)
        ledger.unsafeCount("expired", 1)
        emitters.unsafeRemoved(transaction, id, "expired")
      }
      store.unsafeCommit(transaction)
      return Number.isFinite(next) ? next : undefined
    })
    const watch = ({ message }: UndispatchedItem) => {
      if (message.expiresAt !== undefined) sweeper.unsafeWakeAt(message.expiresAt)
    }

    for (const [key, item] of store.unsafeRange(records, { from: "", until: "~" })) {
      last = Number.parseInt(key, 36)
      items.set(item.message.id, { place: last, item })
      bytes += item.message.bytes
      watch(item)
    }
    ledger.unsafeHolds("inbox", () => items.size)
    ledger.unsafeCount("accepted", items.size)

    return {
      unsafeHasRoom: (size) => items.size < inboxMessages && bytes + size <= inboxBytes,
      unsafeReserve: (count) => {
        last += count
        return last - count + 1
      },
      unsafeAdd: (transaction, item, reserved) => {
        const { id } = item.message
        const before = items.get(id)
        const place = before?.place ?? reserved ?? ++last
        if (before !== undefined) {
          bytes -= before.item.message.bytes
          // The same message twice is one message.
          ledger.unsafeCount("accepted", -1)
        }
        items.set(id, { place, item })
        bytes += item.message.bytes
        transaction.put(records, ordered(place), item)
        emitters.unsafeAdded(transaction, item)
        watch(item)
      },
      unsafeGet: (id) => items.get(id)?.item,
      unsafeTake: take,
      unsafeList: () => [...items.values()].sort((a, b) => a.place - b.place).map(({ item }) => item),
      unsafeUsage: () => ({
        messages: items.size,
        bytes,
        capacityMessages: inboxMessages,
        capacityBytes: inboxBytes
      }),
      unsafeOnSpace: (listener) => {
        listeners.push(listener)
      }
    }
  })
)
