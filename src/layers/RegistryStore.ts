/** The endpoints of this broker, in memory and in the store. Asks the state machine and does what it says. */
import { Effect, Layer, Schedule } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Channels } from "../services/Channels.js"
import { CorrelationIndex } from "../services/CorrelationIndex.js"
import { Credentials } from "../services/Credentials.js"
import { Directory, type Endpoint } from "../services/Directory.js"
import { EventLog } from "../services/EventLog.js"
import { IdempotencyKeys } from "../services/IdempotencyKeys.js"
import { channelCapabilities } from "../services/ipc/Capabilities.js"
import { Liveness, type ProcessStart } from "../services/Liveness.js"
import { Mailboxes } from "../services/Mailboxes.js"
import {
  begin,
  type EndpointEffect,
  EndpointEvent,
  type EndpointState,
  type LifecycleRules,
  recovered,
  step
} from "../services/model/EndpointLifecycle.js"
import { type ChannelId, type EndpointId, EndpointKey } from "../services/model/Ids.js"
import type { Session } from "../services/model/Session.js"
import { ordered } from "../services/model/StoreKey.js"
import { Registry } from "../services/Registry.js"
import { ReplyCorrelations } from "../services/ReplyCorrelations.js"
import { RetryQueue } from "../services/RetryQueue.js"
import { Shutdown } from "../services/Shutdown.js"
import { Store, Transaction, table } from "../services/Store.js"
import { storeCommits } from "./internal/storeChecks.js"
import { supervised } from "./internal/supervised.js"
import { makeSweeper } from "./internal/sweeper.js"

interface EndpointRecord {
  readonly id: EndpointId
  readonly aliases: ReadonlyArray<EndpointId>
  readonly heartbeatAfterMs: number | null
  readonly nonce: string
  readonly ownerToken: string
  readonly demandsToken: boolean
  readonly survivesExit: boolean
  readonly pluginPid: number
  readonly processStart: ProcessStart | null
  readonly session: Session
  readonly registeredAt: number
}
const records = table<EndpointRecord>("endpoints", 1)

/** The last key that was given. None is given twice: what an ended endpoint left in the store is never another one's. */
const keys = table<{ readonly last: number }>("endpoint_keys", 1)
const lastGiven = "last"

interface Registered extends Endpoint {
  id: EndpointId
  aliases: ReadonlyArray<EndpointId>
  heartbeatAfterMs: number | undefined
  pluginPid: number
  processStart: ProcessStart | undefined
  session: Session
  state: EndpointState
  stateSince: number
  readonly survivesExit: boolean
}

export const layer: Layer.Layer<
  Registry,
  never,
  | Store
  | Channels
  | Directory
  | Mailboxes
  | CorrelationIndex
  | ReplyCorrelations
  | IdempotencyKeys
  | RetryQueue
  | Liveness
  | Shutdown
  | Credentials
  | BrokerConfig
  | EventLog
> = Layer.scoped(
  Registry,
  Effect.gen(function* () {
    const { graceMs, livenessIntervalMs } = yield* BrokerConfig
    const { accountId } = yield* Credentials
    const store = yield* Store
    const channels = yield* Channels
    const directory = yield* Directory
    const mailboxes = yield* Mailboxes
    const correlations = yield* CorrelationIndex
    const replies = yield* ReplyCorrelations
    const idempotencyKeys = yield* IdempotencyKeys
    const retryQueue = yield* RetryQueue
    const liveness = yield* Liveness
    const shutdown = yield* Shutdown
    const log = yield* EventLog
    const clock = yield* Effect.clock

    const byKey = new Map<EndpointKey, Registered>()
    const byChannel = new Map<ChannelId, Set<Registered>>()
    let lastKey = store.unsafeGet(keys, lastGiven)?.last ?? 0

    const now = () => clock.unsafeCurrentTimeMillis()
    const rules = ({
      demandsToken,
      survivesExit
    }: Pick<Registered, "demandsToken" | "survivesExit">): LifecycleRules => ({
      now: now(),
      graceMs,
      survivesExit,
      demandsToken,
      isRestarting: shutdown.unsafeReason() === "restart"
    })

    const save = (transaction: Transaction, endpoint: Registered) =>
      transaction.put(records, ordered(endpoint.key), {
        id: endpoint.id,
        aliases: endpoint.aliases,
        heartbeatAfterMs: endpoint.heartbeatAfterMs ?? null,
        nonce: endpoint.nonce,
        ownerToken: endpoint.ownerToken,
        demandsToken: endpoint.demandsToken,
        survivesExit: endpoint.survivesExit,
        pluginPid: endpoint.pluginPid,
        processStart: endpoint.processStart ?? null,
        session: endpoint.session,
        registeredAt: endpoint.registeredAt
      })

    const enter = (endpoint: Registered, state: EndpointState) => {
      if (endpoint.state._tag === "Active") byChannel.get(endpoint.state.channel)?.delete(endpoint)
      endpoint.state = state
      endpoint.stateSince = now()
      if (state._tag !== "Active") return
      let bound = byChannel.get(state.channel)
      if (bound === undefined) {
        bound = new Set()
        byChannel.set(state.channel, bound)
      }
      bound.add(endpoint)
    }

    const perform = (transaction: Transaction, endpoint: Registered, effect: EndpointEffect) => {
      switch (effect._tag) {
        case "StartGrace":
          return sweeper.unsafeWakeAt(effect.deadline)
        case "CancelGrace":
          // The sweep looks at states: an endpoint that is back has no deadline.
          return
        case "AttachMailbox":
          return mailboxes.unsafeAttach(transaction, endpoint.key, {
            channel: effect.channel,
            receipts: channels.unsafeGet(effect.channel)?.capabilities.has(channelCapabilities.receipts) ?? false
          })
        case "DetachMailbox":
          return mailboxes.unsafeDetach(transaction, endpoint.key)
        case "HandMailToInbox":
          return mailboxes.unsafeHandToInbox(transaction, endpoint.key, endpoint.id)
        case "Report":
          return retryQueue.unsafeReport(transaction, endpoint.id, effect.state, effect.reason)
        case "Remove":
          byKey.delete(endpoint.key)
          directory.unsafeRemove(endpoint)
          correlations.unsafeForget(transaction, endpoint.key)
          replies.unsafeForget(transaction, endpoint.key)
          idempotencyKeys.unsafeForget(transaction, endpoint.key)
          retryQueue.unsafeRemove(transaction, endpoint.id)
          transaction.delete(records, ordered(endpoint.key))
          return
      }
    }

    const unsafeApply: Registry["Type"]["unsafeApply"] = (transaction, { key }, event) => {
      const endpoint = byKey.get(key)!
      const transition = step(endpoint.state, event, rules(endpoint))
      const fields = { endpoint_id: endpoint.id, event: event._tag, state: endpoint.state._tag }
      if (transition._tag === "Ignored") {
        log.unsafeLog("debug", "state_event_ignored", { ...fields, because: transition.because })
        return transition
      }
      log.unsafeLog("info", "endpoint_state_changed", { ...fields, next: transition.next._tag })
      enter(endpoint, transition.next)
      for (const effect of transition.effects) perform(transaction, endpoint, effect)
      return transition
    }

    /** Sends each of these endpoints an event, in a commit of its own: their mail together may be more than one should write. */
    const applyToEach = (endpoints: Iterable<Registered>, event: (endpoint: Registered) => EndpointEvent) => {
      for (const endpoint of [...endpoints]) {
        const transaction = new Transaction()
        unsafeApply(transaction, endpoint, event(endpoint))
        store.unsafeCommit(transaction)
      }
    }

    const sweeper = yield* makeSweeper("endpoints", (at) => {
      const due: Array<Registered> = []
      let next = Number.POSITIVE_INFINITY
      for (const endpoint of byKey.values()) {
        if (endpoint.state._tag !== "Reconnecting") continue
        if (endpoint.state.deadline <= at) due.push(endpoint)
        else next = Math.min(next, endpoint.state.deadline)
      }
      applyToEach(due, () => EndpointEvent.GraceExpired())
      return Number.isFinite(next) ? next : undefined
    })

    /** Is the very process that owns the endpoint alive? The next one with its pid is another. */
    const isAlive = ({ pluginPid, processStart }: Registered) =>
      processStart === undefined || liveness.unsafeIsAlive(pluginPid, processStart)

    const stored = store.unsafeRange(records, { from: "", until: "~" })
    const recovery = new Transaction()
    for (const [key, { heartbeatAfterMs, processStart, ...record }] of stored) {
      const { effects, next } = recovered(rules(record))
      const endpoint: Registered = {
        ...record,
        key: EndpointKey(Number.parseInt(key, 36)),
        agent: record.session.agentId ?? accountId,
        heartbeatAfterMs: heartbeatAfterMs ?? undefined,
        processStart: processStart ?? undefined,
        state: next,
        stateSince: now()
      }
      byKey.set(endpoint.key, endpoint)
      lastKey = Math.max(lastKey, endpoint.key)
      directory.unsafePut(endpoint)
      mailboxes.unsafeOpen(endpoint.key, endpoint.id)
      for (const effect of effects) perform(recovery, endpoint, effect)
    }
    // Any of these records may have been lost: a key that something in the store still bears is not given again.
    lastKey = Math.max(lastKey, mailboxes.unsafeOpenedAll(recovery))
    for (const memory of [correlations, replies, idempotencyKeys]) {
      memory.unsafeForgetOthers(recovery, (endpoint) => byKey.has(endpoint))
    }
    store.unsafeCommit(recovery)
    if (stored.length > 0) log.unsafeLog("info", "endpoints_recovered", { count: stored.length })

    yield* Effect.sync(() => {
      const gone = Array.from(byKey.values()).filter((endpoint) => !isAlive(endpoint))
      applyToEach(gone, () => EndpointEvent.PluginExited())
    }).pipe(Effect.schedule(Schedule.spaced(livenessIntervalMs)), supervised("liveness"))

    return {
      unsafeAdd: (transaction, { capabilities, session, ...given }, channel) => {
        const announced = {
          demandsToken: capabilities.has(channelCapabilities.ownerToken),
          survivesExit: capabilities.has(channelCapabilities.resume)
        }
        const { effects, next } = begin(channel?.id, rules(announced))
        const endpoint: Registered = {
          ...given,
          ...announced,
          aliases: [],
          key: EndpointKey(++lastKey),
          agent: session.agentId ?? accountId,
          session,
          state: next,
          stateSince: now(),
          registeredAt: now()
        }
        byKey.set(endpoint.key, endpoint)
        directory.unsafePut(endpoint)
        transaction.put(keys, lastGiven, { last: lastKey })
        save(transaction, endpoint)
        mailboxes.unsafeOpen(endpoint.key, endpoint.id)
        enter(endpoint, next)
        for (const effect of effects) perform(transaction, endpoint, effect)
        log.unsafeLog("info", "endpoint_registered", {
          endpoint_id: endpoint.id,
          kind: session.kind,
          plugin_pid: endpoint.pluginPid
        })
        return endpoint
      },

      unsafeHandOver: (transaction, { key }, pluginPid, processStart) => {
        const endpoint = byKey.get(key)!
        endpoint.pluginPid = pluginPid
        endpoint.processStart = processStart
        save(transaction, endpoint)
      },

      unsafeRegisteredAgain: (transaction, { key }, { heartbeatAfterMs, id }) => {
        const endpoint = byKey.get(key)!
        endpoint.heartbeatAfterMs = heartbeatAfterMs
        if (id !== endpoint.id) {
          endpoint.aliases = [...endpoint.aliases, endpoint.id].filter((alias) => alias !== id)
          endpoint.id = id
          directory.unsafePut(endpoint)
        }
        save(transaction, endpoint)
        const state = endpoint.state._tag === "Active" ? "active" : "reconnecting"
        retryQueue.unsafeReport(transaction, id, state, "register")
        log.unsafeLog("info", "endpoint_registered_again", { endpoint_id: id, aliases: endpoint.aliases.length })
      },

      unsafeSetTaskHint: (transaction, { key }, taskHint) => {
        const endpoint = byKey.get(key)!
        endpoint.session = { ...endpoint.session, taskHint }
        save(transaction, endpoint)
      },

      unsafeApply,

      unsafeChannelReplaced: (from, to) => {
        applyToEach(byChannel.get(from.id) ?? [], () => EndpointEvent.ChannelReplaced({ from: from.id, to: to.id }))
        byChannel.delete(from.id)
      },

      unsafeChannelClosed: ({ id }) => {
        applyToEach(byChannel.get(id) ?? [], (endpoint) =>
          EndpointEvent.ChannelClosed({ channel: id, pluginAlive: isAlive(endpoint) })
        )
        byChannel.delete(id)
      },

      unregister: (id) =>
        Effect.zipRight(
          storeCommits(store),
          Effect.suspend(() => {
            const endpoint = directory.unsafeGet(id)
            if (endpoint === undefined) return Effect.void
            const transaction = new Transaction()
            unsafeApply(transaction, endpoint, EndpointEvent.Unregistered())
            return store.unsafeCommitWithin(transaction)
          })
        )
    }
  })
)
