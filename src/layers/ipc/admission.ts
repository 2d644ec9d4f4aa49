/** The one place where a request is admitted or refused, before any route sees it: host, origin, token, path, role. */
import type { IncomingMessage } from "node:http"
import type { Role } from "../../services/ipc/Auth.js"
import {
  BadRequest,
  HostNotAllowed,
  NotFound,
  OperatorOnly,
  OriginNotAllowed,
  Unauthorized
} from "../../services/model/Errors.js"
import type { Routes } from "./routes.js"

export type Refusal = BadRequest | HostNotAllowed | OriginNotAllowed | Unauthorized | OperatorOnly | NotFound

export interface Admission {
  /** `undefined`: without a token, which only public routes allow. */
  readonly role: Role | undefined
  /** The request's target in the spelling its route has; the query is as it came. */
  readonly target: string
}

export interface AdmissionRules {
  readonly port: number
  readonly isPluginToken: (presented: string) => boolean
  readonly isOperatorToken: (presented: string) => boolean
}

const loopbackNames = ["127.0.0.1", "localhost", "[::1]"]

type Request = Pick<IncomingMessage, "method" | "url" | "headers" | "rawHeaders">

export const admit = (request: Request, rules: AdmissionRules, routes: Routes): Admission | Refusal => {
  const { method = "", url: target = "" } = request
  const hosts = headerValues(request, "host")
  const host = hosts[0]?.toLowerCase()
  const names = loopbackNames.map((name) => `${name}:${rules.port}`)
  // A target in absolute form would name a host of its own.
  if (hosts.length !== 1 || host === undefined || !names.includes(host) || !target.startsWith("/")) {
    return new HostNotAllowed({
      message: `The request must name this broker: host 127.0.0.1:${rules.port} or localhost:${rules.port}, once.`
    })
  }
  const origins = headerValues(request, "origin")
  if (origins.length > 1 || (origins.length === 1 && !names.some((name) => origins[0] === `http://${name}`))) {
    return new OriginNotAllowed({ message: "The broker does not answer pages of other origins." })
  }

  const path = target.split("?", 1)[0]!
  const isReadable = isDecodable(path)
  const route = isReadable ? routes.find(method, path) : undefined
  const role = roleOf(request, rules)
  if (role === undefined && route?.access !== "anyone") {
    return new Unauthorized({
      message: "The header Authorization must be `Bearer <token>` with the token of this broker's discovery.json."
    })
  }
  if (!isReadable) return new BadRequest({ message: `The path ${path} holds a malformed percent escape.` })
  if (route === undefined) return new NotFound({ message: routes.none(method, path), path: target })
  if (route.access === "operators" && role !== "operator") {
    return new OperatorOnly({ message: "This route takes the operator token of operator.json, not the plugin token." })
  }
  return { role, target: route.path + target.slice(path.length) }
}

const roleOf = (request: Request, rules: AdmissionRules): Role | undefined => {
  const header = request.headers.authorization
  if (header === undefined) return undefined
  const presented = header.startsWith("Bearer ") ? header.slice("Bearer ".length) : header
  // Both are always compared, so that the time says nothing of which one matched.
  const isOperator = rules.isOperatorToken(presented)
  return rules.isPluginToken(presented) ? "plugin" : isOperator ? "operator" : undefined
}

/** Every value of a header as it came: `headers` keeps only the first of some. */
const headerValues = ({ rawHeaders }: Request, name: string): ReadonlyArray<string> =>
  rawHeaders.flatMap((field, index) =>
    index % 2 === 0 && field.toLowerCase() === name ? [rawHeaders[index + 1]!] : []
  )

const isDecodable = (path: string): boolean => {
  try {
    decodeURIComponent(path)
    return true
  } catch {
    return false
  }
}
