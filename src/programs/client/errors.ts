/** What can go wrong for a caller of the client, each with a stable `code`. */

/** Every error of the client. `retryable`: the same call may work later, and has had no effect. */
export class BrokerClientError extends Error {
  readonly code: string
  readonly retryable: boolean
  constructor(message: string, code: string, retryable: boolean, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
    this.code = code
    this.retryable = retryable
  }
}

export interface Refusal {
  readonly method: string
  readonly path: string
  readonly status: number
  readonly body: unknown
}

/** The broker answered, and not with a success. `code` is the broker's; the text holds method, path, status and body. */
export class BrokerRefusedError extends BrokerClientError {
  readonly method: string
  readonly path: string
  readonly status: number
  readonly body: unknown
  constructor({ method, path, status, body }: Refusal) {
    super(
      `${method} ${path} answered ${status}: ${typeof body === "string" ? body : JSON.stringify(body)}`,
      stringIn(body, "error") ?? `http_${status}`,
      typeof body === "object" && body !== null && (body as { retryable?: unknown }).retryable === true
    )
    this.method = method
    this.path = path
    this.status = status
    this.body = body
  }
}

/** The broker has no link to the network: the message was surely not sent. */
export class ConnectorUnavailableError extends BrokerClientError {
  constructor(message: string) {
    super(message, "connector_unavailable", true)
  }
}

/** Sent, and nobody knows whether it arrived: ask the receiver before sending it again. */
export class ConnectorSendOutcomeUnknownError extends BrokerClientError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, "connector_send_outcome_unknown", false, options)
  }
}

/** No broker answered: it is not there, or the connection broke during the call. */
export class BrokerUnreachableError extends BrokerClientError {
  /** The request did not leave this process. */
  readonly surelyNotSent: boolean
  constructor(message: string, surelyNotSent: boolean, options?: ErrorOptions) {
    super(message, "broker_unreachable", surelyNotSent, options)
    this.surelyNotSent = surelyNotSent
  }
}

/** The broker is there and did not answer in time; whether it did what was asked is not known. */
export class BrokerTimeoutError extends BrokerClientError {
  constructor(message: string) {
    super(message, "broker_timeout", false)
  }
}

/** The client was closed. */
export class ClientClosedError extends BrokerClientError {
  constructor() {
    super("This client is closed; discover the broker again for a new one.", "client_closed", false)
  }
}

/** `connect` has not been called, or was called twice. */
export class ClientStateError extends BrokerClientError {
  constructor(message: string) {
    super(message, "client_state", false)
  }
}

export const stringIn = (value: unknown, field: string): string | undefined => {
  const found = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[field] : undefined
  return typeof found === "string" ? found : undefined
}

/** The error a refusal is thrown as. */
export const errorOf = (refusal: Refusal): BrokerClientError => {
  const message = stringIn(refusal.body, "message") ?? `${refusal.method} ${refusal.path} answered ${refusal.status}.`
  if (refusal.status === 503) {
    switch (stringIn(refusal.body, "error")) {
      case "connector_unavailable":
        return new ConnectorUnavailableError(message)
      case "connector_send_outcome_unknown":
        return new ConnectorSendOutcomeUnknownError(message)
    }
  }
  return new BrokerRefusedError(refusal)
}

export const asError = (value: unknown): Error => (value instanceof Error ? value : new Error(String(value)))
