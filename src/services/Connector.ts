/**
 * The link to the outside: the one part an integrator replaces to put the broker on another network.
 *
 * Inbound, the connector hands over messages in batches and the broker later says of each that it is safe (`accept`) or that
 * it could not keep it (`release`). Outbound, `send` is answered by the network. What a connector owes is what the connector
 * contract suite checks.
 */

import type { Effect, Scope, Stream } from "effect"
import { Context, Data } from "effect"
import type { Metadata } from "./model/Metadata.js"

export interface ConnectorAbilities {
  /** `cumulative`: a cursor passes contiguous accepted messages. `individual`: each by itself. `none`: the network wants no word. */
  readonly accept: "cumulative" | "individual" | "none"
  /** Messages released, or unaccepted when the broker died, come again. */
  readonly redelivers: boolean
  /** Sending the same `messageId` twice delivers it once. */
  readonly dedupesSends: boolean
  /** No larger frame passes, in bytes. */
  readonly maxFrameBytes: number
}

/** A message as the network delivered it. */
export interface InboundItem {
  /** The network's id for it; absent where it gives none. */
  readonly messageId?: string
  readonly from: string
  readonly content: string
  readonly contentType: string
  readonly metadata: Metadata
  /** The agent it was delivered for, where one connection carries several. */
  readonly recipient?: string
  /** Size of the frame it came in. */
  readonly bytes: number
  /** Names this delivery in `accept` and `release`. Opaque. */
  readonly token: unknown
  /** It comes again when released. Otherwise the broker must keep it, whatever its limits say. */
  readonly redeliverable: boolean
  /** An earlier life of the broker may have pushed it: its plugin is told so. */
  readonly mayBeKnown?: boolean
  /** It was over the network's limit and is here in outline only: it becomes a dead letter. `bytes` is what it came in. */
  readonly isTooLarge?: boolean
}

export interface OutboundMessage {
  /** Minted by the broker. */
  readonly messageId: string
  readonly to: string
  readonly content: string
  readonly contentType: string
  readonly metadata: Metadata
  /** The agent the sending endpoint speaks for; absent for the account itself. */
  readonly agent: string | undefined
  readonly requireLive: boolean
  /** It may have been sent under this id before, with an outcome nobody knows. */
  readonly mayBeKnown?: boolean
}

export interface SendReceipt {
  readonly messageId: string
  readonly status: "delivered" | "stored"
}

/** Surely not sent: the link is down. */
export class ConnectorUnavailable extends Data.TaggedError("ConnectorUnavailable")<{ readonly reason: string }> {
  override get message() {
    return `The message was not sent: ${this.reason}.`
  }
}

/** Sent, and no answer came: it may or may not have arrived. */
export class SendOutcomeUnknown extends Data.TaggedError("SendOutcomeUnknown")<{
  readonly messageId: string
  readonly reason: string
}> {
  override get message() {
    return `It is not known whether message ${this.messageId} arrived: ${this.reason}.`
  }
}

/** The network refused it. `code` is the network's own. */
export class SendRejected extends Data.TaggedError("SendRejected")<{
  readonly code: string
  readonly reason: string
}> {
  override get message() {
    return `The network refused the message (${this.code}): ${this.reason}.`
  }
}

export type SendError = ConnectorUnavailable | SendOutcomeUnknown | SendRejected

export type LinkState = "connecting" | "up" | "down"

export interface Link {
  readonly state: LinkState
  /** Epoch milliseconds. */
  readonly since: number
  /** Why it is not up; absent while it is. */
  readonly reason?: string
  /** Whom the network knows at this end, where it says so. */
  readonly agent?: string
  readonly owner?: string
}

export class Connector extends Context.Tag("broker/Connector")<
  Connector,
  {
    readonly name: string
    readonly abilities: ConnectorAbilities
    /**
     * From now until the scope ends `handler` gets every inbound message, in batches and in the network's order; one that came
     * out of order waits a moment for those before it. Until it is called at most 10,000 messages or 64 MiB wait, then reading
     * pauses; none is lost. `handler` is synchronous and does not throw.
     */
    readonly receive: (handler: (batch: ReadonlyArray<InboundItem>) => void) => Effect.Effect<void, never, Scope.Scope>
    /** These are safe with the broker. Any order, repeats allowed; a connector with a cursor makes it contiguous. */
    readonly unsafeAccept: (tokens: ReadonlyArray<unknown>) => void
    /** The broker does not have these: they may be delivered again, and are once `unsafeRedeliver` asks. */
    readonly unsafeRelease: (tokens: ReadonlyArray<unknown>) => void
    /** Asks the network for everything released and not accepted since, in its order. */
    readonly unsafeRedeliver: () => void
    /** Done when the network has answered. */
    readonly send: (message: OutboundMessage) => Effect.Effect<SendReceipt, SendError>
    readonly unsafeLink: () => Link
    /** The current link, then every change. A slow reader sees the latest and may miss what was between. */
    readonly links: Stream.Stream<Link>
  }
>() {}
