/**
 * The platform over HTTP. Each call is one request: whoever calls decides whether to try again. No answer, whatever is in
 * it, is a defect, and no error repeats the token.
 */
import { STATUS_CODES } from "node:http"
import { HttpClient, type HttpClientError, HttpClientRequest, HttpIncomingMessage } from "@effect/platform"
import { NodeHttpClient } from "@effect/platform-node"
import { Effect, Either, Layer, Option, Redacted } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Credentials } from "../services/Credentials.js"
import * as Wire from "../services/model/PlatformWire.js"
import { PlatformApi, PlatformError } from "../services/PlatformApi.js"
import { errorCode } from "./internal/errorCode.js"

type Reading<A> = (answer: Wire.WireAnswer) => Either.Either<A, Wire.WireFailure>

/**
 * Connections are used again, for heartbeats are many, but not after four idle seconds: servers close theirs after five or
 * more, and a request on a connection that is just being closed fails.
 */
const client = NodeHttpClient.layerWithoutAgent.pipe(
  Layer.provide(NodeHttpClient.makeAgentLayer({ keepAlive: true, timeout: 4_000, maxSockets: 64, maxFreeSockets: 8 }))
)

/** On a given client, which must not follow redirects. */
export const layerOnClient: Layer.Layer<PlatformApi, never, BrokerConfig | Credentials | HttpClient.HttpClient> =
  Layer.effect(
    PlatformApi,
    Effect.gen(function* () {
      const { platformMs } = yield* BrokerConfig
      const { apiOrigin, runtimeToken } = yield* Credentials
      const clock = yield* Effect.clock
      /** How long the rest of an answer is waited for whose status says all. */
      const restMs = Math.min(1_000, platformMs / 4)
      // Spans would carry the headers, and put their own on the request.
      const http = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true)
      const authorized = HttpClientRequest.bearerToken(runtimeToken)
      /** The platform's id of this account. */
      let subjectId: string | undefined
      /** The same as registrations name it, for platforms that do not know whoami. */
      let nodeId: string | undefined

      const hide = (text: string) => text.replaceAll(Redacted.value(runtimeToken), "<token>")

      const requestFor = ({ body, method, path }: Wire.WireRequest) => {
        const request = HttpClientRequest.make(method)(`${apiOrigin}${path}`).pipe(authorized)
        return body === undefined
          ? request
          : HttpClientRequest.bodyText(request, JSON.stringify(body), "application/json")
      }

      /** `wantsBody` when the body of a success matters; of other answers the status does, whatever becomes of the rest. */
      const exchange = (request: Wire.WireRequest, wantsBody: boolean): Effect.Effect<Wire.WireAnswer, PlatformError> =>
        Effect.suspend(() => http.execute(requestFor(request))).pipe(
          Effect.flatMap((response) => {
            const { status } = response
            const read = response.text.pipe(HttpIncomingMessage.withMaxBodySize(Option.some(Wire.answerBytes)))
            const text =
              wantsBody && Wire.isSuccess(status)
                ? read
                : read.pipe(
                    Effect.timeoutOption(restMs),
                    Effect.map(Option.getOrUndefined),
                    Effect.orElseSucceed(() => undefined)
                  )
            return Effect.map(text, (text) => ({
              status,
              statusText: STATUS_CODES[status] ?? "",
              retryAfter: response.headers["retry-after"],
              text
            }))
          }),
          Effect.mapError(unreachable),
          // Node's client throws at headers it cannot send.
          Effect.catchAllDefect(() =>
            Effect.fail(
              new PlatformError({ kind: "unavailable", code: "network", reason: "the request could not be sent" })
            )
          )
        )

      const inTime = Effect.timeoutFail({
        duration: platformMs,
        onTimeout: () =>
          new PlatformError({ kind: "unavailable", code: "timeout", reason: `no answer within ${platformMs} ms` })
      })

      const refusal = (answer: Wire.WireAnswer) =>
        new PlatformError(Wire.failureOf(answer, { now: clock.unsafeCurrentTimeMillis(), hide }))

      /** A call whose answer says something. */
      const ask = <A>(request: Wire.WireRequest, reading: Reading<A>): Effect.Effect<A, PlatformError> =>
        Effect.flatMap(exchange(request, true), (answer) =>
          Wire.isSuccess(answer.status)
            ? Either.mapLeft(
                reading(answer),
                (failure) => new PlatformError({ ...failure, reason: hide(failure.reason) })
              )
            : Either.left(refusal(answer))
        )

      /** A call that is done when it is taken, or when its status says that there is nothing to do. */
      const tell = (
        request: Wire.WireRequest,
        isSettled: (status: number) => boolean = () => false
      ): Effect.Effect<void, PlatformError> =>
        Effect.flatMap(exchange(request, false), (answer) =>
          Wire.isSuccess(answer.status) || isSettled(answer.status) ? Effect.void : refusal(answer)
        )

      /** A call about an endpoint, if a path can name it. */
      const about = <A>(endpointId: string, call: () => Effect.Effect<A, PlatformError>) =>
        Effect.suspend(() =>
          Wire.isEndpointId(endpointId)
            ? call()
            : new PlatformError({
                kind: "refused",
                code: "invalid_endpoint_id",
                reason: "this is no endpoint id the platform can have given"
              })
        )

      const whoami = ask(Wire.whoami, Wire.account).pipe(
        Effect.tap((account) =>
          Effect.sync(() => {
            subjectId = account.subjectId
          })
        )
      )

      /** As whom to ask for endpoints. */
      const self = Effect.suspend(() =>
        subjectId !== undefined
          ? Effect.succeed(subjectId)
          : whoami.pipe(
              Effect.map((account): string | undefined => account.subjectId),
              Effect.catchIf(
                ({ kind }) => kind === "refused",
                () => Effect.succeed(nodeId)
              )
            )
      )

      return {
        name: "http",
        register: (registration) =>
          ask(Wire.register(registration), Wire.registeredEndpoint).pipe(
            Effect.map(({ nodeId: owner, ...endpoint }) => {
              nodeId = owner ?? nodeId
              return endpoint
            }),
            inTime
          ),
        heartbeat: (endpointId) => about(endpointId, () => tell(Wire.heartbeat(endpointId))).pipe(inTime),
        unregister: (endpointId) =>
          about(endpointId, () => tell(Wire.unregister(endpointId), Wire.isGone)).pipe(inTime),
        endpointState: (endpointId) =>
          about(endpointId, () => Effect.flatMap(self, (as) => ask(Wire.owned(endpointId, as), Wire.ownedState))).pipe(
            Effect.catchIf(
              ({ code, status }) => status === 404 || code === "invalid_endpoint_id",
              () => Effect.succeed("unknown" as const)
            ),
            inTime
          ),
        post: (report) =>
          Effect.suspend(() => {
            const call = () => tell(Wire.reported(report), (status) => Wire.isSettled(report, status))
            const subject = Wire.subjectOf(report)
            return subject === undefined ? call() : about(subject, call)
          }).pipe(inTime),
        whoami: inTime(whoami)
      }
    })
  )

export const layer: Layer.Layer<PlatformApi, never, BrokerConfig | Credentials> = Layer.provide(layerOnClient, client)

/** No answer, or not all of it. */
const unreachable = ({ cause, reason }: HttpClientError.HttpClientError) => {
  const code = errorCode(cause)
  return new PlatformError({
    kind: "unavailable",
    code: code?.endsWith("TIMEDOUT") ? "timeout" : "network",
    reason:
      (reason === "Decode" ? "its answer broke off or is too large" : "the request failed") +
      (code === undefined ? "" : ` (${code})`)
  })
}
