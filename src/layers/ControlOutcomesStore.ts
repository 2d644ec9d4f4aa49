/** Outcomes of control events in memory and in the store; acknowledgements as entries of the Outbox. */
import { Effect, Layer, Schema } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { ControlOutcomes } from "../services/ControlOutcomes.js"
import { ControlOutcome } from "../services/model/ControlEvent.js"
import { ordered } from "../services/model/StoreKey.js"
import { Outbox } from "../services/Outbox.js"
import { Store, table } from "../services/Store.js"

const Remembered = Schema.Struct({ key: Schema.String, outcome: ControlOutcome })
const records = table<typeof Remembered.Type>("control_outcomes", 1)

export const layer: Layer.Layer<ControlOutcomes, never, Outbox | Store | BrokerConfig> = Layer.effect(
  ControlOutcomes,
  Effect.gen(function* () {
    const { controlKeys } = yield* BrokerConfig
    const outbox = yield* Outbox
    const store = yield* Store
    /** The oldest first. */
    const remembered = new Map<string, { readonly at: string; readonly outcome: ControlOutcome }>()
    let last = 0

    for (const [at, { key, outcome }] of store.unsafeRange(records, { from: "", until: "~" })) {
      remembered.set(key, { at, outcome })
      last = Number.parseInt(at, 36)
    }

    const oldestFinal = () => {
      for (const [key, { outcome }] of remembered) if (outcome.status !== "received") return key
      return undefined
    }

    const outcomes: ControlOutcomes["Type"] = {
      unsafeGet: (key) => remembered.get(key)?.outcome,
      unsafeRemember: (transaction, key, outcome) => {
        const at = remembered.get(key)?.at ?? ordered(++last)
        remembered.set(key, { at, outcome })
        transaction.put(records, at, { key, outcome })
        while (remembered.size > controlKeys) {
          const oldest = oldestFinal()
          if (oldest === undefined) return
          outcomes.unsafeForget(transaction, oldest)
        }
      },
      unsafeForget: (transaction, key) => {
        const known = remembered.get(key)
        if (known === undefined) return
        remembered.delete(key)
        transaction.delete(records, known.at)
      },
      unsafeAcknowledge: (transaction, key, outcome) =>
        outbox.unsafeAdd(transaction, { _tag: "ControlAck", ack: { idempotency_key: key, ...outcome } })
    }
    return outcomes
  })
)
