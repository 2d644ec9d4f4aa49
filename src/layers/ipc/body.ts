/** Request bodies: read whole, bounded in size and depth, before a route sees them. */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import { BadRequest, BodyTooLarge, BrokerBusy } from "../../services/model/Errors.js"
import { isDeeperThan } from "../../services/model/Json.js"

export interface BodyLimits {
  readonly bodyBytes: number
  readonly jsonDepth: number
}

/** JSON that nests too deep. */
export class TooDeep extends BadRequest {}

/** Of a body; so much of each is read in any case: there are no more of them than connections. */
const smallBytes = 16 * 1024

/** Memory for the bodies of all requests that are not answered yet. */
export class BodyRoom {
  private left: number
  private readonly taken = new Map<Socket, number>()

  constructor(bytes: number) {
    this.left = bytes
  }

  /** False where there is not as much. */
  take(socket: Socket, bytes: number): boolean {
    if (bytes > this.left) return false
    this.add(socket, bytes)
    return true
  }

  give(socket: Socket, bytes: number): void {
    // Unless its connection has ended before.
    if (this.taken.has(socket)) this.add(socket, -bytes)
  }

  /** The connection has ended: of answers that waited for others of it, node tells no end. */
  giveAll(socket: Socket): void {
    this.give(socket, this.taken.get(socket) ?? 0)
  }

  private add(socket: Socket, bytes: number): void {
    this.left -= bytes
    const taken = (this.taken.get(socket) ?? 0) + bytes
    if (taken === 0) this.taken.delete(socket)
    else this.taken.set(socket, taken)
  }
}

/** The bytes of the body, which take their part of the room until the request is answered. Rejects when the client goes away. */
export const readBody = (
  request: IncomingMessage,
  response: ServerResponse,
  { bodyBytes }: BodyLimits,
  room: BodyRoom
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
      const more = Math.max(0, size - smallBytes - taken)
      if (!room.take(socket, more)) return refuse(new BrokerBusy({ message: busy, retryable: true }))
      taken += more
      chunks.push(chunk)
    }
    if (Number(request.headers["content-length"] ?? 0) > bodyBytes) return tooLarge()
    response.once("close", () => room.give(socket, taken))
    request.on("data", onData)
    request.on("end", () => resolve(Buffer.concat(chunks)))
    request.on("error", reject)
    request.on("close", () => reject(new Error("the client went away")))
  })

const busy =
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
