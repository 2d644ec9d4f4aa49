/** `stream_send_v1`: plugins send over their channel by the rules of `POST /v1/send`. */
import { Effect, Either, ParseResult, Schema } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { type Channel, type ChannelSocket, Channels } from "../../services/Channels.js"
import { SendFrame, type SendResult } from "../../services/ipc/StreamFrame.js"
import { bodyOf } from "../../services/model/Errors.js"
import { Shutdown } from "../../services/Shutdown.js"
import { type AnyRefusal, decodeRefusal, leaving, statusOf } from "./refusals.js"
import { makeAnsweredSend } from "./send.js"

const decodeFrame = Schema.decodeUnknownEither(SendFrame)
const isRequestId = Schema.is(SendFrame.fields.request_id)

/** A frame of so many bytes whose `event` is `send`; `refused` says what was found wrong with it before. */
export type SendOf = (frame: { readonly request_id?: unknown }, bytes: number, refused?: AnyRefusal) => void

export const makeStreamSends = Effect.gen(function* () {
  const { streamSendBytes, streamSends } = yield* BrokerConfig
  const channels = yield* Channels
  const shutdown = yield* Shutdown
  const send = yield* makeAnsweredSend

  return ({ id, pluginPid }: Channel, socket: ChannelSocket): SendOf => {
    let unanswered = 0
    let unansweredBytes = 0
    const isFull = () => unanswered >= streamSends || unansweredBytes >= streamSendBytes

    return (frame, bytes, refused) => {
      const wasFull = isFull()
      unanswered++
      unansweredBytes += bytes
      if (!wasFull && isFull()) socket.pause()
      const written = () => {
        const wasFull = isFull()
        unanswered--
        unansweredBytes -= bytes
        if (wasFull && !isFull()) socket.resume()
      }
      const requestId = isRequestId(frame.request_id) ? frame.request_id : null
      const answered = (status: number, body: unknown) => {
        const result: SendResult = { event: "send_result", request_id: requestId, status, body }
        channels.unsafeAnswer(id, JSON.stringify(result), written)
      }
      const refuse = (refusal: AnyRefusal) => answered(statusOf(refusal), bodyOf(refusal))
      if (refused !== undefined) return refuse(refused)
      if (shutdown.unsafeIsLeaving()) return refuse(leaving())
      const decoded = decodeFrame(frame)
      if (Either.isLeft(decoded)) {
        return refuse(decodeRefusal(ParseResult.ArrayFormatter.formatErrorSync(decoded.left)))
      }
      const { endpoint_owner_token, event: _, request_id: __, ...request } = decoded.right
      send({ pid: pluginPid, ownerToken: endpoint_owner_token ?? undefined }, request, answered)
    }
  }
})
