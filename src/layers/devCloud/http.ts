/** Requests and answers of the development cloud. */
import type { IncomingMessage, ServerResponse } from "node:http"

export interface Answer {
  readonly status: number
  /** JSON; absent for an answer without body. */
  readonly body?: unknown
  readonly headers?: { readonly [name: string]: string }
}

export const refusal = (status: number, error: string, message: string): Answer => ({
  status,
  body: { error, message }
})

const maxBodyBytes = 16 * 1024 * 1024

/** The body as JSON, `{}` when there is none; or the refusal to answer. */
export const readJson = async (request: IncomingMessage): Promise<{ readonly json: unknown } | Answer> => {
  const chunks: Array<Buffer> = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    // Read to its end all the same: an answer in the middle of a body is often not seen.
    if (bytes <= maxBodyBytes) chunks.push(chunk)
  }
  if (bytes > maxBodyBytes) return refusal(413, "body_too_large", `The body has more than ${maxBodyBytes} bytes.`)
  if (bytes === 0) return { json: {} }
  try {
    return { json: JSON.parse(Buffer.concat(chunks).toString("utf8")) }
  } catch {
    return refusal(400, "bad_request", "The body is not JSON.")
  }
}

/** Answers, unless the client is gone or was answered. */
export const reply = (response: ServerResponse, { body, headers, status }: Answer): void => {
  if (response.headersSent || response.destroyed) return
  const text = body === undefined ? "" : `${JSON.stringify(body)}\n`
  response.writeHead(status, {
    ...(text === "" ? {} : { "content-type": "application/json; charset=utf-8" }),
    ...(status === 204 ? {} : { "content-length": String(Buffer.byteLength(text)) }),
    ...headers
  })
  response.end(status === 204 ? undefined : text)
}

/** What a page in a browser, or a name that only looks like this machine, may not do. */
export const isFromOutside = (request: IncomingMessage): boolean =>
  request.headers.origin !== undefined || !/^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/i.test(request.headers.host ?? "")

export const urlOf = (request: IncomingMessage): URL | undefined => {
  const target = request.url ?? "/"
  return target.startsWith("/") && URL.canParse(`http://dev${target}`) ? new URL(`http://dev${target}`) : undefined
}

/** The parts of a path, decoded; `undefined` when an escape is malformed. */
export const pathParts = (path: string): ReadonlyArray<string> | undefined => {
  try {
    return path.split("/").slice(1).map(decodeURIComponent)
  } catch {
    return undefined
  }
}
