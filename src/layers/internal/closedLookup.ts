import { Effect } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { EventLog } from "../../services/EventLog.js"
import { PlatformApi } from "../../services/PlatformApi.js"

export interface ClosedLookup {
  /** What is known of the endpoint without asking. */
  readonly unsafePeek: (endpointId: string) => boolean | undefined
  /** Asks the platform, for a bounded time. What it does not tell in time is not closed, and is asked again. */
  readonly isClosed: (endpointId: string) => Effect.Effect<boolean>
}

interface Answer {
  readonly closed: boolean
  /** Epoch milliseconds. */
  readonly until: number
}

/** Was this endpoint retired? The platform's answers, kept for a while; when there are too many, those looked at last. */
export const makeClosedLookup: Effect.Effect<ClosedLookup, never, PlatformApi | BrokerConfig | EventLog> = Effect.gen(
  function* () {
    const { closedCacheMs, closedCacheSize, closedLookupMs } = yield* BrokerConfig
    const platform = yield* PlatformApi
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const known = new Map<string, Answer>()

    const moveToEnd = (endpointId: string, answer: Answer) => {
      known.delete(endpointId)
      known.set(endpointId, answer)
    }

    const remember = (endpointId: string, closed: boolean) => {
      moveToEnd(endpointId, { closed, until: clock.unsafeCurrentTimeMillis() + closedCacheMs })
      if (known.size > closedCacheSize) known.delete(known.keys().next().value!)
    }

    return {
      unsafePeek: (endpointId) => {
        const answer = known.get(endpointId)
        if (answer === undefined || clock.unsafeCurrentTimeMillis() >= answer.until) return undefined
        moveToEnd(endpointId, answer)
        return answer.closed
      },
      isClosed: (endpointId) =>
        platform.endpointState(endpointId).pipe(
          Effect.map((state) => {
            const closed = state === "closed"
            remember(endpointId, closed)
            return closed
          }),
          Effect.timeoutFail({ duration: closedLookupMs, onTimeout: () => ({ message: "no answer in time" }) }),
          Effect.catchAll(({ message }) =>
            Effect.sync(() => {
              log.unsafeLog("warn", "closed_lookup_failed", { endpoint_id: endpointId, reason: message })
              return false
            })
          )
        )
    }
  }
)
