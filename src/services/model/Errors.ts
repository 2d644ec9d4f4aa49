/**
 * What the broker answers instead of doing what was asked. On the wire each is `{"error": code, "message": sentence}`, some with
 * more keys, under the status of its class. The code is also its `_tag`.
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
  readonly fields: Fields
}

/** The class of refusals with one code. `fields` are the keys its body has beside `error` and `message`. */
const refusal = <const Code extends string, Fields extends Schema.Struct.Fields = {}>(
  code: Code,
  status: number,
  fields: Fields = {} as Fields
) => Object.assign(Data.TaggedError(code), { code, status, fields }) as unknown as RefusalClass<Code, Fields>

/** How the refusal travels: server, client and OpenAPI document take it from here. */
export const onWire = <Code extends string, Fields extends Schema.Struct.Fields, E extends { readonly _tag: Code }>(
  Refusal: RefusalClass<Code, Fields, E>
): Schema.Schema<E, RefusalBody> => {
  const { code, fields, status } = Refusal
  const body = Schema.Struct({ error: Schema.Literal(code), message: Schema.String, ...fields })
  return Schema.transform(body as unknown as Schema.Schema<RefusalBody>, Schema.instanceOf(Refusal), {
    strict: true,
    decode: ({ error: _, ...props }) => new Refusal(props as unknown as Props<Fields>),
    encode: bodyOf
  }).annotations({ identifier: code, ...HttpApiSchema.annotations({ status }) })
}

export interface RefusalBody {
  readonly error: string
  readonly message: string
}

/** The JSON body of a refusal. */
export const bodyOf = (refused: { readonly _tag: string }): RefusalBody => {
  const { fields } = refused.constructor as unknown as RefusalClass<string, Schema.Struct.Fields>
  const { message, ...props } = refused as {
    readonly _tag: string
    readonly message: string
    readonly [key: string]: unknown
  }
  return { error: refused._tag, message, ...Struct.pick(props, ...Object.keys(fields)) }
}

// -- the request itself ------------------------------------------------------------------------------------------------

/** A field, the path or a header is not what the route takes; the message names it. */
export class BadRequest extends refusal("bad_request", 400) {}
/** No token, or not one of this broker. */
export class Unauthorized extends refusal("unauthorized", 401) {}
/** The `Host` header does not name this broker on loopback. */
export class HostNotAllowed extends refusal("host_not_allowed", 403) {}
/** A browser page of another origin. */
export class OriginNotAllowed extends refusal("origin_not_allowed", 403) {}
/** The route is for the operator token of `operator.json`. */
export class OperatorOnly extends refusal("operator_only", 403) {}
/** No such path, or not with this method. */
export class NotFound extends refusal("not_found", 404, { path: Schema.String }) {}
/** The body did not arrive in time. */
export class RequestTimeout extends refusal("request_timeout", 408) {}
/** The body is larger than the broker takes. */
export class BodyTooLarge extends refusal("body_too_large", 413) {}
/** The broker is leaving and takes no new work. */
export class BrokerDraining extends refusal("broker_draining", 503, { retryable: Schema.Boolean }) {}
/** No more plugin channels at the moment. */
export class TooManyChannels extends refusal("too_many_channels", 503, { retryable: Schema.Boolean }) {}
/** The broker cannot write to its store at the moment. */
export class StoreUnavailable extends refusal("store_unavailable", 503, { retryable: Schema.Boolean }) {}
/** A fault of the broker. Says nothing more on purpose; the log does. */
export class InternalError extends refusal("internal_error", 500) {}

// -- who asks ----------------------------------------------------------------------------------------------------------

export class PluginPidInvalid extends refusal("plugin_pid_invalid", 400) {}
/** Header and body name different processes. */
export class PluginPidMismatch extends refusal("plugin_pid_mismatch", 403) {}
/** The endpoint belongs to another process. */
export class EndpointPidMismatch extends refusal("endpoint_pid_mismatch", 403) {}
export class EndpointOwnerTokenMismatch extends refusal("endpoint_owner_token_mismatch", 403) {}
/** `endpoint_pid_mismatch` as reattach calls it. */
export class ReattachPidMismatch extends refusal("reattach_pid_mismatch", 403) {}
/** `endpoint_pid_mismatch` as task-hint calls it. */
export class OwnershipMismatch extends refusal("ownership_mismatch", 403) {}
export class ProtocolVersionMismatch extends refusal("protocol_version_mismatch", 400) {}

// -- endpoints ---------------------------------------------------------------------------------------------------------

/** No open channel of this process. */
export class IpcChannelMissing extends refusal("ipc_channel_missing", 400) {}
export class InvalidRequest extends refusal("invalid_request", 422) {}
export class InvalidRuntimeSessionId extends refusal("invalid_runtime_session_id", 400) {}
/** Never registered here, or gone. */
export class EndpointUnknown extends refusal("endpoint_unknown", 404) {}
/** The endpoint is in use. */
export class EndpointNotReconnecting extends refusal("endpoint_not_reconnecting", 409) {}
export class TaskHintInvalid extends refusal("task_hint_invalid", 400) {}

// -- messages ----------------------------------------------------------------------------------------------------------

/** `endpoint_unknown` as the send route spells it. */
export class UnknownEndpoint extends refusal("unknown_endpoint", 404) {}
/** The endpoint's plugin is away. */
export class EndpointNotActive extends refusal("endpoint_not_active", 409) {}
export class CorrelationIdForbidden extends refusal("correlation_id_forbidden", 400) {}
export class TargetEndpointIdForbidden extends refusal("target_endpoint_id_forbidden", 400) {}
export class SourceEndpointIdMismatch extends refusal("source_endpoint_id_mismatch", 403) {}
/** Surely not sent. */
export class SendUnavailable extends refusal("connector_unavailable", 503, { retryable: Schema.Boolean }) {}
/** Sent; whether it arrived is not known. */
export class SendUnknown extends refusal("connector_send_outcome_unknown", 503, { retryable: Schema.Boolean }) {}
/** The network refused it with `code`. */
export class SendRefused extends refusal("connector_rejected", 502, { code: Schema.String }) {}

// -- undispatched messages ---------------------------------------------------------------------------------------------

export class DispatchBodyInvalid extends refusal("dispatch_body_invalid", 400) {}
/** The message or the target is not there; the message names it. */
export class DispatchFailed extends refusal("dispatch_failed", 400) {}
/** Setting `pluginsMayDispatch` is false and the caller is no operator. */
export class DispatchNotAllowed extends refusal("dispatch_not_allowed", 403) {}

// -- the platform ------------------------------------------------------------------------------------------------------

/** The platform refused the broker's own credentials. */
export class PlatformUnauthorized extends refusal("platform_unauthorized", 502) {}
/** The platform cannot be reached, or is failing. */
export class PlatformUnavailable extends refusal("platform_unavailable", 503, { retryable: Schema.Boolean }) {}
