/** Idempotency keys in memory and in the store, the oldest of each endpoint first. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import type { EventLog } from "../services/EventLog.js"
import { IdempotencyKeys, type RememberedSend } from "../services/IdempotencyKeys.js"
import type { EndpointKey } from "../services/model/Ids.js"
import { join, ordered } from "../services/model/StoreKey.js"
import { Store, type Transaction, table } from "../services/Store.js"
import { idInKey } from "./internal/idInKey.js"
import { oldestFirst } from "./internal/oldestFirst.js"
import { sweptRegularly } from "./internal/sweptRegularly.js"

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

export const layer: Layer.Layer<IdempotencyKeys, never, Store | BrokerConfig | EventLog> = Layer.scoped(
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

    const isOver = ({ at }: Remembered, now: number) => now - at >= idempotencyMs
    const get = (endpoint: EndpointKey, key: string) => {
      const remembered = byEndpoint.get(endpoint)?.get(key)
      return remembered === undefined || isOver(remembered, clock.unsafeCurrentTimeMillis()) ? undefined : remembered
    }
    const remove = (transaction: Transaction, endpoint: EndpointKey, key: string) => {
      const keys = byEndpoint.get(endpoint)
      if (keys?.delete(key) !== true) return
      if (keys.size === 0) byEndpoint.delete(endpoint)
      transaction.delete(records, recordKey(endpoint, key))
    }
    const forget = (transaction: Transaction, endpoint: EndpointKey) => {
      for (const key of [...(byEndpoint.get(endpoint)?.keys() ?? [])]) remove(transaction, endpoint, key)
    }

    yield* sweptRegularly("idempotency_keys_sweep", (transaction, now) => {
      let removed = 0
      for (const [endpoint, keys] of byEndpoint) {
        for (const [key, remembered] of keys) {
          if (!isOver(remembered, now)) break
          remove(transaction, endpoint, key)
          removed++
        }
      }
      return removed
    })

    return {
      unsafeGet: get,
      unsafePut: (transaction, endpoint, key, send) => {
        const before = get(endpoint, key)
        // One whose time is over is a new one.
        if (before === undefined) remove(transaction, endpoint, key)
        const keys = keysOf(endpoint)
        const remembered = { ...send, endpoint, key, at: before?.at ?? clock.unsafeCurrentTimeMillis() }
        keys.set(key, remembered)
        transaction.put(records, recordKey(endpoint, key), remembered)
        while (keys.size > idempotencyKeys) remove(transaction, endpoint, keys.oldest())
      },
      unsafeRemove: remove,
      unsafeForget: forget,
      unsafeForgetOthers: (transaction, isThere) => {
        for (const endpoint of byEndpoint.keys()) if (!isThere(endpoint)) forget(transaction, endpoint)
      }
    }
  })
)
