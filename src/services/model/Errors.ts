/**
 * What the broker answers instead of doing what was asked. On the wire each is `{"error": code, "message": sentence}`, some with
 * more keys, under the status of its class. The code is also its `_tag`. Only what the platform refused travels under its own.
 */
import { HttpApiSchema } from "@effect/platform"
import { type Cause, Data, Schema, Struct } from "effect"

type Props<Fields extends Schema.Struct.Fields> = { readonly message: string } & Schema.Simplify<
  Schema.Struct.Type<Fields>
>

export interface RefusalClass<
  Code extends string,
  Fields extends Schema.Struct.Fields,
  E = Cause.YieldableError & { readonly _tag: Code } & Props<Fields>
> {
  new (props: Props<Fields>): E
  readonly code: Code
  readonly status: number
  readonly description: string
  readonly fields: Fields
}

/** The class of refusals with one code. `fields` are the keys its body has beside `error` and `message`. */
const refusal = <const Code extends string, Fields extends Schema.Struct.Fields = {}>(
  code: Code,
  status: number,
  description: string,
  fields: Fields = {} as Fields
) =>
  Object.assign(Data.TaggedError(code), { code, status, description, fields }) as unknown as RefusalClass<Code, Fields>

/** How the refusal travels: server, client and OpenAPI document take it from here. */
export const onWire = <Code extends string, Fields extends Schema.Struct.Fields, E extends { readonly _tag: Code }>(
  Refusal: RefusalClass<Code, Fields, E>
): Schema.Schema<E, RefusalBody> => {
  const { code, description, fields, status } = Refusal
  const body = Schema.Struct({ error: Schema.Literal(code), message: Schema.String, ...fields })
  return Schema.transform(body as unknown as Schema.Schema<RefusalBody>, Schema.instanceOf(Refusal), {
    strict: true,
    decode: ({ error: _, ...props }) => new Refusal(props as unknown as Props<Fields>),
    encode: bodyOf
  }).annotations({ identifier: code, description, ...HttpApiSchema.annotations({ status }) })
}

export interface RefusalBody {
  readonly error: string
  readonly message: string
}

/** The JSON body of a refusal. */
export const bodyOf = (refused: { readonly _tag: string }): RefusalBody => {
  if (refused instanceof PlatformRefused) return { error: refused.code, message: refused.message }
  const { fields } = refused.constructor as unknown as RefusalClass<string, Schema.Struct.Fields>
  const { message, ...props } = refused as {
    readonly _tag: string
    readonly message: string
    readonly [key: string]: unknown
  }
  return { error: refused._tag, message, ...Struct.pick(props, ...Object.keys(fields)) }
}

// -- the request itself ------------------------------------------------------------------------------------------------

export class BadRequest extends refusal(
  "bad_request",
  400,
  "A field, the path or a header is not what the route takes; the message names it."
) {}
export class Unauthorized extends refusal("unauthorized", 401, "No token, or not one of this broker.") {}
export class HostNotAllowed extends refusal(
  "host_not_allowed",
  403,
  "The `Host` header does not name this broker on loopback."
) {}
export class OriginNotAllowed extends refusal("origin_not_allowed", 403, "A browser page of another origin.") {}
export class OperatorOnly extends refusal(
  "operator_only",
  403,
  "The route is for the operator token of `operator.json`."
) {}
export class NotFound extends refusal("not_found", 404, "No such path, or not with this method.", {
  path: Schema.String
}) {}
export class RequestTimeout extends refusal("request_timeout", 408, "The body did not arrive in time.") {}
export class BodyTooLarge extends refusal("body_too_large", 413, "The body is larger than the broker takes.") {}
export class BrokerBusy extends refusal(
  "broker_busy",
  503,
  "Requests that are not answered yet take all the memory there is for them; the same request may work a little later.",
  { retryable: Schema.Boolean }
) {}
export class BrokerDraining extends refusal("broker_draining", 503, "The broker is leaving and takes no new work.", {
  retryable: Schema.Boolean
}) {}
export class TooManyChannels extends refusal("too_many_channels", 503, "No more plugin channels at the moment.", {
  retryable: Schema.Boolean
}) {}
export class ChannelContended extends refusal(
  "channel_contended",
  429,
  "Clients of one process displace each other's channels; `Retry-After` says how long this one waits.",
  { retryable: Schema.Boolean }
) {}
export class StoreUnavailable extends refusal(
  "store_unavailable",
  503,
  "The broker cannot write to its store at the moment.",
  { retryable: Schema.Boolean }
) {}
export class InternalError extends refusal(
  "internal_error",
  500,
  "A fault of the broker. Says nothing more on purpose; the log does."
) {}

// -- who asks ----------------------------------------------------------------------------------------------------------

export class PluginPidInvalid extends refusal(
  "plugin_pid_invalid",
  400,
  "The process id is missing or no whole number above 0."
) {}
export class PluginPidMismatch extends refusal(
  "plugin_pid_mismatch",
  403,
  "Header and body name different processes."
) {}
export class EndpointPidMismatch extends refusal(
  "endpoint_pid_mismatch",
  403,
  "The endpoint belongs to another process."
) {}
export class EndpointOwnerTokenMismatch extends refusal(
  "endpoint_owner_token_mismatch",
  403,
  "The endpoint demands its owner token, and this is not it."
) {}
export class ReattachPidMismatch extends refusal(
  "reattach_pid_mismatch",
  403,
  "`endpoint_pid_mismatch` as reattach calls it."
) {}
export class OwnershipMismatch extends refusal(
  "ownership_mismatch",
  403,
  "`endpoint_pid_mismatch` as task-hint calls it."
) {}
export class ProtocolVersionMismatch extends refusal(
  "protocol_version_mismatch",
  400,
  "Client and broker speak different major versions of the protocol."
) {}

// -- endpoints ---------------------------------------------------------------------------------------------------------

export class IpcChannelMissing extends refusal("ipc_channel_missing", 400, "No open channel of this process.") {}
export class TooManyEndpoints extends refusal("too_many_endpoints", 503, "No more endpoints at the moment.", {
  retryable: Schema.Boolean
}) {}
export class InvalidRequest extends refusal("invalid_request", 422, "The workspace is not one, or too long.") {}
export class InvalidRuntimeSessionId extends refusal(
  "invalid_runtime_session_id",
  400,
  "The runtime session id is too long or begins with the reserved prefix."
) {}
export class EndpointUnknown extends refusal("endpoint_unknown", 404, "Never registered here, or gone.") {}
export class EndpointNotReconnecting extends refusal("endpoint_not_reconnecting", 409, "The endpoint is in use.") {}
export class TaskHintInvalid extends refusal("task_hint_invalid", 400, "The task hint is no string.") {}

// -- messages ----------------------------------------------------------------------------------------------------------

export class UnknownEndpoint extends refusal(
  "unknown_endpoint",
  404,
  "`endpoint_unknown` as the send route spells it."
) {}
export class EndpointNotActive extends refusal("endpoint_not_active", 409, "The endpoint's plugin is away.") {}
export class CorrelationIdForbidden extends refusal(
  "correlation_id_forbidden",
  400,
  "Only the broker sets `metadata.correlation_id`."
) {}
export class TargetEndpointIdForbidden extends refusal(
  "target_endpoint_id_forbidden",
  400,
  "Plugins address agents; `metadata.target_endpoint_id` is not theirs to set."
) {}
export class SourceEndpointIdMismatch extends refusal(
  "source_endpoint_id_mismatch",
  403,
  "`metadata.source_endpoint_id` names another endpoint than the sender."
) {}
export class IdempotencyConflict extends refusal(
  "idempotency_conflict",
  409,
  "The `idempotency_key` belongs to another message."
) {}
export class SendUnavailable extends refusal("connector_unavailable", 503, "Surely not sent.", {
  retryable: Schema.Boolean
}) {}
export class SendUnknown extends refusal(
  "connector_send_outcome_unknown",
  503,
  "Sent; whether it arrived is not known.",
  { retryable: Schema.Boolean }
) {}
export class SendRefused extends refusal("connector_rejected", 502, "The network refused it with `code`.", {
  code: Schema.String
}) {}

// -- undispatched messages ---------------------------------------------------------------------------------------------

export class DispatchBodyInvalid extends refusal(
  "dispatch_body_invalid",
  400,
  "A field of the request is missing or empty."
) {}
export class DispatchFailed extends refusal(
  "dispatch_failed",
  400,
  "The message or the target is not there; the message names it."
) {}
export class DispatchNotAllowed extends refusal(
  "dispatch_not_allowed",
  403,
  "Setting `pluginsMayDispatch` is false and the caller is no operator."
) {}

// -- what was given up, and the store -----------------------------------------------------------------------------------

export class DeadLetterUnknown extends refusal(
  "dead_letter_unknown",
  404,
  "No dead letter or refused report has this id; it may have been retried or purged."
) {}
export class DeadLetterNotRetryable extends refusal(
  "dead_letter_not_retryable",
  409,
  "It would be given up again at once, or is no longer so; the message says which."
) {}
export class StoreNotReadable extends refusal(
  "store_not_readable",
  503,
  "The store cannot be looked into; the message says why."
) {}

// -- the platform ------------------------------------------------------------------------------------------------------

export class PlatformUnauthorized extends refusal(
  "platform_unauthorized",
  502,
  "The platform refused the broker's own credentials."
) {}
export class PlatformUnavailable extends refusal(
  "platform_unavailable",
  503,
  "The platform cannot be reached, or is failing.",
  { retryable: Schema.Boolean }
) {}

/** The platform refused what a plugin asked for: the plugin is told with the platform's own status, code and message. */
export class PlatformRefused extends Data.TaggedError("platform_refused")<{
  /** 400 to 499; neither 401 nor 403, which mean the broker. */
  readonly status: number
  readonly code: string
  readonly message: string
}> {}

/** Stands for the status of the platform where one has to be named beforehand; nothing is answered with it. */
export const passedOnStatus = 499

/** How a refusal of the platform travels: it leaves with its own status, and the OpenAPI document says `4XX`. */
export const passedOn: Schema.Schema<PlatformRefused, RefusalBody> = Schema.transform(
  Schema.Struct({ error: Schema.String, message: Schema.String }),
  Schema.instanceOf(PlatformRefused),
  {
    strict: true,
    decode: ({ error, message }) => new PlatformRefused({ status: passedOnStatus, code: error, message }),
    encode: bodyOf
  }
).annotations({
  description: "The platform refused it, with this status, code and message.",
  ...HttpApiSchema.annotations({ status: passedOnStatus })
})
