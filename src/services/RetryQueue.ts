/** Transition reports: the platform learns each endpoint's latest state, however long it takes. Through the Outbox. */
import { Context } from "effect"
import type { ReportReason } from "./model/EndpointLifecycle.js"
import type { Transaction } from "./Store.js"

export class RetryQueue extends Context.Tag("broker/RetryQueue")<
  RetryQueue,
  {
    /** The endpoint's state changed. A report still waiting for the same endpoint is replaced. */
    readonly unsafeReport: (
      transaction: Transaction,
      endpointId: string,
      state: "active" | "reconnecting" | "closed",
      reason: ReportReason
    ) => void
    /** The endpoint's platform record can go, after its last state was reported. */
    readonly unsafeRemove: (transaction: Transaction, endpointId: string) => void
  }
>() {}
