import type { Scope } from "effect"
import { Effect } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import type { EventLog } from "../../services/EventLog.js"
import type { EndpointKey } from "../../services/model/Ids.js"
import { join, ordered } from "../../services/model/StoreKey.js"
import { Store, Transaction, table } from "../../services/Store.js"
import { idInKey } from "./idInKey.js"
import { type OwnedId, RecentIds } from "./RecentIds.js"
import { sweptRegularly } from "./sweptRegularly.js"

const keyOf = (endpoint: EndpointKey, id: string) => join(ordered(endpoint), idInKey(id))

export interface StoredIds {
  readonly ids: RecentIds
  readonly unsafeAdd: (transaction: Transaction, endpoint: EndpointKey, id: string) => void
  readonly unsafeRemove: (transaction: Transaction, endpoint: EndpointKey, id: string) => void
  readonly unsafeForget: (transaction: Transaction, endpoint: EndpointKey) => void
  readonly unsafeForgetOthers: (transaction: Transaction, isThere: (endpoint: EndpointKey) => boolean) => void
}

/** `RecentIds` with the limits of the settings, in the store under `name`, swept regularly. */
export const makeStoredIds = (
  name: string,
  sweepEvent: string
): Effect.Effect<StoredIds, never, Store | BrokerConfig | EventLog | Scope.Scope> =>
  Effect.gen(function* () {
    const { correlationMs, correlations } = yield* BrokerConfig
    const store = yield* Store
    const clock = yield* Effect.clock
    const records = table<OwnedId>(name, 1)
    let transaction: Transaction
    const within = <A>(given: Transaction, change: () => A): A => {
      transaction = given
      return change()
    }

    const ids = new RecentIds({ count: correlations, ageMs: correlationMs }, (endpoint, id) =>
      transaction.delete(records, keyOf(endpoint, id))
    )
    const stored = store.unsafeRange(records, { from: "", until: "~" }).map(([, owned]) => owned)
    const recovery = new Transaction()
    within(recovery, () => ids.restore(stored))
    store.unsafeCommit(recovery)
    yield* sweptRegularly(sweepEvent, (given, now) => within(given, () => ids.sweep(now)))

    return {
      ids,
      unsafeAdd: (given, endpoint, id) =>
        within(given, () => {
          given.put(records, keyOf(endpoint, id), ids.add(endpoint, id, clock.unsafeCurrentTimeMillis()))
        }),
      unsafeRemove: (given, endpoint, id) => within(given, () => ids.remove(endpoint, id)),
      unsafeForget: (given, endpoint) => within(given, () => ids.forget(endpoint)),
      unsafeForgetOthers: (given, isThere) => within(given, () => ids.forgetOthers(isThere))
    }
  })
