/** Messages the broker gave up on, kept for the operator: the oldest go first when there are too many or they are too old. */
import { Context, Schema } from "effect"
import { Message } from "./model/Message.js"
import type { Transaction } from "./Store.js"

export const DeadLetter = Schema.Struct({
  message: Message,
  /** The endpoint it was for; absent when it never had one. */
  endpointId: Schema.optionalWith(Schema.String, { exact: true }),
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
    readonly unsafeCount: () => number
  }
>() {}
