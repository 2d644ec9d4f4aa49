import { Effect } from "effect"
import { StoreUnavailable } from "../../services/model/Errors.js"
import type { Store } from "../../services/Store.js"

/** The refusal of work that has to be stored while the store fails, or `undefined`. */
export const refuseUnstored = (store: Store["Type"]): StoreUnavailable | undefined => {
  const health = store.unsafeHealth()
  return health._tag === "Healthy"
    ? undefined
    : new StoreUnavailable({ message: `The broker cannot write to its store: ${health.reason}.`, retryable: true })
}

/** `refuseUnstored`, where the work goes on in another turn. */
export const storeIsHealthy = (store: Store["Type"]): Effect.Effect<void, StoreUnavailable> =>
  Effect.suspend(() => refuseUnstored(store) ?? Effect.void)
