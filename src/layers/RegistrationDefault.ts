/** Registers sessions at the platform and in the registry, and finds the endpoint a session left. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { type Channel, Channels } from "../services/Channels.js"
import { Directory, type Endpoint } from "../services/Directory.js"
import { EventLog } from "../services/EventLog.js"
import { Leases } from "../services/Leases.js"
import { Limits } from "../services/Limits.js"
import { Liveness, type ProcessStart } from "../services/Liveness.js"
import { Mailboxes } from "../services/Mailboxes.js"
import { EndpointEvent, isLeftFor } from "../services/model/EndpointLifecycle.js"
import {
  EndpointNotReconnecting,
  EndpointOwnerTokenMismatch,
  EndpointUnknown,
  IpcChannelMissing,
  ReattachPidMismatch,
  type StoreUnavailable,
  TooManyEndpoints
} from "../services/model/Errors.js"
import { EndpointId } from "../services/model/Ids.js"
import { refuseStranger } from "../services/model/Ownership.js"
import { isSameSession, type Session, sessionFrom } from "../services/model/Session.js"
import { PlatformApi } from "../services/PlatformApi.js"
import { type Registered, type RegisterRequest, Registration } from "../services/Registration.js"
import { Registry } from "../services/Registry.js"
import { Spawner } from "../services/Spawner.js"
import { Store, Transaction } from "../services/Store.js"
import { mintUuid } from "./internal/minting.js"
import { platformRefusal } from "./internal/platformRefusal.js"
import { platformRegistration } from "./internal/platformRegistration.js"
import { storeCommits } from "./internal/storeChecks.js"
import { tokenMatcher } from "./internal/tokens.js"

export const layer: Layer.Layer<
  Registration,
  never,
  | Registry
  | Directory
  | Leases
  | Channels
  | Mailboxes
  | PlatformApi
  | Liveness
  | Spawner
  | Store
  | Limits
  | BrokerConfig
  | EventLog
> = Layer.effect(
  Registration,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const registry = yield* Registry
    const directory = yield* Directory
    const leases = yield* Leases
    const channels = yield* Channels
    const mailboxes = yield* Mailboxes
    const platform = yield* PlatformApi
    const liveness = yield* Liveness
    const spawner = yield* Spawner
    const store = yield* Store
    const limits = yield* Limits
    const log = yield* EventLog
    const clock = yield* Effect.clock

    const currentChannel = (pluginPid: number): Effect.Effect<Channel, IpcChannelMissing> =>
      Effect.suspend(() => {
        const channel = channels.unsafeCurrent(pluginPid)
        return channel === undefined
          ? new IpcChannelMissing({
              message: `Process ${pluginPid} has no open channel; open /v1/stream with the header x-plugin-pid first.`
            })
          : Effect.succeed(channel)
      })

    const canCommit = storeCommits(store)

    const notReconnecting = (endpoint: Endpoint) =>
      new EndpointNotReconnecting({ message: `Endpoint "${endpoint.id}" is in use on its plugin's channel.` })

    /** The endpoint this session left, or that was carried over to this channel and not claimed yet; none that demands its token. */
    const findLeft = (session: Session, channel: Channel): Endpoint | undefined => {
      for (const endpoint of directory.unsafeAll()) {
        if (
          endpoint.pluginPid === channel.pluginPid &&
          !endpoint.demandsToken &&
          isLeftFor(endpoint.state, channel.id) &&
          isSameSession(endpoint.session, session)
        ) {
          return endpoint
        }
      }
      return undefined
    }

    /** The session may be one that was started here. */
    const resolveSpawn = (
      transaction: Transaction,
      { plugin_pid, spawn_token }: RegisterRequest,
      endpoint: Endpoint
    ) => {
      if (!spawn_token || spawner.unsafeRegistered(transaction, spawn_token, endpoint.id)) return
      log.unsafeLog("warn", "endpoint_register_unknown_spawn_token", { plugin_pid })
    }

    /** Gives the endpoint to the channel; its process is the owner from now on. */
    const resume = (
      request: RegisterRequest,
      endpoint: Endpoint,
      channel: Channel,
      processStart: ProcessStart | undefined
    ) =>
      Effect.suspend((): Effect.Effect<Registered, EndpointNotReconnecting | StoreUnavailable> => {
        const transaction = new Transaction()
        const event = EndpointEvent.Resumed({ channel: channel.id })
        if (registry.unsafeApply(transaction, endpoint, event)._tag === "Ignored") return notReconnecting(endpoint)
        registry.unsafeHandOver(transaction, endpoint, channel.pluginPid, processStart)
        leases.unsafeResume(endpoint)
        resolveSpawn(transaction, request, endpoint)
        log.unsafeLog("info", "endpoint_resumed", { endpoint_id: endpoint.id, plugin_pid: channel.pluginPid })
        return Effect.as(store.unsafeCommitWithin(transaction), {
          endpointId: endpoint.id,
          ownerToken: endpoint.ownerToken,
          resumed: true,
          sessionNaming: undefined
        })
      })

    /** By id and token, from whatever process. */
    const named = (wanted: NonNullable<RegisterRequest["resume"]>) =>
      Effect.suspend((): Effect.Effect<Endpoint, EndpointUnknown | EndpointOwnerTokenMismatch> => {
        const endpoint = directory.unsafeGet(wanted.endpoint_id)
        if (endpoint === undefined) {
          return new EndpointUnknown({
            message: `No endpoint "${wanted.endpoint_id}" is registered here; register without "resume".`
          })
        }
        return tokenMatcher(endpoint.ownerToken)(wanted.endpoint_owner_token)
          ? Effect.succeed(endpoint)
          : new EndpointOwnerTokenMismatch({
              message: `"resume.endpoint_owner_token" is not the owner token of endpoint "${endpoint.id}".`
            })
      })

    /** Registrations the platform has not answered yet. */
    let registering = 0
    /** Keeps a place for one more endpoint until `use` is done. */
    const withPlace = <A, E>(use: Effect.Effect<A, E>): Effect.Effect<A, E | TooManyEndpoints> =>
      Effect.acquireUseRelease(
        Effect.suspend(() => {
          if (directory.unsafeCount() + registering < config.endpoints) return Effect.sync(() => registering++)
          limits.unsafeHit("endpoints")
          return new TooManyEndpoints({
            message: `All ${config.endpoints} endpoints are in use (setting endpoints); unregister those that are not needed.`,
            retryable: true
          })
        }),
        () => use,
        () => Effect.sync(() => registering--)
      )

    const registerNew = (
      request: RegisterRequest,
      session: Session,
      channel: Channel,
      processStart: ProcessStart | undefined
    ) =>
      Effect.gen(function* () {
        const nonce = mintUuid()
        const canSpawn = yield* spawner.isAvailable(session.kind)
        const registered = yield* withPlace(
          platform
            .register(platformRegistration({ session, pluginPid: channel.pluginPid, nonce, canSpawn }))
            .pipe(Effect.mapError(platformRefusal))
        )
        const transaction = new Transaction()
        // The platform took its time: the channel may be another one by now, or gone.
        const endpoint = registry.unsafeAdd(
          transaction,
          {
            id: EndpointId(registered.endpointId),
            nonce,
            ownerToken: mintUuid(),
            pluginPid: channel.pluginPid,
            processStart,
            session,
            capabilities: channel.capabilities,
            heartbeatAfterMs: registered.heartbeatAfterMs
          },
          channels.unsafeCurrent(channel.pluginPid)
        )
        resolveSpawn(transaction, request, endpoint)
        leases.unsafeWatch(endpoint)
        yield* store.unsafeCommitWithin(transaction)
        return {
          endpointId: endpoint.id,
          ownerToken: endpoint.ownerToken,
          resumed: false,
          sessionNaming: registered.sessionNaming
        }
      })

    return {
      register: (request) =>
        Effect.gen(function* () {
          yield* currentChannel(request.plugin_pid)
          const session = yield* sessionFrom(request, {
            now: new Date(clock.unsafeCurrentTimeMillis()).toISOString(),
            taskHintMax: config.taskHintMax
          })
          yield* canCommit
          const processStart = yield* liveness.startOf(request.plugin_pid)
          const channel = yield* currentChannel(request.plugin_pid)
          const left = request.resume ? yield* named(request.resume) : findLeft(session, channel)
          return yield* left === undefined
            ? registerNew(request, session, channel, processStart)
            : resume(request, left, channel, processStart)
        }),

      reattach: (id, pluginPid, caller) =>
        Effect.gen(function* () {
          yield* currentChannel(pluginPid)
          const processStart = yield* liveness.startOf(pluginPid)
          const channel = yield* currentChannel(pluginPid)
          const endpoint = directory.unsafeGet(id)
          if (endpoint === undefined) {
            return yield* new EndpointUnknown({
              message: `No endpoint "${id}" is registered here; its grace period may be over. Register again.`
            })
          }
          if (endpoint.pluginPid !== pluginPid) {
            return yield* new ReattachPidMismatch({
              message: `Endpoint "${id}" belongs to process ${endpoint.pluginPid}, not to process ${pluginPid}.`
            })
          }
          const stranger = refuseStranger(
            { ...endpoint, endpointId: endpoint.id },
            { ...caller, pid: undefined },
            tokenMatcher(endpoint.ownerToken)
          )
          if (stranger?._tag === "endpoint_owner_token_mismatch") return yield* stranger
          yield* canCommit
          const { undelivered } = mailboxes.unsafeUsage(endpoint.key)
          const transaction = new Transaction()
          const event = EndpointEvent.Reattached({ channel: channel.id })
          if (registry.unsafeApply(transaction, endpoint, event)._tag === "Ignored") {
            return yield* notReconnecting(endpoint)
          }
          // It may be the next process with this pid.
          registry.unsafeHandOver(transaction, endpoint, pluginPid, processStart)
          leases.unsafeResume(endpoint)
          log.unsafeLog("info", "endpoint_reattached", { endpoint_id: endpoint.id, undelivered })
          yield* store.unsafeCommitWithin(transaction)
          return undelivered
        })
    }
  })
)
