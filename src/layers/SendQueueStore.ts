/** The send queue over the store: one fiber sends, one message after the other, while the link is up. */
import { Effect, Layer, Stream } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Connector, type OutboundMessage, type SendError } from "../services/Connector.js"
import { EventLog } from "../services/EventLog.js"
import { delay } from "../services/model/Backoff.js"
import type { EndpointKey } from "../services/model/Ids.js"
import { ordered } from "../services/model/StoreKey.js"
import { SendQueue } from "../services/SendQueue.js"
import { Store, Transaction, table } from "../services/Store.js"

interface Queued {
  readonly endpoint: EndpointKey
  readonly message: OutboundMessage
  /** Epoch milliseconds. */
  readonly at: number
}
const records = table<Queued>("send_queue", 1)

export const layer: Layer.Layer<SendQueue, never, Store | Connector | BrokerConfig | EventLog> = Layer.scoped(
  SendQueue,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const store = yield* Store
    const connector = yield* Connector
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const backoff = { base: config.backoffMs, cap: config.backoffMaxMs }
    const queue = new Map<string, Queued>(store.unsafeRange(records, { from: "", until: "~" }))
    const counts = new Map<EndpointKey, number>()
    let last = Number.parseInt([...queue.keys()].at(-1) ?? "0", 36)
    let givenUp = 0
    const changed = Effect.unsafeMakeLatch(queue.size > 0)

    const count = (endpoint: EndpointKey, by: number) => {
      const left = (counts.get(endpoint) ?? 0) + by
      if (left > 0) counts.set(endpoint, left)
      else counts.delete(endpoint)
    }
    for (const { endpoint } of queue.values()) count(endpoint, 1)

    const leave = (key: string, queued: Queued, givenUpFor?: string) =>
      Effect.suspend(() => {
        queue.delete(key)
        count(queued.endpoint, -1)
        if (givenUpFor !== undefined) {
          givenUp++
          const { messageId, to } = queued.message
          log.unsafeLog("warn", "queued_send_given_up", { message_id: messageId, to, reason: givenUpFor })
        }
        const transaction = new Transaction()
        transaction.delete(records, key)
        return store.commit(transaction)
      })

    /** How long to wait before it is tried again; 0 when it left the queue. */
    const failed = (key: string, queued: Queued, error: SendError, attempt: number) => {
      const isUncertain = error._tag === "SendOutcomeUnknown"
      const mayRepeat = error._tag === "ConnectorUnavailable" || (isUncertain && connector.abilities.dedupesSends)
      return mayRepeat
        ? Effect.succeed(delay(backoff, attempt, Math.random()))
        : Effect.as(leave(key, queued, error.message), 0)
    }

    const sendFirst = (attempt: number): Effect.Effect<number> =>
      Effect.suspend(() => {
        const [first] = queue
        if (first === undefined) return Effect.succeed(0)
        const [key, queued] = first
        if (clock.unsafeCurrentTimeMillis() - queued.at >= config.sendQueueMs) {
          return Effect.as(leave(key, queued, "it waited too long"), 0)
        }
        return Effect.matchEffect(connector.send(queued.message), {
          onSuccess: () => Effect.as(leave(key, queued), 0),
          onFailure: (error) => failed(key, queued, error, attempt)
        })
      })

    const isUp = Stream.runHead(Stream.filter(connector.links, ({ state }) => state === "up"))
    const work = Effect.gen(function* () {
      let attempt = 0
      while (true) {
        if (queue.size === 0) changed.unsafeClose()
        yield* changed.await
        // What is over leaves also without a link.
        const oldest = queue.values().next().value
        const patience = (oldest?.at ?? 0) + config.sendQueueMs - clock.unsafeCurrentTimeMillis()
        yield* Effect.timeoutOption(isUp, Math.max(0, patience))
        const wait = yield* sendFirst(attempt)
        attempt = wait > 0 ? attempt + 1 : 0
        if (wait > 0) yield* Effect.sleep(wait)
      }
    })
    yield* work.pipe(Effect.interruptible, Effect.forkScoped)

    return {
      unsafeAdd: (transaction, endpoint, message) => {
        if (queue.size >= config.sendQueue) return false
        const key = ordered(++last)
        const queued = { endpoint, message, at: clock.unsafeCurrentTimeMillis() }
        queue.set(key, queued)
        count(endpoint, 1)
        transaction.put(records, key, queued)
        transaction.onDurable(() => changed.unsafeOpen())
        return true
      },
      unsafeHas: (endpoint) => counts.has(endpoint),
      unsafeStatus: () => ({ waiting: queue.size, givenUp })
    }
  })
)
