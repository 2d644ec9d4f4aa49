/** The books: every message this broker accepted is delivered, held, in the inbox, expired or dead. */
import { Context } from "effect"

/** Messages since this broker process started; `accepted` begins with what was held then. */
export interface Books {
  /** Taken over from the network, or found in the store at the start. */
  readonly accepted: number
  /** Acknowledged by a plugin, or written to the socket of one that does not acknowledge. */
  readonly delivered: number
  /** In mailboxes. */
  readonly held: number
  /** In the undispatched inbox. */
  readonly inbox: number
  /** Ended by `metadata.expires_at`. */
  readonly expired: number
  /** Given up: refused too often, or over a limit. */
  readonly dead: number
  /** `accepted − delivered − held − inbox − expired − dead`: 0, or the broker has lost count of something. */
  readonly unaccounted: number
}

/** What happened to messages. */
export type Entry = "accepted" | "delivered" | "expired" | "dead"
/** Places that count what they hold at the moment. */
export type Holding = "held" | "inbox"

export class Ledger extends Context.Tag("broker/Ledger")<
  Ledger,
  {
    /** Counts in the same turn in which the decision is made. */
    readonly unsafeCount: (entry: Entry, messages: number) => void
    /** Names the one who knows how many messages lie there. */
    readonly unsafeHolds: (holding: Holding, count: () => number) => void
    /** Messages accepted so far. */
    readonly unsafeAccepted: () => number
    readonly unsafeBooks: () => Books
  }
>() {}
