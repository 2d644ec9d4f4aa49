/** Idempotency keys in memory and in the store, the oldest of each endpoint first. */
import { createHash } from "node:crypto"
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { IdempotencyKeys, type RememberedSend } from "../services/IdempotencyKeys.js"
import type { EndpointKey } from "../services/model/Ids.js"
import { join, ordered } from "../services/model/StoreKey.js"
import { Store, type Transaction, table } from "../services/Store.js"

interface Remembered extends RememberedSend {
  readonly endpoint: EndpointKey
  readonly key: string
  /** Epoch milliseconds. */
  readonly at: number
}
const records = table<Remembered>("idempotency", 1)

/** Keys come from plugins and may be any text. */
const recordKey = (endpoint: EndpointKey, key: string) =>
  join(ordered(endpoint), createHash("sha256").update(key).digest("hex"))

export const layer: Layer.Layer<IdempotencyKeys, never, Store | BrokerConfig> = Layer.effect(
  IdempotencyKeys,
  Effect.gen(function* () {
    const { idempotencyKeys, idempotencyMs } = yield* BrokerConfig
    const store = yield* Store
    const clock = yield* Effect.clock
    const byEndpoint = new Map<EndpointKey, Map<string, Remembered>>()

    const keysOf = (endpoint: EndpointKey) => {
      let keys = byEndpoint.get(endpoint)
      if (keys === undefined) {
        keys = new Map()
        byEndpoint.set(endpoint, keys)
      }
      return keys
    }
    const stored = store.unsafeRange(records, { from: "", until: "~" }).map(([, remembered]) => remembered)
    for (const remembered of stored.toSorted((a, b) => a.at - b.at)) {
      keysOf(remembered.endpoint).set(remembered.key, remembered)
    }

    const isOver = ({ at }: Remembered) => clock.unsafeCurrentTimeMillis() - at >= idempotencyMs
    const remove = (transaction: Transaction, endpoint: EndpointKey, key: string) => {
      if (byEndpoint.get(endpoint)?.delete(key) === true) transaction.delete(records, recordKey(endpoint, key))
    }

    return {
      unsafeGet: (endpoint, key) => {
        const remembered = byEndpoint.get(endpoint)?.get(key)
        return remembered === undefined || isOver(remembered) ? undefined : remembered
      },
      unsafePut: (transaction, endpoint, key, send) => {
        const keys = keysOf(endpoint)
        const at = keys.get(key)?.at ?? clock.unsafeCurrentTimeMillis()
        const remembered = { ...send, endpoint, key, at }
        keys.set(key, remembered)
        transaction.put(records, recordKey(endpoint, key), remembered)
        // The oldest go first, and whatever is over goes with them.
        for (const [oldest, entry] of keys) {
          if (keys.size <= idempotencyKeys && !isOver(entry)) break
          remove(transaction, endpoint, oldest)
        }
      },
      unsafeRemove: remove,
      unsafeForget: (transaction, endpoint) => {
        for (const key of [...(byEndpoint.get(endpoint)?.keys() ?? [])]) remove(transaction, endpoint, key)
        byEndpoint.delete(endpoint)
      }
    }
  })
)
