/**
 * The undispatched inbox: messages no endpoint could take, in arrival order, until the owner hands them to one.
 *
 * It takes new mail up to its capacity (messages and bytes); what is beyond waits at the network. Mail the broker has
 * accepted before always enters. A message whose time is over leaves, is counted as expired, and the platform is told.
 *
 * Messages lie in the store alone; what memory holds of each does not depend on its size.
 */
import { Context, Schema } from "effect"
import { optional } from "./model/Json.js"
import { Message } from "./model/Message.js"
import type { Transaction } from "./Store.js"

export const UndispatchedReason = Schema.Literal("unaddressed", "closed_session_continuation")
export type UndispatchedReason = typeof UndispatchedReason.Type

export const UndispatchedItem = Schema.Struct({
  message: Message,
  reason: UndispatchedReason,
  /** The endpoint it was meant for, with `closed_session_continuation`. */
  originalTarget: optional(Schema.String)
})
export interface UndispatchedItem extends Schema.Schema.Type<typeof UndispatchedItem> {}

export interface InboxUsage {
  readonly messages: number
  readonly bytes: number
  readonly capacityMessages: number
  readonly capacityBytes: number
}

export class Inbox extends Context.Tag("broker/Inbox")<
  Inbox,
  {
    /** True when a new message of that size may enter. */
    readonly unsafeHasRoom: (bytes: number) => boolean
    /** Adds at the end, or at a reserved place, whatever the capacity; an id already there is replaced in its place. */
    readonly unsafeAdd: (transaction: Transaction, item: UndispatchedItem, place?: number) => void
    /** The first of so many places at the end, for mail that is added over several turns: what comes later is behind it. */
    readonly unsafeReserve: (count: number) => number
    readonly unsafeHas: (id: string) => boolean
    /** The whole message, read from the store; `undefined` also where its record is damaged. */
    readonly unsafeGet: (id: string) => UndispatchedItem | undefined
    /**
     * Takes the message out. The caller puts it elsewhere in the same transaction. One whose record is damaged stays, and
     * `undefined` is given.
     */
    readonly unsafeTake: (transaction: Transaction, id: string) => UndispatchedItem | undefined
    /** Where it stands: places grow in arrival order. `undefined` when it is not there. */
    readonly unsafePlaceOf: (id: string) => number | undefined
    /**
     * What there is when the first is asked for, in arrival order; with `after` what is behind that place. Each is read from the store when it is asked for, however much later: what has left by then is left out,
     * and so is what is damaged.
     */
    readonly unsafeItems: (after?: number) => IterableIterator<UndispatchedItem>
    readonly unsafeUsage: () => InboxUsage
    /** Calls `listener` whenever something left, until the broker ends. */
    readonly unsafeOnSpace: (listener: () => void) => void
  }
>() {}
