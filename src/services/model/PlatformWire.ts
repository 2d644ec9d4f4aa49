/** The platform's HTTP calls: the request each one is, and what its answer means. */
import { Either } from "effect"
import { isDeeperThan, isObject } from "./Json.js"
import { firstCodePoints } from "./Message.js"
import type { PlatformReport } from "./PlatformReport.js"

export interface WireRequest {
  readonly method: "GET" | "POST" | "DELETE"
  /** From `/v1` on, with the query. */
  readonly path: string
  /** Sent as JSON; without one no body is sent. */
  readonly body?: object
}

export interface WireAnswer {
  readonly status: number
  /** The status in words, such as `Not Found`. */
  readonly statusText: string
  /** The header `Retry-After` as it came. */
  readonly retryAfter: string | undefined
  /** `undefined` when it could not be read whole. */
  readonly text: string | undefined
}

/** Why a call did not work; the fields of a PlatformError. */
export interface WireFailure {
  readonly kind: "unauthorized" | "refused" | "unavailable"
  readonly status?: number
  readonly code: string
  readonly reason: string
  readonly retryAfterMs?: number
}

export interface FailureContext {
  /** Epoch milliseconds, for a `Retry-After` that names a date. */
  readonly now: number
  /** Takes secrets out of a text; the platform may repeat them in its own words. */
  readonly hide: (text: string) => string
}

/** The largest answer that is read. */
export const answerBytes = 1024 * 1024

const answerDepth = 64
const longestId = 512
const longestCode = 100
const longestReason = 300
const longestRetryAfterMs = 3_600_000
const shortestHeartbeatMs = 1_000
const longestHeartbeatMs = 86_400_000

// -- requests ----------------------------------------------------------------------------------------------------------

export const whoami: WireRequest = { method: "GET", path: "/v1/whoami" }

export const register = (registration: object): WireRequest => ({
  method: "POST",
  path: "/v1/runtime-endpoints",
  body: registration
})

/**
 * True for ids that a path can name. `.` and `..` are steps within a path however they are written, and no platform mints
 * an id of more than 512 characters; a peer may still send one.
 */
export const isEndpointId = (id: unknown): id is string =>
  typeof id === "string" && id !== "" && id !== "." && id !== ".." && id.length <= longestId

// A lone surrogate cannot be encoded.
const encoded = (text: string) => encodeURIComponent(text.replace(/[\ud800-\udfff]/gu, "\ufffd"))
const endpoint = (id: string) => `/v1/runtime-endpoints/${encoded(id)}`

// These take ids for which `isEndpointId` holds.

export const heartbeat = (id: string): WireRequest => ({ method: "POST", path: `${endpoint(id)}/heartbeat` })

/** `agentId` is the platform's id of this account. */
export const controlEventsPath = (agentId: string): string => `/v1/runtime/control-events?agent_id=${encoded(agentId)}`

export const unregister = (id: string): WireRequest => ({ method: "DELETE", path: endpoint(id) })

/** `as` is the platform's id of this account, where it is known. */
export const owned = (id: string, as: string | undefined): WireRequest => ({
  method: "GET",
  path: as === undefined ? endpoint(id) : `${endpoint(id)}?as=${encoded(as)}`
})

/** The endpoint the report is about, where it is about one. */
export const subjectOf = (report: PlatformReport): string | undefined =>
  "endpointId" in report ? report.endpointId : undefined

export const reported = (report: PlatformReport): WireRequest => {
  switch (report._tag) {
    case "EndpointState":
      return {
        method: "POST",
        path: `${endpoint(report.endpointId)}/state`,
        body: { state: report.state, reason: report.reason, ts: report.ts }
      }
    case "EndpointRemoved":
      return unregister(report.endpointId)
    case "DisplayMetadata":
      return {
        method: "POST",
        path: `${endpoint(report.endpointId)}/display-metadata`,
        body: { task_hint: report.taskHint }
      }
    case "UndispatchedChanged":
      return { method: "POST", path: "/v1/runtime/undispatched-changed", body: report.event }
    case "NetworkPresenceChanged":
      return { method: "POST", path: "/v1/runtime/network-presence-changed", body: report.event }
    case "ControlAck":
      return { method: "POST", path: "/v1/runtime/control-ack", body: report.ack }
  }
}

// -- answers -----------------------------------------------------------------------------------------------------------

export const isSuccess = (status: number): boolean => status >= 200 && status < 300

/** Answers that mean there is nothing left to do, beside success. */
export const isSettled = (report: PlatformReport, status: number): boolean => {
  switch (report._tag) {
    // A platform without this route, or without the endpoint; the heartbeat tells of a lost lease.
    case "EndpointState":
      return status === 404
    case "EndpointRemoved":
      return isGone(status)
    default:
      return false
  }
}

/** What was to be removed is not there. */
export const isGone = (status: number): boolean => status === 404 || status === 410

const retried: ReadonlySet<number> = new Set([408, 425, 429])

/** Refused credentials, refused for good, or worth another attempt: also whatever HTTP does not foresee here, such as a redirect. */
export const failureOf = (answer: WireAnswer, { hide, now }: FailureContext): WireFailure => {
  const { status } = answer
  const body = json(answer)
  const said = (value: unknown, limit: number) => (typeof value === "string" ? oneLine(hide(value), limit) : "")
  const [error, message] = isObject(body) ? [body.error, body.message] : []
  const failure = {
    status,
    code: said(error, longestCode) || "unknown",
    reason: said(message, longestReason).replace(/\.$/, "") || answer.statusText || `status ${status}`
  }
  if (status === 401) return { kind: "unauthorized", ...failure }
  if (status >= 400 && status < 500 && !retried.has(status)) return { kind: "refused", ...failure }
  const wait = retryAfterMs(answer.retryAfter, now)
  return { kind: "unavailable", ...failure, ...(wait === undefined ? {} : { retryAfterMs: wait }) }
}

/** `Retry-After` in seconds or as an HTTP date; at most an hour. */
export const retryAfterMs = (header: string | undefined, now: number): number | undefined => {
  if (header === undefined || header.length > 100) return undefined
  const wait = /^\s*\d+(\.\d+)?\s*$/.test(header)
    ? Number(header) * 1_000
    : // Date.parse takes nearly everything for a date; those of HTTP begin with a day of the week.
      /^\s*[A-Za-z]{3,9},? /.test(header)
      ? Date.parse(header) - now
      : Number.NaN
  return Number.isNaN(wait) ? undefined : Math.min(longestRetryAfterMs, Math.max(0, Math.ceil(wait)))
}

export interface RegisteredEndpoint {
  readonly endpointId: string
  /** The platform's id of this account. */
  readonly nodeId?: string
  readonly heartbeatAfterMs?: number
  readonly sessionNaming?: { readonly nickname: string; readonly owner_edited_name: string | null }
}

export const registeredEndpoint = (answer: WireAnswer): Either.Either<RegisteredEndpoint, WireFailure> => {
  const body = json(answer)
  if (!isObject(body) || !isEndpointId(body.endpoint_id)) {
    return unusable(answer, "its answer to a registration names no endpoint")
  }
  const { heartbeat_after_seconds: seconds, node_id: nodeId, session_naming: naming } = body
  return Either.right({
    endpointId: body.endpoint_id,
    ...(isName(nodeId) ? { nodeId } : {}),
    ...(typeof seconds === "number" && seconds > 0
      ? { heartbeatAfterMs: Math.min(longestHeartbeatMs, Math.max(shortestHeartbeatMs, seconds * 1_000)) }
      : {}),
    ...(isObject(naming) &&
    typeof naming.nickname === "string" &&
    (naming.owner_edited_name === null || typeof naming.owner_edited_name === "string")
      ? { sessionNaming: { nickname: naming.nickname, owner_edited_name: naming.owner_edited_name } }
      : {})
  })
}

/** Of an endpoint the platform knows as ours. */
export const ownedState = (answer: WireAnswer): Either.Either<"open" | "closed", WireFailure> => {
  const body = json(answer)
  if (!isObject(body)) return unusable(answer, "its answer about an endpoint is no object")
  return Either.right(typeof body.retired_at === "string" && body.retired_at !== "" ? "closed" : "open")
}

export interface Account {
  /** The account's id at the platform. */
  readonly subjectId: string
  readonly ownerUserId?: string
  readonly carrier?: string
}

/** The code of an account that is not an agent's. */
export const wrongSubjectType = "wrong_subject_type"

export const account = (answer: WireAnswer): Either.Either<Account, WireFailure> => {
  const body = json(answer)
  if (!isObject(body) || !isName(body.subjectId)) return unusable(answer, "its answer names no account")
  const { carrier, ownerUserId, subjectId, subjectType } = body
  if (typeof subjectType !== "string") return unusable(answer, "its answer does not say what kind of account this is")
  if (subjectType !== "agent-runtime") {
    return Either.left({
      kind: "refused",
      status: answer.status,
      code: wrongSubjectType,
      reason: `the account is ${/^[\w-]{1,40}$/.test(subjectType) ? `"${subjectType}"` : "something else"}, not "agent-runtime"`
    })
  }
  return Either.right({
    subjectId,
    ...(typeof ownerUserId === "string" ? { ownerUserId } : {}),
    ...(typeof carrier === "string" ? { carrier } : {})
  })
}

/** A success that does not say what it must: something else may have answered, such as a proxy. */
const unusable = (answer: WireAnswer, reason: string) =>
  Either.left<WireFailure>({ kind: "unavailable", status: answer.status, code: "invalid_response", reason })

const json = ({ text }: WireAnswer): unknown => {
  if (text === undefined || text.length > answerBytes) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return isDeeperThan(value, answerDepth) ? undefined : value
  } catch {
    return undefined
  }
}

const isName = (value: unknown): value is string =>
  typeof value === "string" && value !== "" && value.length <= longestId

const oneLine = (text: string, limit: number) =>
  firstCodePoints(
    text
      .slice(0, 4 * limit)
      .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ")
      .trim(),
    limit
  )
