/** What the door of the server found out about a request, for the platform's handlers behind it. */
import type { IncomingMessage } from "node:http"
import { Headers, HttpServerRequest } from "@effect/platform"
import { Effect, Layer } from "effect"
import { Admitted, Authorized, type Role } from "../../services/ipc/Auth.js"

interface Known {
  readonly role: Role | undefined
  readonly target: string
  readonly json: unknown
}

const known = new WeakMap<IncomingMessage, Known>()

export const remember = (request: IncomingMessage, what: Known): void => {
  known.set(request, what)
}

const knownOf = (request: HttpServerRequest.HttpServerRequest): Known => known.get(request.source as IncomingMessage)!

export const roleOf = (request: HttpServerRequest.HttpServerRequest): Role | undefined => knownOf(request).role

/** The request with the path and the body the door has read; whatever its content type says, the body is JSON. */
export const asRead = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest =>
  Object.create(request, {
    headers: { value: Headers.remove(request.headers, "content-type") },
    url: { value: knownOf(request).target },
    json: { value: Effect.succeed(knownOf(request).json) }
  })

/** Routes behind `Authorized` were admitted with a token: this only says with which. */
export const authorizedLayer: Layer.Layer<Authorized> = Layer.succeed(Authorized, {
  bearer: () => Effect.map(HttpServerRequest.HttpServerRequest, (request) => Admitted.of({ role: roleOf(request)! }))
})
