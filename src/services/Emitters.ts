/** Events the platform shows the owner: undispatched messages and presence. Through the Outbox. */
import { Context } from "effect"
import type { UndispatchedItem } from "./Inbox.js"
import type { Presence, PresenceReason } from "./model/PresenceMachine.js"
import type { Transaction } from "./Store.js"

export class Emitters extends Context.Tag("broker/Emitters")<
  Emitters,
  {
    /** A message entered the inbox. */
    readonly unsafeAdded: (transaction: Transaction, item: UndispatchedItem) => void
    /** It was handed to an endpoint. */
    readonly unsafeDispatched: (transaction: Transaction, undispatchedId: string, endpointId: string) => void
    /** It left the inbox without being dispatched, for `reason`. */
    readonly unsafeRemoved: (transaction: Transaction, undispatchedId: string, reason: string) => void
    /** The broker's presence changed. Of several waiting changes only the latest is posted. */
    readonly unsafePresence: (transaction: Transaction, state: Presence, reason: PresenceReason) => void
    /** The endpoint's task hint changed. Only the latest is posted. */
    readonly unsafeTaskHint: (transaction: Transaction, endpointId: string, taskHint: string) => void
  }
>() {}
