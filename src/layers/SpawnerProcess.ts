/** Sessions as processes of this machine, by drivers from the settings. */
import { Effect, Fiber, Layer, Option, Schedule, Schema } from "effect"
import { BrokerConfig, type Settings } from "../services/BrokerConfig.js"
import { ControlOutcomes } from "../services/ControlOutcomes.js"
import { EventLog } from "../services/EventLog.js"
import { applied, failed, received } from "../services/model/ControlEvent.js"
import { optional } from "../services/model/Json.js"
import {
  childEnvironment,
  claudeCode,
  codex,
  commandWords,
  customCommand,
  driversByKind,
  type Environment,
  type SpawnDriver,
  type SpawnPlan,
  SpawnRate
} from "../services/model/SpawnPlan.js"
import { Spawner, type SpawnOrder, SpawnRefused } from "../services/Spawner.js"
import { Store, Transaction, table } from "../services/Store.js"
import { findExecutable, isDirectory } from "./internal/executables.js"
import { idInKey } from "./internal/idInKey.js"
import { startProcess } from "./internal/startProcess.js"
import { storeCommits } from "./internal/storeChecks.js"
import { makeSweeper } from "./internal/sweeper.js"

const Pending = Schema.Struct({
  token: Schema.String,
  undispatchedId: optional(Schema.String)
})
const records = table<typeof Pending.Type>("spawns", 1)

interface PendingSpawn {
  readonly undispatchedId: string | undefined
  /** Epoch milliseconds. Far away until the session is started. */
  deadline: number
}

/** Where a command is, or why there is none. */
type Probe = { readonly file: string } | { readonly reason: string }

const longestProbeMs = 2_000

/** The drivers the settings describe. */
export const driversFrom = (settings: Settings): ReadonlyArray<SpawnDriver> => {
  const words = commandWords(settings.spawnCommand)
  const variables = settings.spawnVariables.split(/[, ]+/).filter((name) => name !== "")
  return [
    claudeCode(settings.spawnClaudeCommand),
    codex,
    ...(words === undefined ? [] : [customCommand(words, variables)])
  ]
}

export interface SpawnerOptions {
  /** Instead of those of the settings. */
  readonly drivers?: ReadonlyArray<SpawnDriver>
  /** Instead of the broker's own. */
  readonly environment?: Environment
}

export const layerWith = ({
  drivers: given,
  environment = process.env
}: SpawnerOptions): Layer.Layer<Spawner, never, ControlOutcomes | Store | BrokerConfig | EventLog> =>
  Layer.scoped(
    Spawner,
    Effect.gen(function* () {
      const config = yield* BrokerConfig
      const outcomes = yield* ControlOutcomes
      const store = yield* Store
      const log = yield* EventLog
      const clock = yield* Effect.clock
      const scope = yield* Effect.scope
      const drivers = driversByKind(given ?? driversFrom(config))
      const rate = new SpawnRate(config.spawnLimit, config.spawnWindowMs)
      const directory = config.spawnDirectory || undefined
      const pending = new Map<string, PendingSpawn>()
      const probes = new Map<string, { readonly at: number; readonly fiber: Fiber.Fiber<Probe> }>()
      const listeners: Array<(endpointId: string, undispatchedId: string | undefined) => void> = []
      // Children outlive this layer, and so do their events.
      let isOver = false
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          isOver = true
        })
      )
      const now = () => clock.unsafeCurrentTimeMillis()

      // -- availability ------------------------------------------------------------------------------------------------

      const look = (driver: SpawnDriver): Effect.Effect<Probe> =>
        driver.unavailable !== undefined
          ? Effect.succeed({ reason: driver.unavailable })
          : Effect.promise(() =>
              findExecutable(driver.command, { directory: directory ?? process.cwd(), environment })
            ).pipe(
              Effect.timeoutOption(longestProbeMs),
              Effect.map(
                Option.match({
                  onNone: (): Probe => ({ reason: `looking for "${driver.command}" takes too long` }),
                  onSome: (file) => (file === undefined ? { reason: `"${driver.command}" was not found` } : { file })
                })
              )
            )

      /** Looks once for all who ask at a time, and not again for a while. */
      const probe = (driver: SpawnDriver): Effect.Effect<Probe> =>
        Effect.gen(function* () {
          const last = probes.get(driver.kind)
          if (last !== undefined && now() - last.at < config.spawnProbeMs) return yield* Fiber.join(last.fiber)
          const fiber = yield* Effect.forkIn(Effect.interruptible(look(driver)), scope)
          probes.set(driver.kind, { at: now(), fiber })
          return yield* Fiber.join(fiber)
        })

      // -- what becomes of a spawn -------------------------------------------------------------------------------------

      const forget = (transaction: Transaction, token: string) => {
        pending.delete(token)
        transaction.delete(records, idInKey(token))
      }

      const giveUp = (token: string, detail: string) => {
        if (isOver || !pending.has(token)) return
        log.unsafeLog("warn", detail.split(":")[0]!, { spawn_token: token, detail })
        const transaction = new Transaction()
        forget(transaction, token)
        outcomes.unsafeRemember(transaction, token, failed(detail))
        outcomes.unsafeAcknowledge(transaction, token, failed(detail))
        store.unsafeCommit(transaction)
      }

      const sweeper = yield* makeSweeper("spawned_sessions", (at) => {
        let next = Number.POSITIVE_INFINITY
        for (const [token, { deadline }] of [...pending]) {
          if (deadline <= at) giveUp(token, "spawn_correlation_timeout")
          else next = Math.min(next, deadline)
        }
        return Number.isFinite(next) ? next : undefined
      })

      const expect = (token: string, spawn: PendingSpawn) => {
        spawn.deadline = now() + config.spawnCorrelationMs
        pending.set(token, spawn)
        sweeper.unsafeWakeAt(spawn.deadline)
      }

      // Whoever was started in an earlier life could not register while the broker was away: the time begins afresh.
      for (const [, { token, undispatchedId }] of store.unsafeRange(records, { from: "", until: "~" })) {
        expect(token, { undispatchedId, deadline: 0 })
      }

      // -- starting ----------------------------------------------------------------------------------------------------

      const refused = (detail: string) => new SpawnRefused({ detail })
      const healthy = storeCommits(store).pipe(Effect.retry(Schedule.spaced(config.backoffMs)), Effect.orDie)

      /** Durable before the session is: whatever happens in between, it is not started again. */
      const announce = ({ token, undispatchedId }: SpawnOrder) =>
        Effect.suspend(() => {
          const transaction = new Transaction()
          const bound = undispatchedId === undefined ? {} : { undispatchedId }
          pending.set(token, { undispatchedId, deadline: Number.POSITIVE_INFINITY })
          transaction.put(records, idInKey(token), { token, ...bound })
          outcomes.unsafeRemember(transaction, token, received)
          return store.commit(transaction)
        })

      const takeBack = (token: string) =>
        Effect.suspend(() => {
          const transaction = new Transaction()
          forget(transaction, token)
          outcomes.unsafeForget(transaction, token)
          return store.commit(transaction)
        })

      const start = ({ kind, token }: SpawnOrder, driver: SpawnDriver, file: string, plan: SpawnPlan) =>
        startProcess({
          file,
          args: plan.args,
          environment: childEnvironment(environment, driver, plan, process.platform),
          directory,
          input: plan.input,
          onFailed: (how) => giveUp(token, `spawn_failed: ${how}`)
        }).pipe(
          Effect.map((pid) => {
            log.unsafeLog("info", "spawn_request_initiated", { spawn_token: token, kind, child_pid: pid })
            const transaction = new Transaction()
            const spawn = pending.get(token)
            // It may be over already.
            if (spawn !== undefined) {
              expect(token, spawn)
              outcomes.unsafeAcknowledge(transaction, token, received)
            }
            return transaction
          })
        )

      const spawn = (order: SpawnOrder): Effect.Effect<void, SpawnRefused> =>
        Effect.gen(function* () {
          if (!rate.take(now())) return yield* refused("spawn_rate_limited")
          if (!config.spawning) return yield* refused("spawn_driver_registry_not_configured")
          const driver = drivers.get(order.kind)
          if (driver === undefined) return yield* refused(`runtime_kind_unsupported: ${order.kind}`)
          const found = yield* probe(driver)
          if ("reason" in found) return yield* refused(found.reason || "driver_unavailable")
          const plan = yield* Effect.mapError(driver.plan(order), refused)
          if (directory !== undefined && !(yield* Effect.promise(() => isDirectory(directory)))) {
            return yield* refused(`spawn_failed: "${directory}", its working directory, is not a directory`)
          }
          yield* healthy
          yield* announce(order)
          const transaction = yield* start(order, driver, found.file, plan).pipe(
            Effect.uninterruptible,
            Effect.catchAll((reason) => {
              probes.delete(driver.kind)
              return Effect.zipRight(takeBack(order.token), refused(`spawn_failed: ${reason}`))
            })
          )
          yield* store.commit(transaction)
        })

      return {
        spawn,
        isAvailable: (kind) => {
          const driver = config.spawning ? drivers.get(kind) : undefined
          return driver === undefined ? Effect.succeed(false) : Effect.map(probe(driver), (found) => "file" in found)
        },
        unsafeRegistered: (transaction, token, endpointId) => {
          const spawn = pending.get(token)
          if (spawn === undefined) return false
          forget(transaction, token)
          outcomes.unsafeRemember(transaction, token, applied)
          outcomes.unsafeAcknowledge(transaction, token, applied)
          log.unsafeLog("info", "endpoint_spawned_correlation_resolved", {
            spawn_token: token,
            endpoint_id: endpointId
          })
          transaction.onDurable(() => {
            for (const listener of listeners) listener(endpointId, spawn.undispatchedId)
          })
          return true
        },
        unsafeOnRegistered: (listener) => {
          listeners.push(listener)
        }
      }
    })
  )

export const layer: Layer.Layer<Spawner, never, ControlOutcomes | Store | BrokerConfig | EventLog> = layerWith({})
