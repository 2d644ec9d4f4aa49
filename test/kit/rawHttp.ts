/** HTTP written by hand, for requests that no client library would send. */
import { request as httpRequest } from "node:http"
import { connect } from "node:net"
import { Effect } from "effect"
import type { Answer } from "./broker.js"

export interface RawAnswer {
  readonly status: number
  /** Names in lower case. */
  readonly headers: { readonly [name: string]: string | undefined }
  readonly text: string
  /** The body as JSON; `undefined` when it is none. */
  readonly body: any
}

/** The head of a request. Header lines are sent as they are: doubled, missing or odd. */
export const head = (requestLine: string, headers: ReadonlyArray<string> = []): string =>
  [`${requestLine} HTTP/1.1`, ...headers, "", ""].join("\r\n")

/** What every upgrade needs beside `Host`. */
export const upgradeHeaders: ReadonlyArray<string> = [
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
]

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The answer, once `bytes` hold all of it; an upgrade is answered by its head. */
const parse = (bytes: Buffer): RawAnswer | undefined => {
  const end = bytes.indexOf("\r\n\r\n")
  if (end < 0) return undefined
  const [statusLine, ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n")
  const status = Number(statusLine!.split(" ")[1])
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()])
  )
  const length = status === 101 ? 0 : Number(headers["content-length"] ?? Number.NaN)
  const rest = bytes.subarray(end + 4)
  if (rest.length < length) return undefined
  const text = rest.subarray(0, length).toString("utf8")
  return { status, headers, text, body: parseJson(text) }
}

/** Sends the text as it is and returns the first answer; dies when the connection ends without one. */
export const rawRequest = (port: number, text: string, host = "127.0.0.1"): Effect.Effect<RawAnswer> =>
  Effect.async<RawAnswer, Error>((resume) => {
    const socket = connect(port, host)
    let received = Buffer.alloc(0)
    const finish = (result: Effect.Effect<RawAnswer, Error>) => {
      socket.destroy()
      resume(result)
    }
    socket.on("connect", () => socket.write(text))
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk])
      const answer = parse(received)
      if (answer !== undefined) finish(Effect.succeed(answer))
    })
    socket.on("error", (error) => finish(Effect.fail(error)))
    socket.on("close", () => finish(Effect.fail(new Error(`closed after ${JSON.stringify(received.toString())}`))))
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.orDie)

/** A POST without `content-length`, in chunks. Sends all of it, whatever the server answers meanwhile. */
export const postInChunks = (
  url: string,
  headers: Record<string, string>,
  chunks: Iterable<string>
): Effect.Effect<Pick<Answer, "status" | "body">> =>
  Effect.async<Pick<Answer, "status" | "body">, Error>((resume) => {
    const request = httpRequest(url, { method: "POST", headers: { ...headers, "transfer-encoding": "chunked" } })
    request.on("response", (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk) => {
        text += chunk
      })
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode!, body: parseJson(text) })))
    })
    request.on("error", (error) => resume(Effect.fail(error)))
    for (const chunk of chunks) request.write(chunk)
    request.end()
    return Effect.sync(() => request.destroy())
  }).pipe(Effect.orDie)
