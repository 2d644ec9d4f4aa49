/** A message on its way in: what the network sent, as the broker keeps and delivers it. */
import { Schema } from "effect"
import { MessageId } from "./Ids.js"
import { optional } from "./Json.js"

export const Message = Schema.Struct({
  /** The network's message id, or one the broker minted. Pushed to plugins as `sourceMessageId`. */
  id: Schema.String.pipe(Schema.fromBrand(MessageId)),
  /** The sender's address. */
  from: Schema.String,
  content: Schema.String,
  contentType: Schema.String,
  /** As delivered: broker-owned keys removed, `traceparent` present. */
  metadata: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
  /** When it reached this broker, epoch milliseconds. */
  arrivedAt: Schema.Number,
  /** What it counts against byte limits: the size of the frame it came in. */
  bytes: Schema.Number,
  /** Not delivered at or after this time, epoch milliseconds. */
  expiresAt: optional(Schema.Number)
})
export interface Message extends Schema.Schema.Type<typeof Message> {}

/** True once the message may no longer be delivered. */
export const isExpired = (message: Message, now: number): boolean =>
  message.expiresAt !== undefined && now >= message.expiresAt

/** The first `count` code points of `text`. */
export const firstCodePoints = (text: string, count: number): string =>
  text.length <= count
    ? text
    : Array.from(text.slice(0, 2 * count))
        .slice(0, count)
        .join("")
