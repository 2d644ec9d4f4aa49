/**
 * Everything owed to the platform, until it is accepted.
 *
 * Reports of one lane (`laneOf`) are posted one after the other in the order they were added; lanes do not wait for each
 * other. A report that fails is posted again, with backoff, for ever: after 408, 425, 5xx or a timeout its lane waits; after a
 * network error or 429, which are not about the report, all lanes do; after 401 all pause and status warns. What the platform refuses for good is set aside as a dead report, where
 * an operator sees it, and its lane goes on. Reports are durable: they survive the broker. Of several waiting states of one
 * endpoint only the latest is posted.
 */

import type { Effect } from "effect"
import { Context } from "effect"
import { laneOf, type PlatformReport } from "./model/PlatformReport.js"
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

/** What the platform refused for good. */
export interface DeadReport {
  readonly report: PlatformReport
  /** What the platform said. */
  readonly reason: string
  /** Epoch milliseconds. */
  readonly at: number
}

/** A dead report without what it would have told. */
export interface DeadReportOutline extends Omit<DeadReport, "report"> {
  readonly report: PlatformReport["_tag"]
  readonly lane: string
}

/** What lists and memory have of it. */
export const outlineOf = ({ report, ...rest }: DeadReport): DeadReportOutline => ({
  ...rest,
  report: report._tag,
  lane: laneOf(report)
})

export class Outbox extends Context.Tag("broker/Outbox")<
  Outbox,
  {
    /** Owes `report` as soon as the transaction is durable. */
    readonly unsafeAdd: (transaction: Transaction, report: PlatformReport) => void
    /** Done when nothing is owed any more. For shutdown and tests: bound it. */
    readonly drained: Effect.Effect<void>
    readonly unsafeStatus: () => OutboxStatus
    /** Refused reports with their ids, the first refused first; kept as long as dead letters are. */
    readonly unsafeDead: () => ReadonlyArray<readonly [id: string, dead: DeadReportOutline]>
    /** The whole of one; `undefined` when there is none of this id, or its record is damaged. */
    readonly unsafeGetDead: (id: string) => DeadReport | undefined
    /**
     * Owes a refused report again, behind what its lane owes. False, and nothing changed, when a report waits that makes it
     * pointless: it does not take the place of a newer one.
     */
    readonly unsafeRetry: (transaction: Transaction, id: string) => boolean
    /** Deletes a refused report for good; false when there is none. */
    readonly unsafePurge: (transaction: Transaction, id: string) => boolean
  }
>() {}
