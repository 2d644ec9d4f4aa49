/** Asks every service what it holds. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { BrokerStatus } from "../services/BrokerStatus.js"
import { Channels } from "../services/Channels.js"
import { Connector } from "../services/Connector.js"
import { ControlEvents, type ControlStatus } from "../services/ControlEvents.js"
import { Credentials } from "../services/Credentials.js"
import { DeadLetters } from "../services/DeadLetters.js"
import { Directory, type Endpoint } from "../services/Directory.js"
import { EventLog } from "../services/EventLog.js"
import { Inbox } from "../services/Inbox.js"
import { serverVersion } from "../services/ipc/Capabilities.js"
import type { Status } from "../services/ipc/OperatorGroup.js"
import { Ledger } from "../services/Ledger.js"
import { Limits } from "../services/Limits.js"
import { Mailboxes } from "../services/Mailboxes.js"
import { displayLabel } from "../services/model/Session.js"
import { version } from "../services/model/Version.js"
import { Outbox } from "../services/Outbox.js"
import { PlatformApi } from "../services/PlatformApi.js"
import { Presence } from "../services/Presence.js"
import { Router } from "../services/Router.js"
import { SendQueue } from "../services/SendQueue.js"
import { Store } from "../services/Store.js"
import { StoreReport } from "../services/StoreReport.js"
import { findingsOf, storeWarnings } from "./internal/storeStatus.js"

const iso = (ms: number) => new Date(ms).toISOString()
const optionally = <K extends string, V>(key: K, value: V | undefined) =>
  (value === undefined ? {} : { [key]: value }) as { readonly [P in K]?: V }
const states = { Active: "active", Reconnecting: "reconnecting", Closed: "closed" } as const
const troubles = { Full: "full", Failing: "failing" } as const

export const layer: Layer.Layer<
  BrokerStatus,
  never,
  | Channels
  | Connector
  | ControlEvents
  | SendQueue
  | Credentials
  | DeadLetters
  | Directory
  | EventLog
  | Inbox
  | Ledger
  | Limits
  | Mailboxes
  | Outbox
  | PlatformApi
  | Presence
  | Router
  | Store
  | StoreReport
  | BrokerConfig
> = Layer.effect(
  BrokerStatus,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const channels = yield* Channels
    const connector = yield* Connector
    const controlEvents = yield* ControlEvents
    const sendQueue = yield* SendQueue
    const { accountId } = yield* Credentials
    const deadLetters = yield* DeadLetters
    const directory = yield* Directory
    const log = yield* EventLog
    const inbox = yield* Inbox
    const ledger = yield* Ledger
    const limits = yield* Limits
    const mailboxes = yield* Mailboxes
    const outbox = yield* Outbox
    const platform = yield* PlatformApi
    const presence = yield* Presence
    const router = yield* Router
    const store = yield* Store
    const storeReport = yield* StoreReport
    const clock = yield* Effect.clock
    const startedAt = clock.unsafeCurrentTimeMillis()

    /** It comes and goes without harm: what the platform says meanwhile it says when the stream is open again. */
    const isLongAway = ({ since, state }: ControlStatus) =>
      state !== "open" && state !== "off" && clock.unsafeCurrentTimeMillis() - since >= config.controlAwayMs

    const endpointStatus = ({ agent, id, key, pluginPid, session, state, stateSince }: Endpoint) => {
      const { inFlight, storedBytes, undelivered } = mailboxes.unsafeUsage(key)
      return {
        endpoint_id: id,
        agent,
        kind: session.kind,
        label: displayLabel(session, pluginPid),
        ...optionally("task_hint", session.taskHint),
        plugin_pid: pluginPid,
        state: states[state._tag],
        state_since: iso(stateSince),
        ...(state._tag === "Reconnecting" ? { grace_deadline: iso(state.deadline) } : {}),
        undelivered,
        in_flight: inFlight,
        stored_bytes: storedBytes
      }
    }

    const unsafeStatus = (): Status => {
      const link = connector.unsafeLink()
      const control = controlEvents.unsafeStatus()
      const health = store.unsafeHealth()
      const totals = mailboxes.unsafeTotals()
      const usage = inbox.unsafeUsage()
      const routing = router.unsafeStatus()
      const owed = outbox.unsafeStatus()
      const sends = sendQueue.unsafeStatus()
      const books = ledger.unsafeBooks()
      const openChannels = channels.unsafeCount()
      const openSockets = limits.unsafeSockets()
      const endpoints = Array.from(directory.unsafeAll(), endpointStatus)
      const isNearly = (used: number, limit: number) => used >= 0.9 * limit
      const warnings = [
        link.state !== "up" && `The link to the network is ${link.state}${link.reason ? `: ${link.reason}` : ""}.`,
        isLongAway(control) &&
          `The platform's control events have not been heard since ${iso(control.since)}${control.lastFailure ? `: ${control.lastFailure}` : ""}.`,
        health._tag === "Failing" && `The store cannot be written: ${health.reason}.`,
        health._tag === "Full" && `No new mail is taken, and mail that is here still leaves: ${health.reason}.`,
        ...storeWarnings(storeReport),
        (isNearly(usage.messages, usage.capacityMessages) || isNearly(usage.bytes, usage.capacityBytes)) &&
          `The undispatched inbox is nearly full (${usage.messages} messages, ${usage.bytes} bytes).`,
        (isNearly(totals.messages, config.totalMessages) || isNearly(totals.bytes, config.totalBytes)) &&
          `The mailboxes are nearly full (${totals.messages} messages, ${totals.bytes} bytes).`,
        ...endpoints
          .filter(
            ({ stored_bytes, undelivered, in_flight }) =>
              isNearly(undelivered - in_flight, config.mailboxMessages) || isNearly(stored_bytes, config.mailboxBytes)
          )
          .map(({ endpoint_id }) => `The mailbox of ${endpoint_id} is nearly full.`),
        isNearly(openSockets, config.sockets) && `${openSockets} of ${config.sockets} connections are in use.`,
        isNearly(endpoints.length, config.endpoints) &&
          `${endpoints.length} of ${config.endpoints} endpoints are registered.`,
        isNearly(openChannels, config.channels) && `${openChannels} of ${config.channels} plugin channels are in use.`,
        ...channels
          .unsafeContended()
          .map(
            (pluginPid) =>
              `Clients of process ${pluginPid} displaced each other's channels; only one of them is connected now.`
          ),
        ...routing.heldBack.map(
          ({ destination, waiting }) =>
            `${waiting} messages for ${destination} wait at the network because they cannot be stored here.`
        ),
        routing.isStalled && "So much waits at the network that nothing new is taken until it moves.",
        sends.givenUp > 0 && `${sends.givenUp} messages that waited for the network were given up; the log names them.`,
        owed.pausedUntil !== undefined && "The platform refused the broker's credentials; reports wait.",
        owed.dead > 0 && `The platform refused ${owed.dead} reports for good.`,
        books.unaccounted !== 0 && `${books.unaccounted} messages are unaccounted for; this is a fault of the broker.`
      ].filter((warning) => typeof warning === "string")

      return {
        version: serverVersion(version),
        pid: process.pid,
        started_at: iso(startedAt),
        account: accountId,
        connector: {
          name: connector.name,
          state: link.state,
          since: iso(link.since),
          ...optionally("reason", link.reason),
          ...optionally("agent", link.agent),
          ...optionally("owner", link.owner)
        },
        control_events: {
          name: controlEvents.name,
          state: control.state,
          since: iso(control.since),
          ...optionally("reason", control.lastFailure)
        },
        presence: presence.unsafeCurrent(),
        store: {
          ...(health._tag === "Healthy"
            ? { healthy: true }
            : { healthy: false, state: troubles[health._tag], since: iso(health.since), reason: health.reason }),
          ...optionally("findings", findingsOf(storeReport))
        },
        sockets: { open: openSockets, limit: config.sockets },
        channels: { open: openChannels, limit: config.channels },
        limits_hit: limits.unsafeHits(),
        endpoints,
        mailboxes: {
          ...totals,
          limit_messages: config.totalMessages,
          limit_bytes: config.totalBytes
        },
        inbox: {
          messages: usage.messages,
          bytes: usage.bytes,
          limit_messages: usage.capacityMessages,
          limit_bytes: usage.capacityBytes
        },
        held_back: routing.heldBack.map(({ since, ...held }) => ({ ...held, since: iso(since) })),
        sends: { waiting: sends.waiting, given_up: sends.givenUp },
        platform: {
          name: platform.name,
          waiting: owed.waiting,
          dead: owed.dead,
          ...optionally("paused_until", owed.pausedUntil === undefined ? undefined : iso(owed.pausedUntil)),
          ...optionally("last_failure", owed.lastFailure)
        },
        books,
        invalid_expiries: routing.invalidExpiries,
        dead_letters: deadLetters.unsafeCount(),
        log_lines_dropped: log.unsafeDropped(),
        warnings
      }
    }
    return { unsafeStatus }
  })
)
