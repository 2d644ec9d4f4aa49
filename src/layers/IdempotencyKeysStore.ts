/** Idempotency keys in memory and in the store, the oldest of each endpoint first. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { IdempotencyKeys, type RememberedSend } from "../services/IdempotencyKeys.js"
import type { EndpointKey } from "../services/model/Ids.js"
import { join, ordered } from "../services/model/StoreKey.js"
import { Store, type Transaction, table } from "../services/Store.js"
import { idInKey } from "./internal/idInKey.js"
import { oldestFirst } from "./internal/oldestFirst.js"

interface Remembered extends RememberedSend {
  readonly endpoint: EndpointKey
  readonly key: string
  /** Epoch milliseconds. */
  readonly at: number
}
const records = table<Remembered>("idempotency", 1)

const recordKey = (endpoint: EndpointKey, key: string) => join(ordered(endpoint), idInKey(key))

/** Of one endpoint. */
class Keys extends Map<string, Remembered> {
  readonly oldest = oldestFirst(this)
}

export const layer: Layer.Layer<IdempotencyKeys, never, Store | BrokerConfig> = Layer.effect(
  IdempotencyKeys,
  Effect.gen(function* () {
    const { idempotencyKeys, idempotencyMs } = yield* BrokerConfig
    const store = yield* Store
    const clock = yield* Effect.clock
    const byEndpoint = new Map<EndpointKey, Keys>()

    const keysOf = (endpoint: EndpointKey) => {
      let keys = byEndpoint.get(endpoint)
      if (keys === undefined) {
        keys = new Keys()
        byEndpoint.set(endpoint, keys)
      }
      return keys
    }
    const stored = store.unsafeRange(records, { from: "", until: "~" }).map(([, remembered]) => remembered)
    for (const remembered of stored.toSorted((a, b) => a.at - b.at)) {
      keysOf(remembered.endpoint).set(remembered.key, remembered)
    }

    const isOver = ({ at }: Remembered) => clock.unsafeCurrentTimeMillis() - at >= idempotencyMs
    const get = (endpoint: EndpointKey, key: string) => {
      const remembered = byEndpoint.get(endpoint)?.get(key)
      return remembered === undefined || isOver(remembered) ? undefined : remembered
    }
    const remove = (transaction: Transaction, endpoint: EndpointKey, key: string) => {
      if (byEndpoint.get(endpoint)?.delete(key) === true) transaction.delete(records, recordKey(endpoint, key))
    }

    return {
      unsafeGet: get,
      unsafePut: (transaction, endpoint, key, send) => {
        const keys = keysOf(endpoint)
        const before = get(endpoint, key)
        // One whose time is over is a new one.
        if (before === undefined) keys.delete(key)
        const remembered = { ...send, endpoint, key, at: before?.at ?? clock.unsafeCurrentTimeMillis() }
        keys.set(key, remembered)
        transaction.put(records, recordKey(endpoint, key), remembered)
        while (keys.size > idempotencyKeys) remove(transaction, endpoint, keys.oldest())
      },
      unsafeRemove: remove,
      unsafeForget: (transaction, endpoint) => {
        for (const key of [...(byEndpoint.get(endpoint)?.keys() ?? [])]) remove(transaction, endpoint, key)
        byEndpoint.delete(endpoint)
      }
    }
  })
)
