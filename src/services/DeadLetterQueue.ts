/**
 * Everything the broker gave up on, for the operator: messages that could not be delivered, and reports the platform refused.
 *
 * Ids begin with `m-` for messages and `r-` for reports, and are never used twice. What is retried or purged is gone from
 * here in the same commit; the effect is done when that is durable.
 */
import type { Effect } from "effect"
import { Context } from "effect"
import type { DeadEntry, DeadRetried, DeadSummary } from "./ipc/DeadLetterGroup.js"
import type { DeadLetterNotRetryable, DeadLetterUnknown, StoreUnavailable } from "./model/Errors.js"

export class DeadLetterQueue extends Context.Tag("broker/DeadLetterQueue")<
  DeadLetterQueue,
  {
    /** All of them, without content, the oldest first. */
    readonly unsafeList: () => ReadonlyArray<DeadSummary>
    /** One of them with its content. */
    readonly show: (id: string) => Effect.Effect<DeadEntry, DeadLetterUnknown>
    /**
     * A message goes to the end of its endpoint's mailbox, or to the inbox when the endpoint is gone; a report back to the
     * outbox. Refused when it would be given up again at once, or would tell the platform what is no longer so.
     */
    readonly retry: (
      id: string
    ) => Effect.Effect<DeadRetried, DeadLetterUnknown | DeadLetterNotRetryable | StoreUnavailable>
    /** Deletes it for good. A message stays dead in the books. */
    readonly purge: (id: string) => Effect.Effect<void, DeadLetterUnknown | StoreUnavailable>
    /** Deletes all that are there at this moment; how many. */
    readonly purgeAll: Effect.Effect<number, StoreUnavailable>
  }
>() {}
