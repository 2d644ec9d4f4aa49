import { HttpApiSchema } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Either, Schema } from "effect"
import * as Errors from "../../../src/services/model/Errors.js"

const { bodyOf, onWire, passedOn, passedOnStatus, PlatformRefused, ...classes } = Errors

/** Codes and statuses of spec/ipc.md and design.md; the key is the class. */
const wire: { readonly [Name in keyof typeof classes]: readonly [code: string, status: number] } = {
  BadRequest: ["bad_request", 400],
  Unauthorized: ["unauthorized", 401],
  HostNotAllowed: ["host_not_allowed", 403],
  OriginNotAllowed: ["origin_not_allowed", 403],
  OperatorOnly: ["operator_only", 403],
  NotFound: ["not_found", 404],
  RequestTimeout: ["request_timeout", 408],
  BodyTooLarge: ["body_too_large", 413],
  BrokerBusy: ["broker_busy", 503],
  BrokerDraining: ["broker_draining", 503],
  TooManyChannels: ["too_many_channels", 503],
  ChannelContended: ["channel_contended", 429],
  StoreUnavailable: ["store_unavailable", 503],
  InternalError: ["internal_error", 500],
  PluginPidInvalid: ["plugin_pid_invalid", 400],
  PluginPidMismatch: ["plugin_pid_mismatch", 403],
  EndpointPidMismatch: ["endpoint_pid_mismatch", 403],
  EndpointOwnerTokenMismatch: ["endpoint_owner_token_mismatch", 403],
  ReattachPidMismatch: ["reattach_pid_mismatch", 403],
  OwnershipMismatch: ["ownership_mismatch", 403],
  ProtocolVersionMismatch: ["protocol_version_mismatch", 400],
  IpcChannelMissing: ["ipc_channel_missing", 400],
  TooManyEndpoints: ["too_many_endpoints", 503],
  InvalidRequest: ["invalid_request", 422],
  InvalidRuntimeSessionId: ["invalid_runtime_session_id", 400],
  EndpointUnknown: ["endpoint_unknown", 404],
  EndpointNotReconnecting: ["endpoint_not_reconnecting", 409],
  TaskHintInvalid: ["task_hint_invalid", 400],
  UnknownEndpoint: ["unknown_endpoint", 404],
  EndpointNotActive: ["endpoint_not_active", 409],
  CorrelationIdForbidden: ["correlation_id_forbidden", 400],
  TargetEndpointIdForbidden: ["target_endpoint_id_forbidden", 400],
  SourceEndpointIdMismatch: ["source_endpoint_id_mismatch", 403],
  IdempotencyConflict: ["idempotency_conflict", 409],
  SendUnavailable: ["connector_unavailable", 503],
  SendUnknown: ["connector_send_outcome_unknown", 503],
  SendRefused: ["connector_rejected", 502],
  DispatchBodyInvalid: ["dispatch_body_invalid", 400],
  DispatchFailed: ["dispatch_failed", 400],
  DispatchNotAllowed: ["dispatch_not_allowed", 403],
  DeadLetterUnknown: ["dead_letter_unknown", 404],
  DeadLetterNotRetryable: ["dead_letter_not_retryable", 409],
  StoreNotReadable: ["store_not_readable", 503],
  PlatformUnauthorized: ["platform_unauthorized", 502],
  PlatformUnavailable: ["platform_unavailable", 503]
}

type AnyRefusal = Errors.RefusalClass<string, Schema.Struct.Fields, { readonly _tag: string; readonly message: string }>
const all = Object.entries(classes as unknown as Record<string, AnyRefusal>)

describe("refusals", () => {
  it("each has the code and the status the wire knows it by", () => {
    const seen = Object.fromEntries(all.map(([name, { code, status }]) => [name, [code, status]]))
    assert.deepStrictEqual<Record<string, unknown>>(seen, wire)
  })
  it("no two have the same code", () => {
    assert.strictEqual(new Set(all.map(([, { code }]) => code)).size, all.length)
  })
  it("each travels as error and message, with its own keys and no others, and comes back as what it was", () => {
    const values: Record<string, unknown> = { path: "/x", retryable: true, code: "quota" }
    for (const [name, Refusal] of all) {
      const own = Object.fromEntries(Object.keys(Refusal.fields).map((key) => [key, values[key]]))
      const refused = new Refusal({ message: "a sentence", ...own, secret: "not for the wire" } as never)
      const schema = onWire(Refusal)
      const body = Schema.encodeSync(schema)(refused)
      assert.deepStrictEqual<object>(body, { error: Refusal.code, message: "a sentence", ...own }, name)
      const back = Schema.decodeUnknownSync(schema)(JSON.parse(JSON.stringify(body)))
      assert.instanceOf(back, Refusal, name)
      assert.deepStrictEqual(bodyOf(back), body, name)
      assert.strictEqual(HttpApiSchema.getStatusErrorAST(schema.ast), Refusal.status, name)
    }
  })
  it("the body of one is not taken for another", () => {
    const body = bodyOf(new Errors.EndpointUnknown({ message: "gone" }))
    assert.isTrue(Either.isLeft(Schema.decodeUnknownEither(onWire(Errors.UnknownEndpoint))(body)))
  })
  it("of the platform keep its code and message, and travel under its own status", () => {
    const refused = new PlatformRefused({ status: 409, code: "quota", message: "Too many." })
    const body = { error: "quota", message: "Too many." }
    assert.deepStrictEqual<object>(bodyOf(refused), body)
    assert.deepStrictEqual<object>(Schema.encodeSync(passedOn)(refused), body)
    const back = Schema.decodeUnknownSync(passedOn)(body)
    assert.instanceOf(back, PlatformRefused)
    assert.deepStrictEqual([back.code, back.message], ["quota", "Too many."])
    assert.strictEqual(HttpApiSchema.getStatusErrorAST(passedOn.ast), passedOnStatus)
  })
  it("says whether it is worth trying again, where that is the question", () => {
    assert.deepStrictEqual<object>(bodyOf(new Errors.SendUnknown({ message: "m", retryable: false })), {
      error: "connector_send_outcome_unknown",
      message: "m",
      retryable: false
    })
  })
})
