/**
 * Does what the platform says, each event at most once.
 *
 * An event that had an effect is remembered with its outcome, beyond the life of the broker; the same key again only answers
 * with that outcome. One that is being worked on is shared. An event that failed without effect is tried again when it comes
 * again. Every event with a key is acknowledged until the platform accepts it; the effect, its outcome and the acknowledgement
 * become durable together.
 *
 * Events about the same message or endpoint are worked on in the order they came; others do not wait for each other. A bounded
 * number is worked on at a time. While the store fails nothing is begun.
 */

import type { Effect } from "effect"
import { Context } from "effect"

export class ControlDispatcher extends Context.Tag("broker/ControlDispatcher")<
  ControlDispatcher,
  {
    /**
     * Handles the data of one event; done when its outcome is durable and its acknowledgement owed. The order of events is that
     * in which these effects begin. Never fails. Interrupted, the event is as if it had not come, or done.
     */
    readonly handle: (data: string) => Effect.Effect<void>
  }
>() {}
