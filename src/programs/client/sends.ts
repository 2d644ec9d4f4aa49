/** Sending: over the stream where the broker takes it, else by request, and again when the connection broke on the way. */
import { randomUUID } from "node:crypto"
import type { Connection, Session } from "./connection.js"
import type { Endpoint, Endpoints } from "./endpoints.js"
import {
  BrokerTimeoutError,
  BrokerUnreachableError,
  ConnectorSendOutcomeUnknownError,
  errorOf,
  stringIn
} from "./errors.js"
import type { Answer } from "./http.js"
import { Backoff, deadline, orAborted, Places, pause } from "./waiting.js"
import type { Metadata, SendBody, SendResult } from "./wire.js"

export interface SendOptions {
  readonly signal?: AbortSignal
  /** The same key again is the same message, for 24 hours; one is made up where the broker knows keys. */
  readonly idempotencyKey?: string
  /** Queue the message in the broker while the network cannot be reached. */
  readonly store?: boolean
  /** Fail unless a session of the receiver takes it now. */
  readonly requireLive?: boolean
  /** How long the message is tried while the broker cannot be reached. */
  readonly retryForMs?: number
}

export interface Outgoing {
  readonly endpointId: string
  readonly to: string
  readonly content: string
  readonly contentType: string
  readonly metadata: Metadata | undefined
}

/** Larger messages go by request: a frame over the broker's limit would end the stream. */
const largestFrame = 64 * 1024
/** Fewer than the broker takes before it stops reading, which would leave pings unanswered too. */
const mostUnanswered = 64

const path = "/v1/send"

export class Sends {
  readonly #connection: Connection
  readonly #endpoints: Endpoints
  readonly #unanswered = new Map<string, (answer: Answer) => void>()
  #lastRequest = 0
  readonly #places = new Places(mostUnanswered)

  constructor(connection: Connection, endpoints: Endpoints) {
    this.#connection = connection
    this.#endpoints = endpoints
  }

  /** Done when the broker has answered for the message; fails as the broker says, or when `retryForMs` are over. */
  async send(outgoing: Outgoing, options: SendOptions = {}): Promise<SendResult> {
    const retryForMs = options.retryForMs ?? this.#connection.settings.waitMs
    const pauses = new Backoff(50, 1_000)
    const key = options.idempotencyKey ?? randomUUID()
    /** The id it went out under, if it may have gone out. */
    let wentOutAs: string | undefined
    let lastFailure: Error | undefined
    // Attempts are limited for themselves: this is for the time between them.
    const limit = deadline(
      retryForMs,
      () => lastFailure ?? new BrokerUnreachableError(`The broker could not be reached within ${retryForMs} ms.`, true),
      this.#connection.closed,
      options.signal
    )
    try {
      for (let isRepeat = false; ; isRepeat = true) {
        if (isRepeat) await pause(pauses.next(), limit.signal)
        const session = await this.#connection.ready(limit.signal, retryForMs)
        const endpoint = this.#endpoints.find(outgoing.endpointId)
        if (endpoint !== undefined) await this.#endpoints.attached(endpoint, session, limit.signal)
        if (session.ended.aborted) continue
        const id = this.#endpoints.resolve(outgoing.endpointId)
        const knowsKeys = session.can("send_idempotency_v1")
        // To another endpoint, or without a key, a repeat would be a second message.
        if (wentOutAs !== undefined && !(knowsKeys && wentOutAs === id)) throw lastFailure
        const body = bodyOf(outgoing, options, id, knowsKeys ? key : options.idempotencyKey)
        try {
          // A repeat goes by request: what ended the stream may have been this frame.
          const answer = await this.#attempt(session, body, isRepeat, options.signal)
          if (answer.status >= 200 && answer.status <= 299) return answer.body as SendResult
          lastFailure = errorOf({ method: "POST", path, ...answer })
          if (!this.#isPassing(answer, session, endpoint)) throw lastFailure
        } catch (error) {
          if (!(error instanceof BrokerUnreachableError)) throw error
          lastFailure = error
          if (!error.surelyNotSent) wentOutAs = id
        }
      }
    } catch (error) {
      throw wentOutAs !== undefined && error === lastFailure ? outcomeUnknown(error) : error
    } finally {
      limit.done()
    }
  }

  /** A `send_result` frame. */
  answered(frame: Readonly<Record<string, unknown>>): void {
    if (typeof frame.request_id === "string" && typeof frame.status === "number") {
      this.#unanswered.get(frame.request_id)?.({ status: frame.status, body: frame.body })
    }
  }

  /** Refusals that say only that the connection is not what it was: surely not sent. */
  #isPassing({ body, status }: Answer, session: Session, endpoint: Endpoint | undefined): boolean {
    const code = stringIn(body, "error")
    if (status === 503 && code === "broker_draining") return true
    if (status !== 409 || code !== "endpoint_not_active" || endpoint === undefined) return false
    // The broker took this stream for dead.
    if (endpoint.attachedIn === session) void this.#endpoints.bringBack(endpoint, session)
    return true
  }

  #attempt(session: Session, body: SendBody, isRepeat: boolean, signal: AbortSignal | undefined): Promise<Answer> {
    const ownerToken = this.#endpoints.find(body.endpoint_id)?.ownerToken
    if (!isRepeat && session.can("stream_send_v1") && body.content.length < largestFrame) {
      const requestId = String(++this.#lastRequest)
      const frame = JSON.stringify({
        event: "send",
        request_id: requestId,
        ...(ownerToken === undefined ? {} : { endpoint_owner_token: ownerToken }),
        ...body
      })
      if (Buffer.byteLength(frame) < largestFrame) return this.#overStream(session, requestId, frame, signal)
    }
    const headers = this.#endpoints.ownerHeaders(body.endpoint_id)
    // Who may ask again does not wait for a broker whose stream is dead.
    const gone = session.can("send_idempotency_v1") ? session.gone : undefined
    return this.#connection.request(session, { method: "POST", path, headers, body }, signal, gone)
  }

  async #overStream(
    session: Session,
    requestId: string,
    frame: string,
    signal: AbortSignal | undefined
  ): Promise<Answer> {
    const { requestMs } = this.#connection.settings
    const limit = deadline(
      requestMs,
      () => new BrokerTimeoutError(`The message was not answered for within ${requestMs} ms.`),
      session.gone,
      signal
    )
    try {
      await this.#places.take(limit.signal)
      try {
        const answer = new Promise<Answer>((resolve) => this.#unanswered.set(requestId, resolve))
        if (session.ended.aborted || !session.stream.sendText(frame)) {
          throw new BrokerUnreachableError("The stream to the broker ended before the message was sent.", true)
        }
        return await orAborted(answer, limit.signal)
      } finally {
        this.#unanswered.delete(requestId)
        this.#places.giveBack()
      }
    } finally {
      limit.done()
    }
  }
}

const bodyOf = (
  { content, contentType, metadata, to }: Outgoing,
  { requireLive, store }: SendOptions,
  endpointId: string,
  key: string | undefined
): SendBody => ({
  endpoint_id: endpointId,
  to,
  content,
  contentType,
  ...(metadata === undefined ? {} : { metadata }),
  ...(requireLive === undefined ? {} : { require_live: requireLive }),
  ...(store === undefined ? {} : { store }),
  ...(key === undefined ? {} : { idempotency_key: key })
})

const outcomeUnknown = (cause: unknown) =>
  new ConnectorSendOutcomeUnknownError("The connection to the broker broke before it answered for the message.", {
    cause
  })
