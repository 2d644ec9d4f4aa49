/** Sessions as endpoints. */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { Directory } from "../../services/Directory.js"
import { Emitters } from "../../services/Emitters.js"
import { EventLog } from "../../services/EventLog.js"
import { IpcApi } from "../../services/ipc/IpcApi.js"
import { Leases } from "../../services/Leases.js"
import { EndpointUnknown, OwnershipMismatch } from "../../services/model/Errors.js"
import { firstCodePoints } from "../../services/model/Message.js"
import { Registration } from "../../services/Registration.js"
import { Registry } from "../../services/Registry.js"
import { Store, Transaction } from "../../services/Store.js"
import { platformRefusal } from "../internal/platformRefusal.js"
import { storeCommits } from "../internal/storeChecks.js"
import { callerOf, ownEndpoint, sameProcess, strangerTo } from "./caller.js"

const ok = { ok: true as const }
/** What is begun is finished, also for a client that hangs up. */
const whole = { uninterruptible: true }
const unknown = (message: string) => new EndpointUnknown({ message })

export const layer = HttpApiBuilder.group(IpcApi, "endpoints", (handlers) =>
  Effect.gen(function* () {
    const { taskHintMax } = yield* BrokerConfig
    const registration = yield* Registration
    const registry = yield* Registry
    const directory = yield* Directory
    const leases = yield* Leases
    const emitters = yield* Emitters
    const store = yield* Store
    const log = yield* EventLog
    const canCommit = storeCommits(store)

    return handlers
      .handle(
        "register",
        ({ headers, payload }) =>
          Effect.gen(function* () {
            yield* sameProcess(callerOf(headers), payload.plugin_pid)
            const { endpointId, ownerToken, resumed, sessionNaming } = yield* registration.register(payload)
            return {
              endpoint_id: endpointId,
              endpoint_owner_token: ownerToken,
              resumed,
              ...(sessionNaming === undefined ? {} : { session_naming: sessionNaming })
            }
          }),
        whole
      )
      .handle("heartbeat", ({ headers, path }) =>
        Effect.gen(function* () {
          const endpoint = yield* ownEndpoint(directory.unsafeGet(path.id), path.id, callerOf(headers), unknown)
          yield* leases.heartbeat(endpoint).pipe(Effect.mapError(platformRefusal))
          return ok
        })
      )
      .handle(
        "reattach",
        ({ headers, path, payload }) =>
          Effect.gen(function* () {
            const caller = callerOf(headers)
            yield* sameProcess(caller, payload.plugin_pid)
            const undelivered = yield* registration.reattach(path.id, payload.plugin_pid, caller)
            return { restored: true as const, reconnecting_buffer_count: undelivered }
          }),
        whole
      )
      .handle(
        "taskHint",
        ({ headers, path, payload }) =>
          Effect.gen(function* () {
            const caller = callerOf(headers)
            yield* sameProcess(caller, payload.plugin_pid)
            const endpoint = yield* ownEndpoint(
              directory.unsafeGet(path.id),
              path.id,
              { ...caller, pid: payload.plugin_pid },
              unknown
            ).pipe(Effect.catchTag("endpoint_pid_mismatch", ({ message }) => new OwnershipMismatch({ message })))
            yield* canCommit
            const hint = firstCodePoints(payload.task_hint, taskHintMax)
            const transaction = new Transaction()
            registry.unsafeSetTaskHint(transaction, endpoint, hint)
            emitters.unsafeTaskHint(transaction, endpoint.id, hint)
            log.unsafeLog("info", "task_hint_updated", {
              endpoint_id: endpoint.id,
              truncated: hint.length < payload.task_hint.length,
              length: payload.task_hint.length,
              max: taskHintMax
            })
            yield* store.unsafeCommitWithin(transaction)
            return ok
          }),
        whole
      )
      .handle(
        "unregister",
        ({ headers, path }) =>
          Effect.gen(function* () {
            const endpoint = directory.unsafeGet(path.id)
            if (endpoint === undefined) return ok
            const stranger = strangerTo(endpoint, callerOf(headers))
            if (stranger !== undefined) return yield* stranger
            yield* registry.unregister(path.id)
            return ok
          }),
        whole
      )
  })
)
