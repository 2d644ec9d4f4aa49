/** The undispatched inbox over the store, which alone holds its messages: memory knows the outline of each. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Emitters } from "../services/Emitters.js"
import type { EventLog } from "../services/EventLog.js"
import { Inbox, type UndispatchedItem } from "../services/Inbox.js"
import { Ledger } from "../services/Ledger.js"
import type { Message } from "../services/model/Message.js"
import { join, ordered } from "../services/model/StoreKey.js"
import { type Key, Store, Transaction } from "../services/Store.js"
import { idInKey } from "./internal/idInKey.js"
import { inbox as records } from "./internal/messageTables.js"
import { OutlinedTable } from "./internal/OutlinedTable.js"
import { makeSweeper } from "./internal/sweeper.js"

/** What memory holds of a message. */
interface Outline extends Pick<Message, "bytes"> {
  readonly key: Key
  readonly id: string
  readonly expiresAt: number | undefined
}

const outlineOf = ({ message: { bytes, expiresAt, id } }: UndispatchedItem, key: Key): Outline => ({
  key,
  id,
  bytes,
  expiresAt
})

/**
 * `<place>/<bytes>/<time of expiry>/<id>`: what a start must know of a message is in its key, where that can hold it. Else the
 * key is the place alone, and the record is read.
 */
const keyOf = (place: number, { bytes, expiresAt, id }: Message): Key => {
  const isTold = idInKey(id) === id && (expiresAt === undefined || (Number.isSafeInteger(expiresAt) && expiresAt >= 0))
  return isTold ? join(ordered(place), bytes.toString(36), expiresAt?.toString(36) ?? "", id) : ordered(place)
}

const placeOf = (key: Key): number => Number.parseInt(key.split("/", 1)[0]!, 36)

const outlineOfKey = (key: Key): Outline | undefined => {
  const [, bytes, expiresAt, id] = key.split("/")
  if (bytes === undefined || expiresAt === undefined || id === undefined) return undefined
  return {
    key,
    id,
    bytes: Number.parseInt(bytes, 36),
    expiresAt: expiresAt === "" ? undefined : Number.parseInt(expiresAt, 36)
  }
}

export const layer: Layer.Layer<Inbox, never, Store | Emitters | Ledger | BrokerConfig | EventLog> = Layer.scoped(
  Inbox,
  Effect.gen(function* () {
    const { inboxBytes, inboxMessages } = yield* BrokerConfig
    const store = yield* Store
    const emitters = yield* Emitters
    const ledger = yield* Ledger
    const items = new OutlinedTable(records, store, { outlineOf, outlineOfKey })
    /** By id. */
    const outlines = new Map<string, Outline>()
    const listeners: Array<() => void> = []
    let bytes = 0
    let last = 0

    const remove = (transaction: Transaction, { bytes: size, id, key }: Outline) => {
      outlines.delete(id)
      items.remove(transaction, key)
      bytes -= size
    }

    const leave = (transaction: Transaction, outline: Outline) => {
      remove(transaction, outline)
      transaction.onDurable(() => {
        for (const listener of listeners) listener()
      })
    }

    const get = (id: string): UndispatchedItem | undefined => {
      const outline = outlines.get(id)
      return outline && items.get(outline.key)
    }

    const sweeper = yield* makeSweeper("inbox", (now) => {
      const transaction = new Transaction()
      let next = Number.POSITIVE_INFINITY
      for (const outline of [...outlines.values()]) {
        const { expiresAt = Number.POSITIVE_INFINITY, id } = outline
        if (expiresAt > now) {
          next = Math.min(next, expiresAt)
          continue
        }
        leave(transaction, outline)
        ledger.unsafeCount("expired", 1)
        emitters.unsafeRemoved(transaction, id, "expired")
      }
      store.unsafeCommit(transaction)
      return Number.isFinite(next) ? next : undefined
    })

    const enter = (outline: Outline) => {
      outlines.set(outline.id, outline)
      bytes += outline.bytes
      if (outline.expiresAt !== undefined) sweeper.unsafeWakeAt(outline.expiresAt)
    }

    for (const [key, outline] of items.outlines()) {
      last = placeOf(key)
      enter(outline)
    }
    ledger.unsafeHolds("inbox", () => outlines.size)
    ledger.unsafeCount("accepted", outlines.size)

    /** What there is now behind that place, in order: mail that was moved may have come later than its place says. */
    const behind = (place: number): ReadonlyArray<Outline> =>
      Array.from(outlines.values())
        .filter(({ key }) => placeOf(key) > place)
        .sort((a, b) => (a.key < b.key ? -1 : 1))

    return {
      unsafeHasRoom: (size) => outlines.size < inboxMessages && bytes + size <= inboxBytes,
      unsafeReserve: (count) => {
        last += count
        return last - count + 1
      },
      unsafeAdd: (transaction, item, reserved) => {
        const before = outlines.get(item.message.id)
        const place = before !== undefined ? placeOf(before.key) : (reserved ?? ++last)
        if (before !== undefined) {
          remove(transaction, before)
          // The same message twice is one message.
          ledger.unsafeCount("accepted", -1)
        }
        enter(items.add(transaction, keyOf(place, item.message), item))
        emitters.unsafeAdded(transaction, item)
      },
      unsafeHas: (id) => outlines.has(id),
      unsafeGet: get,
      unsafeTake: (transaction, id) => {
        const item = get(id)
        if (item !== undefined) leave(transaction, outlines.get(id)!)
        return item
      },
      unsafePlaceOf: (id) => {
        const outline = outlines.get(id)
        return outline && placeOf(outline.key)
      },
      *unsafeItems(after = 0) {
        for (const { id } of behind(after)) {
          const item = get(id)
          if (item !== undefined) yield item
        }
      },
      unsafeUsage: () => ({
        messages: outlines.size,
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
