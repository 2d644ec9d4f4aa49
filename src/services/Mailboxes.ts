/**
 * An endpoint's undelivered mail, whatever the reason it is not delivered yet: its plugin is away, slow, or has not
 * acknowledged. The one place where a message waits for an endpoint.
 *
 * Mail is delivered in order, over reconnection, reattachment and dispatch. While the plugin keeps up, messages are pushed
 * live and wait in memory for their receipt; when it does not, they are stored and thereby accepted. What is in flight is
 * bounded by a window; what is stored by the mailbox quotas. Messages are pushed again only after the channel ended, was
 * replaced, or the plugin refused one, and then with `redelivered: true`.
 */
import { Context } from "effect"
import type { ChannelId, EndpointKey, MessageId, PushId } from "./model/Ids.js"
import type { Outlet } from "./model/MailboxState.js"
import type { Message } from "./model/Message.js"
import type { Transaction } from "./Store.js"

export interface Delivery {
  readonly message: Message
  /** What the connector is told once the message is safe; `undefined` for mail the broker accepted before. */
  readonly token: unknown
  /**
   * `new`: the quotas may refuse it, for it comes again. `unrepeatable`: new, and nobody else has it: it always enters.
   * `moved`: from elsewhere in the store: it always enters, at the end, and is delivered once it is stored here.
   */
  readonly kind: "new" | "unrepeatable" | "moved"
  /** The plugin may have it: from an earlier life of the broker, or from before it was given up. */
  readonly mayBeKnown?: boolean
}

export interface MailboxUsage {
  /** Not delivered: stored or in flight. */
  readonly undelivered: number
  readonly inFlight: number
  /** Of the undelivered, those stored or being stored. */
  readonly stored: number
  /** Of those stored. */
  readonly storedBytes: number
}

export class Mailboxes extends Context.Tag("broker/Mailboxes")<
  Mailboxes,
  {
    /** An empty mailbox for a new endpoint; `name` is what dead letters say of it. */
    readonly unsafeOpen: (endpoint: EndpointKey, name: string) => void
    /**
     * Called once, when every endpoint that is still there has been opened: mail that was found of others becomes undispatched.
     * Returns the greatest key of an endpoint that the store had mail of; 0 when there was none.
     */
    readonly unsafeOpenedAll: (transaction: Transaction) => number
    /** Pushes or stores the message. False: neither, a quota or a failing store forbids it; the caller keeps the message. */
    readonly unsafeDeliver: (transaction: Transaction, endpoint: EndpointKey, delivery: Delivery) => boolean
    /** True when mail of that id was found in the store at the start, and was neither delivered nor given up since. */
    readonly unsafeHolds: (id: MessageId) => boolean
    /** Delivers over the channel from now on, oldest first. */
    readonly unsafeAttach: (transaction: Transaction, endpoint: EndpointKey, outlet: Outlet) => void
    /** Stops delivering; what was in flight waits. */
    readonly unsafeDetach: (transaction: Transaction, endpoint: EndpointKey) => void
    /** The mailbox ends: its mail becomes undispatched, meant for `originalTarget`. */
    readonly unsafeHandToInbox: (transaction: Transaction, endpoint: EndpointKey, originalTarget: string) => void
    /** The plugin acknowledged a push. False when nothing of that id is in flight on that channel. */
    readonly unsafeReceipt: (transaction: Transaction, channel: ChannelId, push: PushId) => boolean
    /** The plugin refused a push: again later, or dead after too many failures. False as above. */
    readonly unsafeRefuse: (transaction: Transaction, channel: ChannelId, push: PushId, reason: string) => boolean
    /** The channel's backlog is gone. */
    readonly unsafeWritable: (channel: ChannelId) => void
    readonly unsafeUsage: (endpoint: EndpointKey) => MailboxUsage
    /** Of all mailboxes. */
    readonly unsafeTotals: () => { readonly messages: number; readonly bytes: number }
    /** Calls `listener` whenever a mailbox that refused mail has room again, until the broker ends. */
    readonly unsafeOnSpace: (listener: () => void) => void
  }
>() {}
