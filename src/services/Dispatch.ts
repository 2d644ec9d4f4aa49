/** Hands an undispatched message to an endpoint. */

import type { Effect } from "effect"
import { Context } from "effect"
import type { DispatchFailed, StoreUnavailable } from "./model/Errors.js"
import type { Transaction } from "./Store.js"

export class Dispatch extends Context.Tag("broker/Dispatch")<
  Dispatch,
  {
    /**
     * Moves the message from the inbox to the end of the endpoint's mailbox, in one commit; done when that is durable. The
     * target is looked up first: when it is not there, the message keeps its place in the inbox. A target that is
     * reconnecting gets it when it is back. What `alongside` adds is part of the same commit.
     */
    readonly dispatch: (
      undispatchedId: string,
      targetEndpointId: string,
      alongside?: (transaction: Transaction) => void
    ) => Effect.Effect<void, DispatchFailed | StoreUnavailable>
  }
>() {}
