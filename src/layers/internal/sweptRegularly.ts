import type { Scope } from "effect"
import { Effect, Schedule } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { EventLog } from "../../services/EventLog.js"
import { Store, Transaction } from "../../services/Store.js"
import { supervised } from "./supervised.js"

/**
 * Removes what is remembered too long: now, and then every `correlationSweepMs`, each time in a commit of its own. `sweep` says
 * how many it removed; where there were any, that is logged as `event`.
 */
export const sweptRegularly = (
  event: string,
  sweep: (transaction: Transaction, now: number) => number
): Effect.Effect<void, never, Store | BrokerConfig | EventLog | Scope.Scope> =>
  Effect.gen(function* () {
    const { correlationSweepMs } = yield* BrokerConfig
    const store = yield* Store
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const once = () => {
      const transaction = new Transaction()
      const count = sweep(transaction, clock.unsafeCurrentTimeMillis())
      store.unsafeCommit(transaction)
      if (count > 0) log.unsafeLog("info", event, { count })
    }
    once()
    yield* Effect.sync(once).pipe(Effect.schedule(Schedule.spaced(correlationSweepMs)), supervised(event))
  })
