/** Frames a runtime sends to the gateway, as the gateway understands them. */
import { normalScope } from "../model/GatewayFrame.js"
import { isObject } from "../model/Json.js"

export type ClientFrame =
  | {
      readonly event: "REGISTER"
      readonly token: string
      readonly protocolVersion: number
      readonly runtimeSessionId: string | undefined
      readonly lastKnownSeq: number
    }
  | {
      readonly event: "SEND_MESSAGE"
      readonly messageId: string
      readonly to: string
      readonly content: string
      readonly contentType: string
      readonly metadata: { readonly [key: string]: unknown }
    }
  | { readonly event: "TYPING"; readonly to: string }
  | { readonly event: "DELIVERY_ACK"; readonly upToSeq: number }
  | { readonly event: "DELIVERY_ACK"; readonly upTo: string }
  | { readonly event: "REQUEST_GAP_FILL"; readonly sinceSeq: number }

/** What is wrong with a frame. `messageId` is that of the message it was to carry, where it has one. */
export interface FrameProblem {
  readonly problem: string
  readonly messageId?: string
}

/** No broker counts further. */
const greatestSeq = 2 ** 50

const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= greatestSeq
const isText = (value: unknown): value is string => typeof value === "string"
const isNamed = (value: unknown): value is string => typeof value === "string" && value !== ""

export const parseClientFrame = (text: string): ClientFrame | FrameProblem => {
  let frame: unknown
  try {
    frame = JSON.parse(text)
  } catch {
    return { problem: "the frame is not JSON" }
  }
  if (!isObject(frame)) return { problem: "the frame is no object" }
  switch (frame.event) {
    case "REGISTER":
      return register(frame)
    case "SEND_MESSAGE":
      return sendMessage(frame)
    case "TYPING":
      return isNamed(frame.to) ? { event: "TYPING", to: frame.to } : { problem: '"to" must be an address' }
    case "DELIVERY_ACK":
      if (isText(frame.upTo)) return { event: "DELIVERY_ACK", upTo: frame.upTo }
      return isCount(frame.upToSeq)
        ? { event: "DELIVERY_ACK", upToSeq: frame.upToSeq }
        : { problem: '"upToSeq" must be a whole number' }
    case "REQUEST_GAP_FILL":
      return isCount(frame.sinceSeq)
        ? { event: "REQUEST_GAP_FILL", sinceSeq: frame.sinceSeq }
        : { problem: '"sinceSeq" must be a whole number' }
    default:
      return { problem: `there is no event ${JSON.stringify(frame.event)?.slice(0, 80)}` }
  }
}

type Fields = { readonly [key: string]: unknown }

const register = ({
  lastKnownSeq = 0,
  protocolVersion,
  runtimeSessionId,
  token
}: Fields): ClientFrame | FrameProblem => {
  if (!isNamed(token)) return { problem: '"token" must be a string that is not empty' }
  if (typeof protocolVersion !== "number") return { problem: '"protocolVersion" must be a number' }
  if (!isCount(lastKnownSeq)) return { problem: '"lastKnownSeq" must be a whole number' }
  const scope = isText(runtimeSessionId) ? normalScope(runtimeSessionId) : undefined
  if (runtimeSessionId !== undefined && scope === undefined) return { problem: '"runtimeSessionId" is not valid' }
  return { event: "REGISTER", token, protocolVersion, runtimeSessionId: scope, lastKnownSeq }
}

const sendMessage = ({
  content,
  contentType = "text",
  messageId,
  metadata = {},
  to
}: Fields): ClientFrame | FrameProblem => {
  if (!isNamed(messageId)) return { problem: '"messageId" must be a string that is not empty' }
  const problem = !isNamed(to)
    ? '"to" must be an address'
    : !isText(content)
      ? '"content" must be a string'
      : !isText(contentType)
        ? '"contentType" must be a string'
        : !isObject(metadata)
          ? '"metadata" must be an object'
          : undefined
  return problem === undefined
    ? ({ event: "SEND_MESSAGE", messageId, to, content, contentType, metadata } as ClientFrame)
    : { problem, messageId }
}
