/** Request bodies: read whole, bounded in size and depth, before a route sees them. */
import type { IncomingMessage, ServerResponse } from "node:http"
import { BadRequest, BodyTooLarge, BrokerBusy } from "../../services/model/Errors.js"
import { isDeeperThan } from "../../services/model/Json.js"
import type { Room } from "./Room.js"

export interface BodyLimits {
  readonly bodyBytes: number
  readonly jsonDepth: number
}

/** JSON that nests too deep. */
export class TooDeep extends BadRequest {}

/** The bytes of the body, which take their part of the room until the request is answered. Rejects when the client goes away. */
export const readBody = (
  request: IncomingMessage,
  response: ServerResponse,
  { bodyBytes }: BodyLimits,
  room: Room
): Promise<Buffer | BodyTooLarge | BrokerBusy> =>
  new Promise((resolve, reject) => {
    const { socket } = request
    let chunks: Array<Buffer> = []
    let size = 0
    let taken = 0
    const refuse = (refusal: BodyTooLarge | BrokerBusy) => {
      request.off("data", onData)
      chunks = []
      resolve(refusal)
    }
    const tooLarge = () => refuse(new BodyTooLarge({ message: `The body is larger than ${bodyBytes} bytes.` }))
    const onData = (chunk: Buffer) => {
      size += chunk.length
      if (size > bodyBytes) return tooLarge()
      if (!room.take(socket, chunk.length)) return refuse(new BrokerBusy({ message: noRoom, retryable: true }))
      taken += chunk.length
      chunks.push(chunk)
    }
    if (Number(request.headers["content-length"] ?? 0) > bodyBytes) return tooLarge()
    response.once("close", () => room.give(socket, taken))
    request.on("data", onData)
    request.on("end", () => resolve(Buffer.concat(chunks)))
    request.on("error", reject)
    request.on("close", () => reject(new Error("the client went away")))
  })

const noRoom =
  "Requests that are not answered yet take all the memory there is for their bodies; try again a little later."

/** The body as JSON; an empty one is `{}`. */
export const parseBody = (bytes: Buffer, limits: BodyLimits): { readonly json: unknown } | BadRequest => {
  if (bytes.length === 0) return { json: {} }
  let json: unknown
  try {
    json = JSON.parse(bytes.toString("utf8"))
  } catch {
    return new BadRequest({ message: "The body is not JSON." })
  }
  return isDeeperThan(json, limits.jsonDepth)
    ? new TooDeep({ message: `The body nests deeper than ${limits.jsonDepth} levels.` })
    : { json }
}

/** Reads on what an answered client still sends, for a while, so that it sees the answer and not a reset. */
export const drain = (request: IncomingMessage, maxBytes: number): void => {
  let left = maxBytes
  request.on("data", (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) request.destroy()
  })
  request.resume()
}
