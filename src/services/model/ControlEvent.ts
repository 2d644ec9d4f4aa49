/** What the platform can tell a broker: the events, and what becomes of a text that is none. */
import { Either, ParseResult, Schema } from "effect"
import { isDeeperThan, optional } from "./Json.js"

/** How an event ended: `received` as long as its effect is on its way. */
export const ControlOutcome = Schema.Struct({
  status: Schema.Literal("received", "applied", "failed"),
  detail: optional(Schema.String)
})
export interface ControlOutcome extends Schema.Schema.Type<typeof ControlOutcome> {}

export const received: ControlOutcome = { status: "received" }
export const applied: ControlOutcome = { status: "applied" }

/** The detail names what is wrong, with names from outside in it: it is cut to a bearable length. */
export const failed = (detail: string): ControlOutcome => ({ status: "failed", detail: detail.slice(0, 500) })

export type ControlEvent = { readonly key: string } & (
  | { readonly _tag: "DispatchUndispatched"; readonly undispatchedId: string; readonly targetEndpointId: string }
  | {
      readonly _tag: "SpawnRequest"
      readonly prompt: string
      readonly runtimeKind: string
      /** The undispatched message that caused it, for brokers that hand it to the new session. */
      readonly undispatchedId?: string
    }
  | { readonly _tag: "ForceUnregister"; readonly endpointId: string; readonly reason: string | undefined }
  /** A hint to look for work; this broker needs none. */
  | { readonly _tag: "DispatchNudge" }
)

export type ControlReading =
  | { readonly _tag: "Event"; readonly event: ControlEvent }
  /** Nothing is to be done but to say so. */
  | { readonly _tag: "Answer"; readonly key: string; readonly outcome: ControlOutcome }
  /** It cannot even be answered. */
  | { readonly _tag: "Nothing"; readonly because: "no_json" | "no_key" }

const longestKey = 512

const Envelope = Schema.Struct({ version: Schema.Literal(1), emitted_at: Schema.JsonNumber })
const Id = Schema.NonEmptyString
const absent = <A, I>(schema: Schema.Schema<A, I>) => Schema.optional(Schema.NullOr(schema))

const dispatchUndispatched = Schema.decodeUnknownEither(
  Schema.Struct({ ...Envelope.fields, undispatched_id: Id, target_endpoint_id: absent(Id) })
)
/** The later way to name a target; read only where the earlier one is absent. */
const targetRef = Schema.decodeUnknownEither(
  Schema.Struct({ target_ref: Schema.Struct({ projection_endpoint_id: Id }) })
)
const spawnRequest = Schema.decodeUnknownEither(
  Schema.Struct({ ...Envelope.fields, prompt: Schema.NonEmptyString, runtime_kind: Id, undispatched_id: absent(Id) })
)
const forceUnregister = Schema.decodeUnknownEither(
  Schema.Struct({ ...Envelope.fields, endpoint_id: Id, reason: Schema.optional(Schema.Unknown) })
)
const bare = Schema.decodeUnknownEither(Envelope)

type Fields = { readonly [name: string]: unknown }
type Reader = (fields: Fields, key: string) => Either.Either<ControlEvent | ControlOutcome, string>

/** The field that is wrong. */
const field = (error: ParseResult.ParseError): string =>
  ParseResult.ArrayFormatter.formatErrorSync(error)[0]?.path.join(".") ?? ""

const readers: { readonly [type: string]: Reader } = {
  dispatch_undispatched: (fields, key) =>
    Either.gen(function* () {
      const event = yield* Either.mapLeft(dispatchUndispatched(fields), field)
      const target =
        event.target_endpoint_id ??
        (fields.target_ref == null
          ? yield* Either.left("target_endpoint_id")
          : (yield* Either.mapLeft(targetRef(fields), field)).target_ref.projection_endpoint_id)
      return { _tag: "DispatchUndispatched", key, undispatchedId: event.undispatched_id, targetEndpointId: target }
    }),
  spawn_request: (fields, key) =>
    Either.mapBoth(spawnRequest(fields), {
      onLeft: field,
      onRight: ({ prompt, runtime_kind, undispatched_id }) => ({
        _tag: "SpawnRequest",
        key,
        prompt,
        runtimeKind: runtime_kind,
        ...(undispatched_id == null ? {} : { undispatchedId: undispatched_id })
      })
    }),
  // Its reason is only logged: an owner's wish does not fail for it.
  force_unregister: (fields, key) =>
    Either.mapBoth(forceUnregister(fields), {
      onLeft: field,
      onRight: ({ endpoint_id, reason }) => ({
        _tag: "ForceUnregister",
        key,
        endpointId: endpoint_id,
        reason: typeof reason === "string" ? reason : undefined
      })
    }),
  dispatch_nudge: (fields, key) =>
    Either.mapBoth(bare(fields), { onLeft: field, onRight: () => ({ _tag: "DispatchNudge", key }) }),
  owner_session_delivery: (fields) =>
    Either.mapBoth(bare(fields), { onLeft: field, onRight: () => failed("no_handler:owner_session_delivery") })
}

/** Reads the data of an event. */
export const readControlEvent = (data: string, depth: number): ControlReading => {
  const fields = parse(data, depth)
  if (fields === undefined) return { _tag: "Nothing", because: "no_json" }
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
    return { _tag: "Nothing", because: "no_key" }
  }
  const { idempotency_key: key, type, version } = fields as Fields
  if (typeof key !== "string" || key === "") return { _tag: "Nothing", because: "no_key" }
  const answer = (outcome: ControlOutcome): ControlReading => ({ _tag: "Answer", key, outcome })
  if (typeof version === "number" && version !== 1) return answer(failed("unsupported_protocol_version"))
  if (typeof type !== "string" || !Object.hasOwn(readers, type)) {
    return answer({ status: "applied", detail: "unknown_variant_dropped" })
  }
  if (key.length > longestKey) return answer(failed("invalid_event: idempotency_key"))
  return Either.match(readers[type]!(fields as Fields, key), {
    onLeft: (wrong) => answer(failed(`invalid_event: ${wrong}`)),
    onRight: (read) => ("_tag" in read ? { _tag: "Event", event: read } : answer(read))
  })
}

const parse = (data: string, depth: number): unknown => {
  try {
    const value: unknown = JSON.parse(data)
    return isDeeperThan(value, depth) ? undefined : value
  } catch {
    return undefined
  }
}

/** What the event is about. Events about the same thing are worked on in the order they came, others need not wait. */
export const subjectsOf = (event: ControlEvent): ReadonlyArray<string> => {
  switch (event._tag) {
    case "DispatchUndispatched":
      return [`undispatched:${event.undispatchedId}`, `endpoint:${event.targetEndpointId}`]
    case "ForceUnregister":
      return [`endpoint:${event.endpointId}`]
    case "SpawnRequest":
    case "DispatchNudge":
      return []
  }
}
