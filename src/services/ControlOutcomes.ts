/**
 * What became of control events, by their idempotency key, and the acknowledgements owed for them.
 *
 * Remembered are events that had an effect; of others nothing is kept, so that the platform may try them again. The oldest are
 * forgotten when there are too many, except those whose effect is still on its way. All of it is durable.
 */
import { Context } from "effect"
import type { ControlOutcome } from "./model/ControlEvent.js"
import type { Transaction } from "./Store.js"

export class ControlOutcomes extends Context.Tag("broker/ControlOutcomes")<
  ControlOutcomes,
  {
    readonly unsafeGet: (key: string) => ControlOutcome | undefined
    /** From now on the event has this outcome. */
    readonly unsafeRemember: (transaction: Transaction, key: string, outcome: ControlOutcome) => void
    /** The event turned out to have had no effect. */
    readonly unsafeForget: (transaction: Transaction, key: string) => void
    /** Owes the platform this answer, after earlier ones of the same event, until it is accepted. */
    readonly unsafeAcknowledge: (transaction: Transaction, key: string, outcome: ControlOutcome) => void
  }
>() {}
