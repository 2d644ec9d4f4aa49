/** Frames of the plugin stream: one JSON object per WebSocket text message, told apart by `event`. */
import { Schema } from "effect"
import { absentable, optional } from "../model/Json.js"
import { Metadata } from "./Fields.js"
import { SendRequest } from "./MessageGroup.js"

/**
 * An inbound message. With `push_id` the plugin answers `push_ack` when the message is safe, or `push_nack`; channels that did
 * not announce `push_receipt_ack_v1` get none, and the message counts as delivered when it is written to the socket.
 */
export const MessageReceived = Schema.Struct({
  event: Schema.Literal("message_received"),
  push_id: optional(Schema.String),
  from: Schema.String,
  content: Schema.String,
  contentType: Schema.String,
  metadata: Metadata,
  sourceMessageId: Schema.String,
  /** The plugin may have seen this message: it was pushed before and not acknowledged. */
  redelivered: optional(Schema.Literal(true))
})
export interface MessageReceived extends Schema.Schema.Type<typeof MessageReceived> {}

/** The broker's presence on the network changed. */
export const PresenceChanged = Schema.Struct({
  event: Schema.Literal("presence_changed"),
  presence: Schema.Literal("online", "reconnecting", "offline"),
  reason: optional(Schema.String)
})
export interface PresenceChanged extends Schema.Schema.Type<typeof PresenceChanged> {}

/** The answer to a `send`: status and body as `POST /v1/send` would have answered. Answers come in any order. */
export const SendResult = Schema.Struct({
  event: Schema.Literal("send_result"),
  /** That of the `send`; `null` where it had none that can be repeated. */
  request_id: Schema.NullOr(Schema.String),
  status: Schema.Number,
  body: Schema.Unknown
})
export interface SendResult extends Schema.Schema.Type<typeof SendResult> {}

/**
 * The broker leaves: the channel is closed with 1001 in a moment. Only for channels that announced `drain_notice_v1`. What was
 * pushed and not acknowledged until then is pushed again by the next broker.
 */
export const BrokerDraining = Schema.Struct({
  event: Schema.Literal("broker_draining"),
  /** Looking for the next broker makes no sense earlier; milliseconds. */
  retry_after_ms: Schema.Number
})
export interface BrokerDraining extends Schema.Schema.Type<typeof BrokerDraining> {}

/** What the broker sends. */
export const BrokerFrame = Schema.Union(MessageReceived, PresenceChanged, SendResult, BrokerDraining)
export type BrokerFrame = typeof BrokerFrame.Type

/** The plugin has taken the message. */
export const PushAck = Schema.Struct({ event: Schema.Literal("push_ack"), push_id: Schema.String })

/** The plugin could not take the message: it is pushed again after a while. */
export const PushNack = Schema.Struct({
  event: Schema.Literal("push_nack"),
  push_id: Schema.String,
  reason: optional(Schema.String)
})

export const Receipt = Schema.Union(PushAck, PushNack)
export type Receipt = typeof Receipt.Type

/**
 * Sends a message by the rules of `POST /v1/send`; the channel's process is the caller. Messages of one channel reach the network
 * in the order of their frames. While `streamSends` of them, or `streamSendBytes`, are unanswered the channel is not read.
 */
export const SendFrame = Schema.Struct({
  event: Schema.Literal("send"),
  /** Names the answer; 1 to 128 characters. */
  request_id: Schema.String.pipe(Schema.minLength(1), Schema.maxLength(128)),
  /** As `x-endpoint-owner-token`. */
  endpoint_owner_token: absentable(Schema.String),
  ...SendRequest.fields
})

/** What a plugin sends. Anything else is ignored, for plugins newer than the broker. */
export const PluginFrame = Schema.Union(Receipt, SendFrame)
export type PluginFrame = typeof PluginFrame.Type

/** Close codes of the stream. */
export const closeCodes = {
  /** A newer channel of the same process took its place. */
  replaced: { code: 1000, reason: "replaced" },
  /** The broker is leaving. */
  leaving: { code: 1001, reason: "broker is leaving" },
  /** A frame was over the limit. */
  tooLarge: { code: 1009, reason: "frame too large" }
} as const
