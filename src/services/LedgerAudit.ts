/** Compares the books with the records of the store: what the broker says it holds must lie there. */
import type { Effect } from "effect"
import { Context } from "effect"
import type { Audit } from "./ipc/StoreGroup.js"
import type { StoreUnavailable } from "./model/Errors.js"

export class LedgerAudit extends Context.Tag("broker/LedgerAudit")<
  LedgerAudit,
  {
    /**
     * Counts at a moment at which everything that was decided is durable. A broker that is never so quiet is counted all the
     * same, and the answer says so: its differences may be what was on its way.
     */
    readonly audit: Effect.Effect<Audit, StoreUnavailable>
  }
>() {}
