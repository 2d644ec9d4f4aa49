/** The send queue over the store, which alone holds what was sent: one fiber sends, one message after the other, while the link is up. */
import { Effect, Layer, Stream } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Connector, type OutboundMessage, type SendError } from "../services/Connector.js"
import { EventLog } from "../services/EventLog.js"
import { delay } from "../services/model/Backoff.js"
import type { EndpointKey } from "../services/model/Ids.js"
import { ordered } from "../services/model/StoreKey.js"
import { SendQueue } from "../services/SendQueue.js"
import { type Key, Store, Transaction, table } from "../services/Store.js"
import { OutlinedTable } from "./internal/OutlinedTable.js"
import { supervised } from "./internal/supervised.js"

interface Queued {
  readonly endpoint: EndpointKey
  readonly message: OutboundMessage
  /** Epoch milliseconds. */
  readonly at: number
}
const records = table<Queued>("send_queue", 1)

/** What memory holds of a message that waits. */
interface Outline extends Pick<Queued, "endpoint" | "at"> {
  readonly bytes: number
}

const outlineOf = ({ at, endpoint, message }: Queued): Outline => ({
  endpoint,
  at,
  bytes: Buffer.byteLength(message.content) + Buffer.byteLength(JSON.stringify(message.metadata))
})

export const layer: Layer.Layer<SendQueue, never, Store | Connector | BrokerConfig | EventLog> = Layer.scoped(
  SendQueue,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const store = yield* Store
    const connector = yield* Connector
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const backoff = { base: config.backoffMs, cap: config.backoffMaxMs }
    const queue = new OutlinedTable(records, store, { outlineOf })
    const counts = new Map<EndpointKey, number>()
    let bytes = 0
    let last = 0
    let givenUp = 0

    const count = (by: 1 | -1, outline: Outline) => {
      bytes += by * outline.bytes
      const left = (counts.get(outline.endpoint) ?? 0) + by
      if (left > 0) counts.set(outline.endpoint, left)
      else counts.delete(outline.endpoint)
    }
    for (const [key, outline] of queue.outlines()) {
      last = Number.parseInt(key, 36)
      count(1, outline)
    }
    const changed = Effect.unsafeMakeLatch(queue.size > 0)

    const leave = (key: Key) =>
      Effect.suspend(() => {
        const transaction = new Transaction()
        const outline = queue.remove(transaction, key)
        if (outline !== undefined) count(-1, outline)
        return store.commit(transaction)
      })

    const giveUp = (key: Key, queued: Queued | undefined, reason: string) =>
      Effect.suspend(() => {
        givenUp++
        const { messageId, to } = queued?.message ?? {}
        log.unsafeLog("warn", "queued_send_given_up", { message_id: messageId, to, reason })
        return leave(key)
      })

    /** How long to wait before it is tried again; 0 when it left the queue. */
    const failed = (key: Key, queued: Queued, error: SendError, attempt: number) => {
      const isUncertain = error._tag === "SendOutcomeUnknown"
      const mayRepeat = error._tag === "ConnectorUnavailable" || (isUncertain && connector.abilities.dedupesSends)
      return mayRepeat
        ? Effect.succeed(delay(backoff, attempt, Math.random()))
        : Effect.as(giveUp(key, queued, error.message), 0)
    }

    const oldest = (): readonly [Key, Outline] | undefined => queue.outlines().next().value

    const sendFirst = (attempt: number): Effect.Effect<number> =>
      Effect.suspend(() => {
        const first = oldest()
        if (first === undefined) return Effect.succeed(0)
        const [key, { at }] = first
        const queued = queue.get(key)
        if (queued === undefined) return Effect.as(giveUp(key, queued, "its record is damaged"), 0)
        if (clock.unsafeCurrentTimeMillis() - at >= config.sendQueueMs) {
          return Effect.as(giveUp(key, queued, "it waited too long"), 0)
        }
        return Effect.matchEffect(connector.send(queued.message), {
          onSuccess: () => Effect.as(leave(key), 0),
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
        const patience = (oldest()?.[1].at ?? 0) + config.sendQueueMs - clock.unsafeCurrentTimeMillis()
        yield* Effect.timeoutOption(isUp, Math.max(0, patience))
        const wait = yield* sendFirst(attempt)
        attempt = wait > 0 ? attempt + 1 : 0
        if (wait > 0) yield* Effect.sleep(wait)
      }
    })
    yield* work.pipe(supervised("send_queue"))

    return {
      unsafeAdd: (transaction, endpoint, message) => {
        const queued = { endpoint, message, at: clock.unsafeCurrentTimeMillis() }
        if (queue.size >= config.sendQueue || bytes + outlineOf(queued).bytes > config.sendQueueBytes) return false
        count(1, queue.add(transaction, ordered(++last), queued))
        transaction.onDurable(() => changed.unsafeOpen())
        return true
      },
      unsafeHas: (endpoint) => counts.has(endpoint),
      unsafeStatus: () => ({ waiting: queue.size, givenUp })
    }
  })
)
