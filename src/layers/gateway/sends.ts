/** Messages on their way to the gateway, until it says what became of them. */
import { Effect } from "effect"
import {
  ConnectorUnavailable,
  type OutboundMessage,
  type SendError,
  SendOutcomeUnknown,
  type SendReceipt,
  SendRejected
} from "../../services/Connector.js"
import type { ToGateway } from "../../services/model/GatewayFrame.js"

/** Hands a frame to the open, registered connection; false when there is none, and nothing was sent. */
export type Transmit = (frame: ToGateway) => boolean

export interface Sends {
  readonly send: (message: OutboundMessage) => Effect.Effect<SendReceipt, SendError>
  /** False when no send waits under this id. */
  readonly unsafeAcked: (messageId: string, status: SendReceipt["status"]) => boolean
  /** False when no send waits under this id. */
  readonly unsafeRejected: (messageId: string, code: string, reason: string) => boolean
  /** The connection ended: what waits has no answer to come. */
  readonly unsafeLost: () => void
}

type Resume = (outcome: Effect.Effect<SendReceipt, SendError>) => void

export const makeSends = (transmit: Transmit, sendMs: number, whyNot: () => string): Sends => {
  /** By message id; those that were sent twice under one get one answer. */
  const waiting = new Map<string, Set<Resume>>()

  const settle = (messageId: string, outcome: Effect.Effect<SendReceipt, SendError>) => {
    const resumes = waiting.get(messageId)
    if (resumes === undefined) return false
    waiting.delete(messageId)
    for (const resume of resumes) resume(outcome)
    return true
  }

  const unknown = (messageId: string, reason: string) => new SendOutcomeUnknown({ messageId, reason })

  const transmitted = ({ content, contentType, messageId, metadata, to }: OutboundMessage) =>
    Effect.async<SendReceipt, SendError>((resume) => {
      const resumes = waiting.get(messageId) ?? new Set()
      // An answer comes in a later turn.
      if (!transmit({ event: "SEND_MESSAGE", messageId, to, content, contentType, metadata })) {
        return resume(new ConnectorUnavailable({ reason: whyNot() }))
      }
      resumes.add(resume)
      waiting.set(messageId, resumes)
      return Effect.sync(() => {
        resumes.delete(resume)
        if (resumes.size === 0 && waiting.get(messageId) === resumes) waiting.delete(messageId)
      })
    })

  return {
    send: (message) =>
      transmitted(message).pipe(
        Effect.timeoutFail({
          duration: sendMs,
          onTimeout: () => unknown(message.messageId, `the gateway did not answer within ${sendMs} ms`)
        })
      ),
    unsafeAcked: (messageId, status) => settle(messageId, Effect.succeed({ messageId, status })),
    unsafeRejected: (messageId, code, reason) => settle(messageId, new SendRejected({ code, reason })),
    unsafeLost: () => {
      for (const messageId of [...waiting.keys()]) {
        settle(messageId, unknown(messageId, "the connection was lost before the gateway answered"))
      }
    }
  }
}
