/**
 * Everything owed to the platform, until it is accepted.
 *
 * Reports of one lane (`laneOf`) are posted one after the other in the order they were added; lanes do not wait for each
 * other. A report that fails is posted again, with backoff, for ever: after a network error, 408, 425, 429 or 5xx its lane
 * waits; after 401 all lanes pause and status warns. What the platform refuses for good is set aside as a dead report, where
 * an operator sees it, and its lane goes on. Reports are durable: they survive the broker. Of several waiting states of one
 * endpoint only the latest is posted.
 */

import type { Effect } from "effect"
import { Context } from "effect"
import type { PlatformReport } from "./model/PlatformReport.js"
import type { Transaction } from "./Store.js"

export interface OutboxStatus {
  /** Reports not accepted yet. */
  readonly waiting: number
  /** Reports refused for good. */
  readonly dead: number
  /** Posts are paused because the platform refused the credentials; until then, epoch milliseconds. */
  readonly pausedUntil: number | undefined
  /** The last failure, as a sentence; absent when the last post worked. */
  readonly lastFailure: string | undefined
}

export class Outbox extends Context.Tag("broker/Outbox")<
  Outbox,
  {
    /** Owes `report` as soon as the transaction is durable. */
    readonly unsafeAdd: (transaction: Transaction, report: PlatformReport) => void
    /** Done when nothing is owed any more. For shutdown and tests: bound it. */
    readonly drained: Effect.Effect<void>
    readonly unsafeStatus: () => OutboxStatus
  }
>() {}
