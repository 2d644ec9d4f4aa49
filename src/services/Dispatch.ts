/** Hands an undispatched message to an endpoint. */

import type { Effect } from "effect"
import { Context } from "effect"
import type { DispatchFailed, StoreUnavailable } from "./model/Errors.js"
import type { Transaction } from "./Store.js"

export class Dispatch extends Context.Tag("broker/Dispatch")<
  Dispatch,
  {
    /**
     * Moves the message from the inbox to the end of the endpoint's mailbox. The target is looked up first: when it is not there,
     * the message keeps its place in the inbox, and why is returned. A target that is reconnecting gets it when it is back.
     */
    readonly unsafeDispatch: (
      transaction: Transaction,
      undispatchedId: string,
      targetEndpointId: string
    ) => DispatchFailed | undefined
    /** The same in a commit of its own; done when that is durable. */
    readonly dispatch: (
      undispatchedId: string,
      targetEndpointId: string
    ) => Effect.Effect<void, DispatchFailed | StoreUnavailable>
  }
>() {}
