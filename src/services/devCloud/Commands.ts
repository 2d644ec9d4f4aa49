/** What the development cloud can be told to do: the bodies of its command surface, and the arguments of its service. */
import { Schema } from "effect"
import { optional } from "../model/Json.js"

const Fields = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/** A message from outside to an account. */
export const InjectMessage = Schema.Struct({
  account: Schema.String,
  /** One endpoint of it. */
  endpoint_id: optional(Schema.String),
  /** The sender's address; `mstp://outside.example/peer` unless said otherwise. */
  from: optional(Schema.String),
  content: Schema.String,
  content_type: optional(Schema.String),
  metadata: optional(Fields),
  /** Minted unless given. The same id again is a second message with it. */
  message_id: optional(Schema.String)
})
export interface InjectMessage extends Schema.Schema.Type<typeof InjectMessage> {}

/** A control event. `version`, `idempotency_key` and `emitted_at` are filled in; a field that is `null` is left out. */
export const ControlCommand = Schema.Struct({ account: Schema.String, event: Fields })
export interface ControlCommand extends Schema.Schema.Type<typeof ControlCommand> {}

/** Bytes on the stream of control events, each text in a write of its own. Not repeated to later subscribers. */
export const RawControlCommand = Schema.Struct({ account: Schema.String, chunks: Schema.Array(Schema.String) })
export interface RawControlCommand extends Schema.Schema.Type<typeof RawControlCommand> {}

/** Ends connections to the gateway: with a close frame where there is a code, else without a word. */
export const CutCommand = Schema.Struct({
  account: optional(Schema.String),
  code: optional(
    Schema.Int.pipe(
      Schema.filter((code) => code === 1000 || (code >= 3000 && code <= 4999) || "must be 1000 or from 3000 to 4999")
    )
  ),
  reason: optional(Schema.String.pipe(Schema.maxLength(40))),
  /** Also the subscriptions to control events; true unless said otherwise. */
  subscriptions: optional(Schema.Boolean)
})
export interface CutCommand extends Schema.Schema.Type<typeof CutCommand> {}

export const SkipCommand = Schema.Struct({ account: Schema.String, seq: Schema.Int })
export interface SkipCommand extends Schema.Schema.Type<typeof SkipCommand> {}

/** A frame to the account's runtime, as it stands; a string is sent as text, whatever it holds. */
export const FrameCommand = Schema.Struct({ account: Schema.String, frame: Schema.Union(Schema.String, Fields) })
export interface FrameCommand extends Schema.Schema.Type<typeof FrameCommand> {}

export const AccountCommand = Schema.Struct({ account: Schema.String })
export interface AccountCommand extends Schema.Schema.Type<typeof AccountCommand> {}

export const ModesCommand = Schema.Struct({
  account: Schema.String,
  form: optional(Schema.Literal("numbered", "pending")),
  backlog: optional(Schema.Literal("push", "announce")),
  second: optional(Schema.Literal("replace", "refuse"))
})
export interface ModesCommand extends Schema.Schema.Type<typeof ModesCommand> {}

export const EndpointCommand = Schema.Struct({ endpoint_id: Schema.String })
export interface EndpointCommand extends Schema.Schema.Type<typeof EndpointCommand> {}

export const HappenedQuery = Schema.Struct({
  account: optional(Schema.String),
  kind: optional(Schema.Literal("platform", "frame", "connection", "subscription", "control")),
  call: optional(Schema.String),
  event: optional(Schema.String),
  since: optional(Schema.NumberFromString)
})
