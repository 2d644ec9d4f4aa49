/** What an operator sees and does. These routes take the operator token only. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { OperatorOnly, onWire } from "../model/Errors.js"
import { optional } from "../model/Json.js"
import { Authorized } from "./Auth.js"
import { Ok } from "./Fields.js"

const Count = Schema.Number
/** ISO time. */
const Time = Schema.String

const EndpointStatus = Schema.Struct({
  endpoint_id: Schema.String,
  agent: Schema.String,
  kind: Schema.String,
  label: Schema.String,
  task_hint: optional(Schema.String),
  plugin_pid: Schema.Number,
  state: Schema.Literal("active", "reconnecting", "closed"),
  state_since: Time,
  /** Until when its plugin is waited for, while reconnecting. */
  grace_deadline: optional(Time),
  /** Messages stored or in flight. */
  undelivered: Count,
  in_flight: Count,
  stored_bytes: Count
})

export const Books = Schema.Struct({
  accepted: Count,
  delivered: Count,
  held: Count,
  inbox: Count,
  expired: Count,
  dead: Count,
  unaccounted: Count
})

/** What is not as it should be with the durable store, or was not when it was opened; absent parts are as they should be. */
const StoreFindings = Schema.Struct({
  /** Records that failed their checksum and are not served, by table, and where their bytes are. */
  set_aside: optional(Schema.Record({ key: Schema.String, value: Count })),
  set_aside_file: optional(Schema.String),
  /** Records found damaged since the start. */
  damaged_since: optional(Count),
  /** The store was copied because it was damaged, or because opening it had died. */
  salvaged: optional(
    Schema.Struct({
      reason: Schema.String,
      /** Records that could not be read; `null` when their number is not known. */
      missing: Schema.NullOr(Count),
      /** Tables they may have been of. */
      missing_from: Schema.Array(Schema.String),
      /** Records found outside of the damaged index; some may have been deleted before. */
      recovered: Count,
      problems: Schema.Array(Schema.String),
      /** Where the damaged store is kept. */
      kept_as: optional(Schema.String)
    })
  ),
  /** Damaged stores that are kept, from this start and earlier ones. */
  damaged_copies: optional(Schema.Array(Schema.String)),
  migrated: optional(Count),
  /** Bytes, when the start made the file smaller. */
  compacted: optional(Schema.Struct({ before: Count, after: Count }))
})
export type StoreFindings = typeof StoreFindings.Type

/** Everything the broker knows of itself. */
export const Status = Schema.Struct({
  version: Schema.String,
  pid: Schema.Number,
  started_at: Time,
  account: Schema.String,
  connector: Schema.Struct({
    name: Schema.String,
    state: Schema.Literal("connecting", "up", "down"),
    since: Time,
    reason: optional(Schema.String),
    /** Whom the network knows at this end, and whose agent that is; where it says so. */
    agent: optional(Schema.String),
    owner: optional(Schema.String)
  }),
  /** The stream over which the platform tells the broker what its owner asks for; `off` where the network has none. */
  control_events: Schema.Struct({
    name: Schema.String,
    state: Schema.Literal("off", "connecting", "open", "waiting"),
    /** Since when it is open, off, or neither of them. */
    since: Time,
    /** Why it was lost, while it is not open. */
    reason: optional(Schema.String)
  }),
  presence: Schema.Literal("online", "reconnecting", "offline"),
  store: Schema.Struct({
    healthy: Schema.Boolean,
    /** What it is instead: `full` is too little room for new mail, and all else goes on; `failing`, nothing can be written. */
    state: optional(Schema.Literal("full", "failing")),
    since: optional(Time),
    reason: optional(Schema.String),
    findings: optional(StoreFindings)
  }),
  sockets: Schema.Struct({ open: Count, limit: Count }),
  channels: Schema.Struct({ open: Count, limit: Count }),
  /** How often a limit turned something away since the broker started, by the name of the limit; those never hit are absent. */
  limits_hit: Schema.Record({ key: Schema.String, value: Count }),
  endpoints: Schema.Array(EndpointStatus),
  mailboxes: Schema.Struct({ messages: Count, bytes: Count, limit_messages: Count, limit_bytes: Count }),
  inbox: Schema.Struct({ messages: Count, bytes: Count, limit_messages: Count, limit_bytes: Count }),
  held_back: Schema.Array(Schema.Struct({ destination: Schema.String, since: Time, waiting: Count })),
  /** Messages of plugins that wait for the network, and how many were given up since the broker started. */
  sends: Schema.Struct({ waiting: Count, given_up: Count }),
  platform: Schema.Struct({
    name: Schema.String,
    waiting: Count,
    dead: Count,
    paused_until: optional(Time),
    last_failure: optional(Schema.String)
  }),
  books: Books,
  /** Messages since the broker started whose `expires_at` could not be read; they do not expire. */
  invalid_expiries: Count,
  dead_letters: Count,
  log_lines_dropped: Count,
  /** What an operator should look at, as sentences. */
  warnings: Schema.Array(Schema.String)
})
export type Status = typeof Status.Type

export const DrainRequest = Schema.Struct({
  /** Another broker follows at once: the platform keeps the endpoints, and hears that they are reconnecting. */
  restart: Schema.optionalWith(Schema.Boolean, { default: () => false })
})

export class OperatorGroup extends HttpApiGroup.make("operator")
  .add(
    HttpApiEndpoint.get("status", "/v1/operator/status")
      .addSuccess(Status)
      .addError(onWire(OperatorOnly))
      .annotate(OpenApi.Description, "What the broker holds at this moment.")
  )
  .add(
    HttpApiEndpoint.post("stop", "/v1/operator/stop")
      .addSuccess(Ok)
      .addError(onWire(OperatorOnly))
      .annotate(OpenApi.Description, "Ends the broker. Answers before it leaves.")
  )
  .add(
    HttpApiEndpoint.post("drain", "/v1/operator/drain")
      .setPayload(DrainRequest)
      .addSuccess(Ok)
      .addError(onWire(OperatorOnly))
      .annotate(
        OpenApi.Description,
        "Ends the broker, and with `restart` makes place for the next one. Answers before it leaves."
      )
  )
  .middleware(Authorized) {}
