/**
 * Messages the broker gave up on, kept for the operator: the oldest go first when there are too many or they are too old.
 * In the books a message is dead from the moment it was given up, whether its letter is still kept or not.
 */
import { Context, Schema } from "effect"
import { Message } from "./model/Message.js"
import type { Transaction } from "./Store.js"

export const DeadLetter = Schema.Struct({
  message: Message,
  /** The endpoint it was for; absent when it never had one. */
  endpointId: Schema.optionalWith(Schema.String, { exact: true }),
  /** The agent the network delivered it for, where it tells several apart and no endpoint was found yet. */
  recipient: Schema.optionalWith(Schema.String, { exact: true }),
  /** `too_large`: its frame was over the limit, and `message` is an outline of it: the beginning of its content, its size. */
  reason: Schema.Literal("delivery_limit", "too_large", "too_deep"),
  /** Epoch milliseconds. */
  at: Schema.Number
})
export interface DeadLetter extends Schema.Schema.Type<typeof DeadLetter> {}

export class DeadLetters extends Context.Tag("broker/DeadLetters")<
  DeadLetters,
  {
    readonly unsafeAdd: (transaction: Transaction, letter: DeadLetter) => void
    /** Oldest first. */
    readonly unsafeList: () => ReadonlyArray<DeadLetter>
    /** The same with their ids. No two letters ever have the same, over restarts too. */
    readonly unsafeEntries: () => ReadonlyArray<readonly [id: string, letter: DeadLetter]>
    readonly unsafeGet: (id: string) => DeadLetter | undefined
    /**
     * Takes the letter out; the caller puts its message elsewhere in the same transaction. In the books it is not dead any
     * more: one that died in an earlier life of the broker, which these books do not know, is accepted with this.
     */
    readonly unsafeRevive: (transaction: Transaction, id: string) => DeadLetter | undefined
    /** Deletes the letter for good. Its message stays dead in the books. */
    readonly unsafePurge: (transaction: Transaction, id: string) => DeadLetter | undefined
    readonly unsafeCount: () => number
  }
>() {}
