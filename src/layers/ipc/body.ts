/** Request bodies: read whole, bounded in size and depth, before a route sees them. */
import type { IncomingMessage } from "node:http"
import { BadRequest, BodyTooLarge } from "../../services/model/Errors.js"
import { isDeeperThan } from "../../services/model/Json.js"

export interface BodyLimits {
  readonly bodyBytes: number
  readonly jsonDepth: number
}

/** JSON that nests too deep. */
export class TooDeep extends BadRequest {}

/** The bytes of the body, or `undefined` when there are more than allowed. Rejects when the client goes away. */
export const readBody = (request: IncomingMessage, limit: number): Promise<Buffer | undefined> =>
  new Promise((resolve, reject) => {
    if (Number(request.headers["content-length"] ?? 0) > limit) return resolve(undefined)
    const chunks: Array<Buffer> = []
    let size = 0
    request.on("data", (chunk: Buffer) => {
      size += chunk.length
      if (size > limit) return resolve(undefined)
      chunks.push(chunk)
    })
    request.on("end", () => resolve(Buffer.concat(chunks)))
    request.on("error", reject)
    request.on("close", () => reject(new Error("the client went away")))
  })

/** The body as JSON; an empty one is `{}`. */
export const parseBody = (
  bytes: Buffer | undefined,
  limits: BodyLimits
): { readonly json: unknown } | BadRequest | BodyTooLarge => {
  if (bytes === undefined) {
    return new BodyTooLarge({ message: `The body is larger than ${limits.bodyBytes} bytes.` })
  }
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
