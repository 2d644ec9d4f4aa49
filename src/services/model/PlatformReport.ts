/** What the broker owes the platform: each report is posted until it is accepted, in order per lane. */
import { Schema } from "effect"
import { ControlOutcome } from "./ControlEvent.js"
import { optional } from "./Json.js"

/** An undispatched message came, went to an endpoint, or left otherwise. Posted as it stands here. */
export const UndispatchedChanged = Schema.Struct({
  type: Schema.Literal("undispatched_changed"),
  version: Schema.Literal(1),
  action: Schema.Literal("add", "dispatch", "remove"),
  undispatched_id: Schema.String,
  sender_address: optional(Schema.String),
  content_preview: optional(Schema.String),
  reason: optional(Schema.Literal("no_target_endpoint", "closed_session_continuation")),
  target_endpoint_id_hint: optional(Schema.String),
  in_reply_to: optional(Schema.String),
  arrived_at: optional(Schema.Number),
  source_message_id: optional(Schema.String),
  traceparent: optional(Schema.String),
  dispatched_to_endpoint_id: optional(Schema.String),
  remove_reason: optional(Schema.String)
})
export interface UndispatchedChanged extends Schema.Schema.Type<typeof UndispatchedChanged> {}

/** The broker's presence on the network changed. Posted as it stands here; `ts` is epoch milliseconds. */
export const NetworkPresenceChanged = Schema.Struct({
  type: Schema.Literal("network_presence_changed"),
  version: Schema.Literal(1),
  state: Schema.Literal("online", "reconnecting", "offline"),
  ts: Schema.Number,
  reason: Schema.String
})
export interface NetworkPresenceChanged extends Schema.Schema.Type<typeof NetworkPresenceChanged> {}

/** What became of a control event. Posted as it stands here. */
export const ControlAck = Schema.Struct({ idempotency_key: Schema.String, ...ControlOutcome.fields })
export interface ControlAck extends Schema.Schema.Type<typeof ControlAck> {}

export const PlatformReport = Schema.Union(
  /** An endpoint became active, reconnecting or closed. `ts` is the ISO time of the transition here. */
  Schema.TaggedStruct("EndpointState", {
    endpointId: Schema.String,
    state: Schema.Literal("active", "reconnecting", "closed"),
    reason: Schema.String,
    ts: Schema.String
  }),
  /** The endpoint's record can go. */
  Schema.TaggedStruct("EndpointRemoved", { endpointId: Schema.String }),
  /** What the owner sees beside the endpoint's name. */
  Schema.TaggedStruct("DisplayMetadata", { endpointId: Schema.String, taskHint: Schema.String }),
  Schema.TaggedStruct("UndispatchedChanged", { event: UndispatchedChanged }),
  Schema.TaggedStruct("NetworkPresenceChanged", { event: NetworkPresenceChanged }),
  Schema.TaggedStruct("ControlAck", { ack: ControlAck })
)
export type PlatformReport = Schema.Schema.Type<typeof PlatformReport>

/** Reports of one lane are posted one after the other, in the order they were added. */
export const laneOf = (report: PlatformReport): string => {
  switch (report._tag) {
    case "EndpointState":
    case "EndpointRemoved":
    case "DisplayMetadata":
      return `endpoint:${report.endpointId}`
    case "UndispatchedChanged":
      return `undispatched:${report.event.undispatched_id}`
    case "NetworkPresenceChanged":
      return "presence"
    case "ControlAck":
      return `control:${report.ack.idempotency_key}`
  }
}

/** True when `newer` makes a waiting `older` of the same lane pointless: only the latest state of a thing is owed. */
export const supersedes = (newer: PlatformReport, older: PlatformReport): boolean => {
  switch (newer._tag) {
    case "UndispatchedChanged":
    case "EndpointRemoved":
      return false
    // The same said twice is said once; what came in between is not lost.
    case "ControlAck":
      return (
        older._tag === "ControlAck" && newer.ack.status === older.ack.status && newer.ack.detail === older.ack.detail
      )
    default:
      return newer._tag === older._tag
  }
}

/** How things are at this broker, as far as reports speak of them. */
export interface ReportedWorld {
  readonly endpointState: (endpointId: string) => "active" | "reconnecting" | "closed"
  readonly taskHint: (endpointId: string) => string | undefined
  readonly presence: () => "online" | "reconnecting" | "offline"
  readonly isUndispatched: (undispatchedId: string) => boolean
}

/** False when the report would tell the platform what is no longer so: others that did were accepted since. */
export const isStillSo = (report: PlatformReport, world: ReportedWorld): boolean => {
  switch (report._tag) {
    case "EndpointState":
      return world.endpointState(report.endpointId) === report.state
    case "EndpointRemoved":
      return world.endpointState(report.endpointId) === "closed"
    case "DisplayMetadata":
      return world.taskHint(report.endpointId) === report.taskHint
    case "UndispatchedChanged":
      return world.isUndispatched(report.event.undispatched_id) === (report.event.action === "add")
    case "NetworkPresenceChanged":
      return world.presence() === report.event.state
    case "ControlAck":
      return true
  }
}
