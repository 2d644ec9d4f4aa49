/**
 * The gateway's protocol, version 4: JSON text frames told apart by `event`. A frame that does not hold what its event demands
 * is no frame; one of an unknown event belongs to a later gateway. Both are ignored.
 */

import { isObject } from "./Json.js"
import { firstCodePoints } from "./Message.js"
import type { Metadata } from "./Metadata.js"

export const gatewayProtocolVersion = 4

// -- to the gateway ----------------------------------------------------------------------------------------------------

export type ToGateway =
  | {
      readonly event: "REGISTER"
      readonly token: string
      readonly protocolVersion: number
      readonly clientVersion: string
      readonly clientKind: "runtime-broker"
      readonly runtimeSessionId?: string
      /** The cursor: everything up to here is safe with us. */
      readonly lastKnownSeq: number
    }
  | {
      readonly event: "SEND_MESSAGE"
      readonly messageId: string
      readonly to: string
      readonly content: string
      readonly contentType: string
      readonly metadata: Metadata
    }
  | { readonly event: "DELIVERY_ACK"; readonly upToSeq: number; readonly runtimeSessionId?: string }
  /** The older form, to a gateway that numbers nothing. */
  | { readonly event: "DELIVERY_ACK"; readonly upTo: string }
  | { readonly event: "REQUEST_GAP_FILL"; readonly sinceSeq: number; readonly runtimeSessionId?: string }

// -- from the gateway --------------------------------------------------------------------------------------------------

export interface RegisterAck {
  readonly event: "REGISTER_ACK"
  readonly isOk: boolean
  readonly reason: string | undefined
  readonly protocolVersion: number | undefined
  readonly agent: { readonly handle: string; readonly name?: string } | undefined
  readonly owner: { readonly handle: string; readonly displayName?: string } | undefined
  readonly deliverySeq: number | undefined
  readonly deliveryRuntimeSessionId: string | undefined
}

export interface MessageReceived {
  readonly event: "MESSAGE_RECEIVED"
  readonly messageId: string | undefined
  readonly from: string
  readonly content: string
  readonly contentType: string
  readonly metadata: Metadata
  /** A positive whole number, or none: a number of another kind cannot be acknowledged and counts as none. */
  readonly seq: number | undefined
  readonly runtimeSessionId: string | undefined
  /** The frame was over the limit, and this is only what `withinLimit` kept of it. */
  readonly isOutline?: true
}

export type FromGateway =
  | RegisterAck
  | MessageReceived
  | { readonly event: "SEND_ACK"; readonly messageId: string; readonly status: "delivered" | "stored" }
  | { readonly event: "DELIVERY_PENDING"; readonly count: number; readonly upTo: string }
  | { readonly event: "DELIVERY_STATUS"; readonly messageId: string; readonly status: string }
  | {
      readonly event: "DELIVERY_CURSOR"
      readonly deliverySeq: number
      readonly deliveredSeq: number | undefined
      readonly runtimeSessionId: string | undefined
    }
  | { readonly event: "DELIVERY_SKIP"; readonly seq: number; readonly runtimeSessionId: string | undefined }
  | { readonly event: "ERROR"; readonly code: string; readonly message: string; readonly messageId: string | undefined }

type Fields = { readonly [key: string]: unknown }

/** The frame, or `undefined` for what is none. */
export const parseGatewayFrame = (json: unknown): FromGateway | undefined => {
  if (typeof json !== "object" || json === null) return undefined
  const frame = json as Fields
  switch (frame.event) {
    case "MESSAGE_RECEIVED":
      return messageReceived(frame)
    case "REGISTER_ACK":
      return registerAck(frame)
    case "SEND_ACK":
      return typeof frame.messageId === "string"
        ? {
            event: "SEND_ACK",
            messageId: frame.messageId,
            status: frame.status === "delivered" ? "delivered" : "stored"
          }
        : undefined
    case "DELIVERY_PENDING":
      return typeof frame.count === "number" && typeof frame.upTo === "string"
        ? { event: "DELIVERY_PENDING", count: frame.count, upTo: frame.upTo }
        : undefined
    case "DELIVERY_STATUS":
      return typeof frame.messageId === "string" && typeof frame.status === "string"
        ? { event: "DELIVERY_STATUS", messageId: frame.messageId, status: frame.status }
        : undefined
    case "DELIVERY_CURSOR":
      return isCount(frame.deliverySeq) && isOptional(frame.deliveredSeq, isCount) && isScope(frame.runtimeSessionId)
        ? {
            event: "DELIVERY_CURSOR",
            deliverySeq: frame.deliverySeq,
            deliveredSeq: frame.deliveredSeq as number | undefined,
            runtimeSessionId: scopeOf(frame.runtimeSessionId)
          }
        : undefined
    case "DELIVERY_SKIP":
      return isCount(frame.seq) &&
        frame.reason === "runtime_mailbox_dismissed" &&
        isOptional(frame.messageId, isText) &&
        isOptional(frame.deliveredAt, isText) &&
        isScope(frame.runtimeSessionId)
        ? { event: "DELIVERY_SKIP", seq: frame.seq, runtimeSessionId: scopeOf(frame.runtimeSessionId) }
        : undefined
    case "ERROR":
      return typeof frame.code === "string" && typeof frame.message === "string"
        ? {
            event: "ERROR",
            code: frame.code,
            message: frame.message,
            messageId: typeof frame.messageId === "string" ? frame.messageId : undefined
          }
        : undefined
    default:
      return undefined
  }
}

/** How much of the content of a message over the limit is kept, code points. */
const outlineContent = 1_000
/** No longer text of another kind is kept of it, UTF-16 units. */
const outlineText = 256
/** Whom it was for and what it belongs to. */
const outlineMetadata = ["source_endpoint_id", "target_endpoint_id", "correlation_id", "in_reply_to", "traceparent"]

/**
 * What is worked on of a frame that came in so many bytes. Within the limit that is the frame. Of a message over it an outline
 * is left, whatever part of it is large: how it is accepted, whose it is, and the beginning of its content. Other frames over
 * the limit are ignored.
 */
export const withinLimit = (frame: FromGateway, bytes: number, limit: number): FromGateway | undefined => {
  if (bytes <= limit) return frame
  return frame.event === "MESSAGE_RECEIVED" ? outlineOf(frame) : undefined
}

const outlineOf = ({
  content,
  contentType,
  from,
  messageId,
  metadata,
  ...numbered
}: MessageReceived): MessageReceived => ({
  ...numbered,
  // Half an id would be another message's.
  messageId: messageId !== undefined && messageId.length <= outlineText ? messageId : undefined,
  from: firstCodePoints(from, outlineText),
  content: firstCodePoints(content, outlineContent),
  contentType: firstCodePoints(contentType, outlineText),
  metadata: Object.fromEntries(
    outlineMetadata.flatMap((key) => {
      const value = Object.hasOwn(metadata, key) ? metadata[key] : undefined
      return typeof value === "string" && value.length <= outlineText ? [[key, value]] : []
    })
  ),
  isOutline: true
})

const messageReceived = (frame: Fields): MessageReceived | undefined => {
  const { content, contentType, from, messageId, metadata, runtimeSessionId, seq } = frame
  if (typeof from !== "string" || typeof content !== "string") return undefined
  if (!isOptional(messageId, isText) || !isScope(runtimeSessionId)) return undefined
  return {
    event: "MESSAGE_RECEIVED",
    messageId: messageId === "" ? undefined : (messageId as string | undefined),
    from,
    content,
    contentType: typeof contentType === "string" ? contentType : "text",
    metadata: isObject(metadata) ? metadata : {},
    seq: isCount(seq) && seq > 0 ? seq : undefined,
    runtimeSessionId: scopeOf(runtimeSessionId)
  }
}

const registerAck = (frame: Fields): RegisterAck | undefined => {
  const { agent, deliveryRuntimeSessionId, deliverySeq, owner, protocolVersion, reason, status } = frame
  if (!isScope(deliveryRuntimeSessionId)) return undefined
  return {
    event: "REGISTER_ACK",
    isOk: status === "ok",
    reason: typeof reason === "string" ? reason : undefined,
    protocolVersion: typeof protocolVersion === "number" ? protocolVersion : undefined,
    agent: isObject(agent) && isText(agent.handle) ? (agent as RegisterAck["agent"]) : undefined,
    owner: isObject(owner) && isText(owner.handle) ? (owner as RegisterAck["owner"]) : undefined,
    deliverySeq: isCount(deliverySeq) ? deliverySeq : undefined,
    deliveryRuntimeSessionId: scopeOf(deliveryRuntimeSessionId)
  }
}

const isText = (value: unknown): value is string => typeof value === "string"
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
const isOptional = (value: unknown, is: (value: unknown) => boolean): boolean => value === undefined || is(value)

/** A runtime session id: not empty after trimming, at most 256 characters, not one of the network's own. */
export const normalScope = (value: string): string | undefined => {
  const id = value.trim()
  return id !== "" && id.length <= 256 && !id.startsWith("__masons_") ? id : undefined
}
const isScope = (value: unknown): boolean =>
  value === undefined || (typeof value === "string" && normalScope(value) !== undefined)
const scopeOf = (value: unknown): string | undefined => (typeof value === "string" ? normalScope(value) : undefined)
