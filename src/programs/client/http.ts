/** Requests to the broker over connections of this client's own, so that closing the client leaves none behind. */
import * as http from "node:http"
import { BrokerTimeoutError, BrokerUnreachableError } from "./errors.js"
import { deadline } from "./waiting.js"
import type { KnownBroker } from "./wire.js"

export interface Request {
  readonly method: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

export interface Answer {
  readonly status: number
  /** Parsed, or the text when it is no JSON. */
  readonly body: unknown
}

export class Http {
  /** Idle connections end well before the broker ends them. */
  readonly #agent = new http.Agent({ keepAlive: true, timeout: 30_000, maxSockets: 32 })

  /**
   * Any answer is a success. Fails with `BrokerUnreachableError` when the connection breaks, `BrokerTimeoutError` when no
   * answer comes in time, and the signal's reason.
   */
  async request(
    broker: KnownBroker,
    request: Request,
    timeoutMs: number,
    ...signals: ReadonlyArray<AbortSignal | undefined>
  ): Promise<Answer> {
    const { method, path } = request
    const limit = deadline(
      timeoutMs,
      () => new BrokerTimeoutError(`${method} ${path} was not answered within ${timeoutMs} ms.`),
      ...signals
    )
    try {
      limit.signal.throwIfAborted()
      return await this.#exchange(broker, request, limit.signal)
    } catch (error) {
      throw limit.signal.aborted ? limit.signal.reason : error
    } finally {
      limit.done()
    }
  }

  #exchange(broker: KnownBroker, request: Request, signal: AbortSignal): Promise<Answer> {
    const { body, headers, method, path } = request
    return new Promise((resolve, reject) => {
      let isConnected = false
      const fail = (cause: Error) =>
        reject(
          new BrokerUnreachableError(`${method} ${path} did not reach the broker: ${cause.message}`, !isConnected, {
            cause
          })
        )
      const text = body === undefined ? undefined : JSON.stringify(body)
      const outgoing = http.request(
        broker.ipcUrl + path,
        {
          method,
          agent: this.#agent,
          signal,
          headers: {
            authorization: `Bearer ${broker.bearerToken}`,
            ...(text === undefined
              ? {}
              : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
            ...headers
          }
        },
        (response) => {
          const chunks: Array<Buffer> = []
          response.on("data", (chunk: Buffer) => chunks.push(chunk))
          response.on("error", fail)
          response.on("end", () => resolve({ status: response.statusCode ?? 0, body: parse(Buffer.concat(chunks)) }))
        }
      )
      outgoing.on("socket", (socket) => {
        if (!socket.connecting) isConnected = true
        else socket.once("connect", () => (isConnected = true))
      })
      outgoing.on("error", fail)
      outgoing.end(text)
    })
  }

  /** Ends all connections. */
  close(): void {
    this.#agent.destroy()
  }
}

const parse = (bytes: Buffer): unknown => {
  const text = bytes.toString("utf8")
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
