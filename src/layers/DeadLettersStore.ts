/** Dead letters over the store. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { type DeadLetter, type DeadLetterOutline, DeadLetters } from "../services/DeadLetters.js"
import { EventLog } from "../services/EventLog.js"
import { Ledger } from "../services/Ledger.js"
import { Store } from "../services/Store.js"
import { DeadLetterBox } from "./internal/deadLetterBox.js"
import { deadLetters as records } from "./internal/messageTables.js"

const outlineOf = ({ message, ...rest }: DeadLetter): DeadLetterOutline & { readonly bytes: number } => {
  const { bytes, content, from, id } = message
  return {
    ...rest,
    message: { id, from, bytes },
    // Of one that is too large only the beginning is kept.
    bytes: rest.reason === "too_large" ? Buffer.byteLength(content) : bytes
  }
}

export const layer: Layer.Layer<DeadLetters, never, Store | BrokerConfig | Ledger | EventLog> = Layer.effect(
  DeadLetters,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const store = yield* Store
    const ledger = yield* Ledger
    const log = yield* EventLog
    const box = new DeadLetterBox(records, store, config, outlineOf)
    // Beyond every number of an earlier life, also of letters that are purged: an operator may still have one at hand.
    const first = Math.max(box.last(), (yield* Effect.clock).unsafeCurrentTimeMillis())
    let last = first

    const tell = (event: string, id: string, { message }: DeadLetterOutline) =>
      log.unsafeLog("info", event, { dead_letter: `m-${id}`, message_id: message.id })

    return {
      unsafeAdd: (transaction, letter) => {
        for (const [id, outline] of box.add(transaction, ++last, letter)) tell("dead_letter_dropped", id, outline)
        ledger.unsafeCount("dead", 1)
        log.unsafeLog("warn", "message_dead", {
          message_id: letter.message.id,
          endpoint_id: letter.endpointId,
          reason: letter.reason,
          bytes: letter.message.bytes
        })
      },
      unsafeList: () => box.list(),
      unsafeCount: () => box.size,
      unsafeGet: (id) => box.get(id),
      unsafeRevive: (transaction, id) => {
        const letter = box.take(transaction, id)
        if (letter === undefined) return
        if (Number.parseInt(id, 36) > first) ledger.unsafeCount("dead", -1)
        else ledger.unsafeCount("accepted", 1)
        tell("dead_letter_retried", id, letter)
      },
      unsafePurge: (transaction, id) => {
        const letter = box.take(transaction, id)
        if (letter !== undefined) tell("dead_letter_purged", id, letter)
        return letter !== undefined
      }
    }
  })
)
