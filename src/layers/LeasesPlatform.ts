/** Heartbeats by the platform's own rhythm, one sweep for all endpoints. */
import { Effect, FiberSet, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Directory, type Endpoint } from "../services/Directory.js"
import { EventLog } from "../services/EventLog.js"
import { Leases } from "../services/Leases.js"
import { delay } from "../services/model/Backoff.js"
import { EndpointId, type EndpointKey } from "../services/model/Ids.js"
import { PlatformApi, type PlatformError } from "../services/PlatformApi.js"
import { Registry } from "../services/Registry.js"
import { Spawner } from "../services/Spawner.js"
import { Store, Transaction } from "../services/Store.js"
import { platformRegistration } from "./internal/platformRegistration.js"
import { makeSweeper } from "./internal/sweeper.js"

interface Lease {
  /** When the next heartbeat is due, epoch milliseconds. */
  dueAt: number
  /** Heartbeats that failed in a row. */
  failures: number
  isUnderWay: boolean
}

const heartbeatsAtATime = 8

export const layer: Layer.Layer<
  Leases,
  never,
  Directory | Registry | PlatformApi | Spawner | Store | BrokerConfig | EventLog
> = Layer.scoped(
  Leases,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const directory = yield* Directory
    const registry = yield* Registry
    const platform = yield* PlatformApi
    const spawner = yield* Spawner
    const store = yield* Store
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const run = yield* FiberSet.makeRuntime<never>()
    const permits = yield* Effect.makeSemaphore(heartbeatsAtATime)
    const leases = new Map<EndpointKey, Lease>()
    const backoff = { base: config.backoffMs, cap: config.backoffMaxMs }

    /** The record is gone: the same session with the same nonce, so that a record that is there after all is found. */
    const renew = ({ key }: Endpoint): Effect.Effect<void, PlatformError> =>
      Effect.suspend(() => {
        const endpoint = directory.unsafeByKey(key)
        if (endpoint === undefined) return Effect.void
        log.unsafeLog("warn", "endpoint_lease_lost", { endpoint_id: endpoint.id })
        const registration = Effect.map(spawner.isAvailable(endpoint.session.kind), (canSpawn) =>
          platformRegistration({ ...endpoint, canSpawn })
        )
        return Effect.flatMap(Effect.flatMap(registration, platform.register), (registered) => {
          const now = directory.unsafeByKey(key)
          // It ended meanwhile: nobody else would end the new record.
          if (now === undefined) return Effect.ignore(platform.unregister(registered.endpointId))
          const transaction = new Transaction()
          registry.unsafeRegisteredAgain(transaction, now, {
            id: EndpointId(registered.endpointId),
            heartbeatAfterMs: registered.heartbeatAfterMs
          })
          // The platform has it: a store that fails keeps neither the caller nor the next heartbeats.
          return Effect.ignore(store.unsafeCommitWithin(transaction))
        })
      })

    const heartbeat = (endpoint: Endpoint): Effect.Effect<void, PlatformError> =>
      platform.heartbeat(endpoint.id).pipe(
        Effect.catchIf(
          ({ kind, status }) => kind === "refused" && status === 404,
          () => renew(endpoint)
        )
      )

    const beat = (endpoint: Endpoint, lease: Lease) =>
      heartbeat(endpoint).pipe(
        permits.withPermits(1),
        Effect.match({
          onSuccess: () => {
            lease.failures = 0
            lease.dueAt = clock.unsafeCurrentTimeMillis() + (endpoint.heartbeatAfterMs ?? Number.POSITIVE_INFINITY)
          },
          onFailure: (error) => {
            const wait =
              error.kind === "unauthorized"
                ? config.unauthorizedPauseMs
                : Math.max(delay(backoff, lease.failures++, Math.random()), error.retryAfterMs ?? 0)
            lease.dueAt = clock.unsafeCurrentTimeMillis() + wait
            log.unsafeLog("info", "heartbeat_failed", { endpoint_id: endpoint.id, code: error.code, wait_ms: wait })
          }
        }),
        Effect.ensuring(
          Effect.sync(() => {
            lease.isUnderWay = false
            sweeper.unsafeWakeAt(lease.dueAt)
          })
        )
      )

    const sweeper = yield* makeSweeper("leases", (at) => {
      let next = Number.POSITIVE_INFINITY
      for (const [key, lease] of leases) {
        const endpoint = directory.unsafeByKey(key)
        if (endpoint === undefined) leases.delete(key)
        else if (lease.isUnderWay) continue
        else if (lease.dueAt > at) next = Math.min(next, lease.dueAt)
        else {
          lease.isUnderWay = true
          run(beat(endpoint, lease))
        }
      }
      return Number.isFinite(next) ? next : undefined
    })

    const watch = (key: EndpointKey, dueAt: number) => {
      leases.set(key, { dueAt, failures: 0, isUnderWay: false })
      sweeper.unsafeWakeAt(dueAt)
    }

    return {
      unsafeWatch: ({ heartbeatAfterMs, key }) => {
        if (heartbeatAfterMs !== undefined) watch(key, clock.unsafeCurrentTimeMillis() + heartbeatAfterMs)
      },
      unsafeResume: ({ heartbeatAfterMs, key }) => {
        if (heartbeatAfterMs !== undefined && !leases.has(key)) watch(key, clock.unsafeCurrentTimeMillis())
      },
      heartbeat
    }
  })
)
