/**
 * Messages the broker gave up on, kept for the operator: the oldest go first when there are too many, they are too large
 * together, or too old, with a line in the log. In the books a message is dead from the moment it was given up, whether its letter
 * is still kept or not. Letters lie in the store; memory holds who, what and when of each, and nothing of its content.
 */
import { Context, Schema } from "effect"
import { optional } from "./model/Json.js"
import { Message } from "./model/Message.js"
import type { Transaction } from "./Store.js"

export const DeadLetter = Schema.Struct({
  message: Message,
  /** The endpoint it was for; absent when it never had one. */
  endpointId: optional(Schema.String),
  /** The agent the network delivered it for, where it tells several apart and no endpoint was found yet. */
  recipient: optional(Schema.String),
  /** `too_large`: its frame was over the limit, and `message` is an outline of it: the beginning of its content, its size. */
  reason: Schema.Literal("delivery_limit", "too_large", "too_deep"),
  /** Epoch milliseconds. */
  at: Schema.Number
})
export interface DeadLetter extends Schema.Schema.Type<typeof DeadLetter> {}

/** A letter without what its message says. */
export interface DeadLetterOutline extends Omit<DeadLetter, "message"> {
  readonly message: Pick<Message, "id" | "from" | "bytes">
}

export class DeadLetters extends Context.Tag("broker/DeadLetters")<
  DeadLetters,
  {
    readonly unsafeAdd: (transaction: Transaction, letter: DeadLetter) => void
    /** The oldest first, with their ids. No two letters ever have the same, over restarts too. */
    readonly unsafeList: () => ReadonlyArray<readonly [id: string, letter: DeadLetterOutline]>
    /** The whole letter; `undefined` when there is none of this id, or its record is damaged. */
    readonly unsafeGet: (id: string) => DeadLetter | undefined
    /**
     * Takes the letter out, if it is there; the caller puts its message elsewhere in the same transaction. In the books it is
     * not dead any more: one that died in an earlier life of the broker, which these books do not know, is accepted with this.
     */
    readonly unsafeRevive: (transaction: Transaction, id: string) => void
    /** Deletes the letter for good; false when there is none. Its message stays dead in the books. */
    readonly unsafePurge: (transaction: Transaction, id: string) => boolean
    readonly unsafeCount: () => number
  }
>() {}
