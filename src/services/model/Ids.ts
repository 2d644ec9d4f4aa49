/**
 * The identifiers of the broker. All are opaque: compare them, never take them apart.
 *
 * Brands cost nothing at run time. A string becomes one where it enters: at a schema, at the platform's answer, or where
 * the broker mints it.
 */
import { Brand } from "effect"

/** One agent session. Minted by the platform at registration. */
export type EndpointId = string & Brand.Brand<"EndpointId">
export const EndpointId = Brand.nominal<EndpointId>()

/** One open WebSocket of a plugin. Counts up from 1 and is never used twice by a broker process. */
export type ChannelId = number & Brand.Brand<"ChannelId">
export const ChannelId = Brand.nominal<ChannelId>()

/** An endpoint within this broker: names its records in the store. Stays when the platform gives it another endpoint id. */
export type EndpointKey = number & Brand.Brand<"EndpointKey">
export const EndpointKey = Brand.nominal<EndpointKey>()

/** A message: the gateway's `messageId`, or a UUID where the network gave none. */
export type MessageId = string & Brand.Brand<"MessageId">
export const MessageId = Brand.nominal<MessageId>()

/** One push of one message over one channel; what a receipt names. */
export type PushId = string & Brand.Brand<"PushId">
export const PushId = Brand.nominal<PushId>()
