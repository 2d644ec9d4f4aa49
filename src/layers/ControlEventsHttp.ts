/** Control events over HTTP: one long answer of server-sent events, asked for again and again. */
import { HttpClient, type HttpClientError, HttpClientRequest, type HttpClientResponse } from "@effect/platform"
import { NodeHttpClient } from "@effect/platform-node"
import { Chunk, Data, Effect, FiberSet, Layer, Option, Schema, type Scope, Stream } from "effect"
import { AccountCheck } from "../services/AccountCheck.js"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { ControlDispatcher } from "../services/ControlDispatcher.js"
import { ControlEvents, type ControlStatus } from "../services/ControlEvents.js"
import { Credentials } from "../services/Credentials.js"
import { EventLog } from "../services/EventLog.js"
import { backoff, delay } from "../services/model/Backoff.js"
import { EventPosition } from "../services/model/EventPosition.js"
import { EventStreamParser, isPosition, type StreamItem } from "../services/model/EventStream.js"
import { controlEventsPath, isSuccess, retryAfterMs } from "../services/model/PlatformWire.js"
import { Shutdown } from "../services/Shutdown.js"
import { Store, Transaction, table } from "../services/Store.js"
import { errorCode } from "./internal/errorCode.js"
import { supervised } from "./internal/supervised.js"

const Position = Schema.Struct({ stream: Schema.String, id: Schema.String })
const records = table<typeof Position.Type>("control_position", 1)
const only = "position"

/** The subscription is over; the reason completes a sentence. */
class Ended extends Data.TaggedError("Ended")<{ readonly reason: string; readonly retryAfterMs?: number }> {}

/** The platform is not heard; attempts and the waits between them are one outage. */
const isAway = (state: ControlStatus["state"]) => state === "connecting" || state === "waiting"

/** However short the wait is the server asks for. */
const leastWaitMs = 100

type Services = AccountCheck | ControlDispatcher | Credentials | Store | Shutdown | BrokerConfig | EventLog

/** On a given client, which must not follow redirects. */
export const layerOnClient: Layer.Layer<ControlEvents, never, Services | HttpClient.HttpClient> = Layer.scoped(
  ControlEvents,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const { apiOrigin, runtimeToken } = yield* Credentials
    const { account } = yield* AccountCheck
    const dispatcher = yield* ControlDispatcher
    const shutdown = yield* Shutdown
    const store = yield* Store
    const log = yield* EventLog
    const clock = yield* Effect.clock
    // Spans would carry the headers; the scope ends the request wherever it is.
    const http = HttpClient.withScope(HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true))
    const now = () => clock.unsafeCurrentTimeMillis()

    let position = new EventPosition(undefined)
    /** Whose positions these are: those of another platform or account mean nothing. */
    let stream = ""
    /** What the server asked for instead of our first wait. */
    let retryMs: number | undefined
    let status: Pick<ControlStatus, "state" | "since" | "lastFailure"> = {
      state: "connecting",
      since: now(),
      lastFailure: undefined
    }
    const enter = (state: ControlStatus["state"], lastFailure?: string) => {
      const isSame = isAway(state) && isAway(status.state)
      status = { state, since: isSame ? status.since : now(), lastFailure }
    }

    const listen = Effect.gen(function* () {
      const run = yield* FiberSet.makeRuntime<never>()
      const room = yield* Effect.makeLatch(true)

      // -- events --------------------------------------------------------------------------------------------------------

      const moved = () => {
        const { id } = position
        if (id === undefined) return
        const transaction = new Transaction()
        transaction.put(records, only, { stream, id })
        store.unsafeCommit(transaction)
      }

      const begin = (id: string | undefined) => {
        const done = position.begin(isPosition(id) ? id : undefined)
        return Effect.sync(() => {
          if (done()) moved()
          if (position.pending < config.controlWaiting) room.unsafeOpen()
        })
      }

      const take = (item: StreamItem) => {
        switch (item._tag) {
          case "Retry":
            retryMs = item.ms
            return
          case "TooLarge":
            log.unsafeLog("warn", "sse_frame_too_large", { event_id: item.id?.slice(0, 100) })
            run(begin(item.id))
            return
          case "Position":
            run(begin(item.id))
            return
          case "Event":
            // Begins in this turn: events are handled in the order of these calls. What is interrupted is not done.
            run(Effect.zipRight(dispatcher.handle(item.data), begin(item.id)))
            return
        }
      }

      // -- one subscription ----------------------------------------------------------------------------------------------

      const request = (agentId: string) => {
        const { id } = position
        return HttpClientRequest.get(`${apiOrigin}${controlEventsPath(agentId)}`).pipe(
          HttpClientRequest.bearerToken(runtimeToken),
          HttpClientRequest.setHeader("accept", "text/event-stream"),
          // The bytes of UTF-8, which is how this header goes.
          id === undefined
            ? (same) => same
            : HttpClientRequest.setHeader("last-event-id", Buffer.from(id, "utf8").toString("latin1"))
        )
      }

      const open = (agentId: string): Effect.Effect<HttpClientResponse.HttpClientResponse, Ended, Scope.Scope> =>
        Effect.suspend(() => http.execute(request(agentId))).pipe(
          Effect.mapError(({ cause }: HttpClientError.HttpClientError) => new Ended({ reason: unreachable(cause) })),
          // Node's client throws at headers it cannot send.
          Effect.catchAllDefect(() => new Ended({ reason: "the request could not be sent" })),
          Effect.timeoutFail({
            duration: config.platformMs,
            onTimeout: () => new Ended({ reason: `no answer within ${config.platformMs} ms` })
          }),
          Effect.filterOrFail(
            ({ status }) => isSuccess(status) && status !== 204,
            ({ headers, status }) => {
              const wait = retryAfterMs(headers["retry-after"], now())
              return new Ended({ reason: `status ${status}`, ...(wait === undefined ? {} : { retryAfterMs: wait }) })
            }
          )
        )

      /** Reads until the stream ends, breaks or falls silent. */
      const subscription = (agentId: string): Effect.Effect<never, Ended> =>
        Effect.gen(function* () {
          enter("connecting", status.lastFailure)
          const response = yield* open(agentId)
          enter("open")
          log.unsafeLog("info", "control_events_open", { position: position.id })
          const parser = new EventStreamParser(config.controlEventBytes)
          const pull = yield* Stream.toPull(response.stream)
          const chunk = pull.pipe(
            Effect.mapError(
              Option.match({
                onNone: () => new Ended({ reason: "the stream ended" }),
                onSome: ({ cause }) => new Ended({ reason: unreachable(cause) })
              })
            ),
            Effect.timeoutFail({
              duration: config.controlSilenceMs,
              onTimeout: () => new Ended({ reason: `nothing came for ${config.controlSilenceMs} ms` })
            })
          )
          while (true) {
            for (const bytes of Chunk.toReadonlyArray(yield* chunk)) for (const item of parser.push(bytes)) take(item)
            if (position.pending >= config.controlWaiting) room.unsafeClose()
            yield* room.await
          }
        }).pipe(Effect.scoped)

      /** Subscribes for ever. */
      const subscribed = (agentId: string): Effect.Effect<never> =>
        Effect.gen(function* () {
          let attempt = 0
          let lastReason: string | undefined
          while (true) {
            const ended = yield* Effect.flip(subscription(agentId))
            const lived = status.state === "open" ? now() - status.since : 0
            if (lived >= config.healthyMs) attempt = 0
            const base = Math.min(config.backoffMaxMs, Math.max(leastWaitMs, retryMs ?? config.backoffMs))
            const own = delay({ base, cap: config.backoffMaxMs }, attempt++, Math.random())
            const wait = Math.max(own, ended.retryAfterMs ?? 0)
            // An outage is told once, not at each attempt.
            if (ended.reason !== lastReason || lived > 0) {
              const fields = { reason: ended.reason, attempt, backoff_ms: Math.round(wait) }
              log.unsafeLog("warn", "sse_reconnect", fields)
            }
            lastReason = ended.reason
            enter("waiting", ended.reason)
            yield* Effect.sleep(wait)
          }
        })

      const live = Effect.gen(function* () {
        const who = yield* account
        if (who === undefined) return
        stream = `${apiOrigin} ${who.subjectId}`
        const stored = store.unsafeGet(records, only)
        if (position.id === undefined && stored?.stream === stream) position = new EventPosition(stored.id)
        yield* subscribed(who.subjectId)
      })

      yield* Effect.raceFirst(live, shutdown.requested).pipe(
        Effect.zipRight(Effect.sync(() => enter("off"))),
        supervised("control_events", backoff({ base: config.backoffMs, cap: config.backoffMaxMs }, config.healthyMs))
      )
    }).pipe(Effect.provideService(EventLog, log))

    return { name: "http", listen, unsafeStatus: () => ({ ...status, position: position.id }) }
  })
)

/** A connection of its own, for as long as the stream lasts. */
export const layer: Layer.Layer<ControlEvents, never, Services> = layerOnClient.pipe(
  Layer.provide(NodeHttpClient.layerWithoutAgent),
  Layer.provide(NodeHttpClient.makeAgentLayer({ keepAlive: false, maxSockets: 4 }))
)

const unreachable = (cause: unknown): string => {
  const code = errorCode(cause)
  return `the connection failed${code === undefined ? "" : ` (${code})`}`
}
