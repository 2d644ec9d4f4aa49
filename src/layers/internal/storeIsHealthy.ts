import { Effect } from "effect"
import { StoreUnavailable } from "../../services/model/Errors.js"
import type { Store } from "../../services/Store.js"

/** Refuses work that has to be stored while the store fails. */
export const storeIsHealthy = (store: Store["Type"]): Effect.Effect<void, StoreUnavailable> =>
  Effect.suspend(() => {
    const health = store.unsafeHealth()
    return health._tag === "Healthy"
      ? Effect.void
      : new StoreUnavailable({ message: `The broker cannot write to its store: ${health.reason}.`, retryable: true })
  })
