/** Control events as calls to dispatch, spawner and registry. */
import { Effect, FiberSet, Layer, Schedule } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { ControlDispatcher } from "../services/ControlDispatcher.js"
import { ControlOutcomes } from "../services/ControlOutcomes.js"
import { Directory } from "../services/Directory.js"
import { Dispatch } from "../services/Dispatch.js"
import { EventLog } from "../services/EventLog.js"
import {
  applied,
  type ControlEvent,
  type ControlOutcome,
  failed,
  readControlEvent,
  received,
  subjectsOf
} from "../services/model/ControlEvent.js"
import { EndpointEvent } from "../services/model/EndpointLifecycle.js"
import { Registry } from "../services/Registry.js"
import { Spawner } from "../services/Spawner.js"
import { Store, Transaction } from "../services/Store.js"
import { makeLanes } from "./internal/lanes.js"
import { makeSharing } from "./internal/sharing.js"
import { storeCommits } from "./internal/storeChecks.js"

export const layer: Layer.Layer<
  ControlDispatcher,
  never,
  ControlOutcomes | Dispatch | Registry | Directory | Spawner | Store | BrokerConfig | EventLog
> = Layer.scoped(
  ControlDispatcher,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const outcomes = yield* ControlOutcomes
    const { unsafeDispatch } = yield* Dispatch
    const registry = yield* Registry
    const directory = yield* Directory
    const spawner = yield* Spawner
    const store = yield* Store
    const log = yield* EventLog
    const run = yield* FiberSet.makeRuntime<never>()
    const atATime = yield* Effect.makeSemaphore(config.controlAtATime)
    const inLanes = makeLanes()
    const share = makeSharing<ControlOutcome>()

    const healthy = storeCommits(store).pipe(Effect.retry(Schedule.spaced(config.backoffMs)), Effect.orDie)

    const commit = (decide: (transaction: Transaction) => void) =>
      Effect.suspend(() => {
        const transaction = new Transaction()
        decide(transaction)
        return store.commit(transaction)
      })

    /** Part of the commit of an event's effect. */
    const settle = (key: string, outcome: ControlOutcome) => (transaction: Transaction) => {
      outcomes.unsafeRemember(transaction, key, outcome)
      outcomes.unsafeAcknowledge(transaction, key, outcome)
    }

    const answer = (key: string, outcome: ControlOutcome) =>
      Effect.as(
        commit((transaction) => outcomes.unsafeAcknowledge(transaction, key, outcome)),
        outcome
      )

    /** Does it, and says what became of it; both are durable then. */
    const perform = (event: ControlEvent): Effect.Effect<ControlOutcome> => {
      const { key } = event
      switch (event._tag) {
        case "DispatchUndispatched":
          return Effect.suspend(() => {
            const transaction = new Transaction()
            const refusal = unsafeDispatch(transaction, event.undispatchedId, event.targetEndpointId)
            if (refusal !== undefined) return answer(key, failed(refusal.message))
            settle(key, applied)(transaction)
            return Effect.as(store.commit(transaction), applied)
          })
        case "ForceUnregister":
          return commit((transaction) => {
            const endpoint = directory.unsafeGet(event.endpointId)
            if (endpoint !== undefined) {
              log.unsafeLog("info", "force_unregister_received", {
                endpoint_id: endpoint.id,
                reason: event.reason?.slice(0, 200)
              })
              registry.unsafeApply(transaction, endpoint, EndpointEvent.Unregistered())
            }
            settle(key, applied)(transaction)
          }).pipe(Effect.as(applied))
        case "SpawnRequest":
          return spawner
            .spawn({
              token: key,
              prompt: event.prompt,
              kind: event.runtimeKind,
              ...(event.undispatchedId === undefined || !config.spawnBinds
                ? {}
                : { undispatchedId: event.undispatchedId })
            })
            .pipe(
              Effect.map(() => outcomes.unsafeGet(key) ?? received),
              Effect.catchAll(({ detail }) => answer(key, failed(detail)))
            )
        case "DispatchNudge":
          return Effect.as(commit(settle(key, applied)), applied)
      }
    }

    const act = (event: ControlEvent) =>
      Effect.suspend(() => {
        // The broker may have done it in an earlier life, or while this one waited.
        const known = outcomes.unsafeGet(event.key)
        return known === undefined
          ? atATime
              .withPermits(1)(Effect.zipRight(healthy, perform(event)))
              .pipe(
                Effect.catchAllDefect((defect) => {
                  const reason = String((defect as Error | undefined)?.stack ?? defect)
                  log.unsafeLog("error", "control_event_failed", { event: event._tag, reason })
                  return answer(event.key, failed("internal_error"))
                })
              )
          : answer(event.key, known)
      })

    const handle = (data: string): Effect.Effect<void> =>
      Effect.suspend(() => {
        const reading = readControlEvent(data, config.jsonDepth)
        switch (reading._tag) {
          case "Nothing":
            // What it says may be anybody's message: only its length is told.
            log.unsafeLog("warn", "sse_frame_unparseable", { because: reading.because, length: data.length })
            return Effect.void
          case "Answer":
            return healthy.pipe(Effect.zipRight(answer(reading.key, reading.outcome)))
          case "Event":
            return share(reading.event.key, inLanes(subjectsOf(reading.event))(act(reading.event)))
        }
      }).pipe(Effect.asVoid)

    spawner.unsafeOnRegistered((endpointId, undispatchedId) => {
      if (undispatchedId === undefined || !config.spawnBinds) return
      const bind = commit((transaction) => {
        const refusal = unsafeDispatch(transaction, undispatchedId, endpointId)
        if (refusal === undefined) return
        // The message stays in the inbox, for the owner to hand over.
        log.unsafeLog("warn", "spawn_binding_failed", { endpoint_id: endpointId, message: refusal.message })
      })
      run(Effect.zipRight(healthy, bind))
    })

    return { handle }
  })
)
