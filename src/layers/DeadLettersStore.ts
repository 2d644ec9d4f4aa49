/** Dead letters over the store; the newest, as many as the setting allows, in memory too. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { DeadLetters } from "../services/DeadLetters.js"
import { EventLog } from "../services/EventLog.js"
import { Ledger } from "../services/Ledger.js"
import { Store } from "../services/Store.js"
import { DeadLetterBox } from "./internal/deadLetterBox.js"
import { deadLetters as records } from "./internal/messageTables.js"

export const layer: Layer.Layer<DeadLetters, never, Store | BrokerConfig | Ledger | EventLog> = Layer.effect(
  DeadLetters,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const store = yield* Store
    const ledger = yield* Ledger
    const log = yield* EventLog
    const box = new DeadLetterBox(records, store, config)
    // Beyond every number of an earlier life, also of letters that are purged: an operator may still have one at hand.
    const first = Math.max(box.last(), (yield* Effect.clock).unsafeCurrentTimeMillis())
    let last = first

    const fieldsOf = (id: string, message_id: string) => ({ dead_letter: `m-${id}`, message_id })

    return {
      unsafeAdd: (transaction, letter) => {
        box.add(transaction, ++last, letter)
        ledger.unsafeCount("dead", 1)
        log.unsafeLog("warn", "message_dead", {
          message_id: letter.message.id,
          endpoint_id: letter.endpointId,
          reason: letter.reason,
          bytes: letter.message.bytes
        })
      },
      unsafeList: () => box.list().map(([, letter]) => letter),
      unsafeEntries: () => box.list(),
      unsafeCount: () => box.size,
      unsafeGet: (id) => box.get(id),
      unsafeRevive: (transaction, id) => {
        const letter = box.take(transaction, id)
        if (letter === undefined) return undefined
        if (Number.parseInt(id, 36) > first) ledger.unsafeCount("dead", -1)
        else ledger.unsafeCount("accepted", 1)
        log.unsafeLog("info", "dead_letter_retried", fieldsOf(id, letter.message.id))
        return letter
      },
      unsafePurge: (transaction, id) => {
        const letter = box.take(transaction, id)
        if (letter !== undefined) log.unsafeLog("info", "dead_letter_purged", fieldsOf(id, letter.message.id))
        return letter
      }
    }
  })
)
