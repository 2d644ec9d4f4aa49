/** The undispatched inbox over the store: a few hundred messages, all in memory too. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Emitters } from "../services/Emitters.js"
import { Inbox, type UndispatchedItem } from "../services/Inbox.js"
import { Ledger } from "../services/Ledger.js"
import { ordered } from "../services/model/StoreKey.js"
import { Store, table } from "../services/Store.js"

const records = table<UndispatchedItem>("inbox", 1)

export const layer: Layer.Layer<Inbox, never, Store | Emitters | Ledger | BrokerConfig> = Layer.effect(
  Inbox,
  Effect.gen(function* () {
    const { inboxBytes, inboxMessages } = yield* BrokerConfig
    const store = yield* Store
    const emitters = yield* Emitters
    const ledger = yield* Ledger
    const items = new Map<string, { readonly key: string; readonly item: UndispatchedItem }>()
    const listeners: Array<() => void> = []
    let bytes = 0
    let last = 0

    for (const [key, item] of store.unsafeRange(records, { from: "", until: "~" })) {
      items.set(item.message.id, { key, item })
      bytes += item.message.bytes
      last = Number.parseInt(key, 36)
    }
    ledger.unsafeHolds("inbox", () => items.size)
    ledger.unsafeCount("accepted", items.size)

    return {
      unsafeHasRoom: (size) => items.size < inboxMessages && bytes + size <= inboxBytes,
      unsafeAdd: (transaction, item) => {
        const { id } = item.message
        const before = items.get(id)
        const key = before?.key ?? ordered(++last)
        if (before !== undefined) {
          bytes -= before.item.message.bytes
          // The same message twice is one message.
          ledger.unsafeCount("accepted", -1)
        }
        items.set(id, { key, item })
        bytes += item.message.bytes
        transaction.put(records, key, item)
        emitters.unsafeAdded(transaction, item)
      },
      unsafeGet: (id) => items.get(id)?.item,
      unsafeTake: (transaction, id) => {
        const taken = items.get(id)
        if (taken === undefined) return undefined
        items.delete(id)
        bytes -= taken.item.message.bytes
        transaction.delete(records, taken.key)
        transaction.onDurable(() => {
          for (const listener of listeners) listener()
        })
        return taken.item
      },
      unsafeList: () => Array.from(items.values(), ({ item }) => item),
      unsafeUsage: () => ({
        messages: items.size,
        bytes,
        capacityMessages: inboxMessages,
        capacityBytes: inboxBytes,
        isNearlyFull: items.size >= 0.9 * inboxMessages || bytes >= 0.9 * inboxBytes
      }),
      unsafeOnSpace: (listener) => {
        listeners.push(listener)
      }
    }
  })
)
