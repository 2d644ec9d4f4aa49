/** Whether this broker is on the network: what the connector's link means after its own grace period. Total and pure. */
import { Data } from "effect"

export type Presence = "online" | "reconnecting" | "offline"

export type PresenceReason =
  | "connector_connected"
  | "connector_disconnected"
  | "connector_reconnected"
  | "grace_timeout"
  | "broker_shutdown"

export type PresenceEvent = "connector_connected" | "connector_disconnected" | "presence_grace_expired" | "shutdown"

export type PresenceEffect = Data.TaggedEnum<{
  /** Send `presence_grace_expired` when the presence grace period is over. */
  StartGrace: {}
  CancelGrace: {}
  /** Tell plugins, then the platform. */
  Emit: { readonly state: Presence; readonly reason: PresenceReason }
}>
export const PresenceEffect = Data.taggedEnum<PresenceEffect>()

export interface PresenceTransition {
  readonly next: Presence
  /** In this order. Empty when the event was ignored. */
  readonly effects: ReadonlyArray<PresenceEffect>
}

const { StartGrace, CancelGrace, Emit } = PresenceEffect
const offlineForGood = Emit({ state: "offline", reason: "broker_shutdown" })

const table: Record<Presence, Partial<Record<PresenceEvent, PresenceTransition>>> = {
  offline: {
    connector_connected: { next: "online", effects: [Emit({ state: "online", reason: "connector_connected" })] },
    shutdown: { next: "offline", effects: [offlineForGood] }
  },
  online: {
    connector_disconnected: {
      next: "reconnecting",
      effects: [StartGrace(), Emit({ state: "reconnecting", reason: "connector_disconnected" })]
    },
    shutdown: { next: "offline", effects: [offlineForGood] }
  },
  reconnecting: {
    connector_connected: {
      next: "online",
      effects: [CancelGrace(), Emit({ state: "online", reason: "connector_reconnected" })]
    },
    presence_grace_expired: { next: "offline", effects: [Emit({ state: "offline", reason: "grace_timeout" })] },
    shutdown: { next: "offline", effects: [CancelGrace(), offlineForGood] }
  }
}

export const step = (state: Presence, event: PresenceEvent): PresenceTransition =>
  table[state][event] ?? { next: state, effects: [] }
