/** Dead letters over the store; the newest, as many as the setting allows, in memory too. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { type DeadLetter, DeadLetters } from "../services/DeadLetters.js"
import { EventLog } from "../services/EventLog.js"
import { Ledger } from "../services/Ledger.js"
import { ordered } from "../services/model/StoreKey.js"
import { Store, type Transaction, table } from "../services/Store.js"

const records = table<DeadLetter>("dead_letters", 1)

export const layer: Layer.Layer<DeadLetters, never, Store | BrokerConfig | Ledger | EventLog> = Layer.effect(
  DeadLetters,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const store = yield* Store
    const ledger = yield* Ledger
    const log = yield* EventLog
    const letters = new Map<string, DeadLetter>(store.unsafeRange(records, { from: "", until: "~" }))
    let last = Number.parseInt([...letters.keys()].at(-1) ?? "0", 36)

    const removeOldest = (transaction: Transaction, now: number) => {
      for (const [key, { at }] of letters) {
        if (letters.size <= config.deadLetters && now - at < config.deadLetterMs) return
        letters.delete(key)
        transaction.delete(records, key)
      }
    }

    return {
      unsafeAdd: (transaction, letter) => {
        const key = ordered(++last)
        letters.set(key, letter)
        transaction.put(records, key, letter)
        ledger.unsafeCount("dead", 1)
        log.unsafeLog("warn", "message_dead", {
          message_id: letter.message.id,
          endpoint_id: letter.endpointId,
          reason: letter.reason
        })
        removeOldest(transaction, letter.at)
      },
      unsafeList: () => [...letters.values()],
      unsafeCount: () => letters.size
    }
  })
)
