/** Messages: sending, and the undispatched inbox. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { UndispatchedReason } from "../Inbox.js"
import * as Errors from "../model/Errors.js"
import { absentable, optional } from "../model/Json.js"
import { Authorized } from "./Auth.js"
import { CallerHeaders, Metadata, Name, NonEmpty, nonEmptyUpTo, Ok } from "./Fields.js"

const { onWire } = Errors

const longestAddress = 4_096

export const SendRequest = Schema.Struct({
  endpoint_id: NonEmpty,
  /** An address of the network, for example `mstp://host/name` or `local:agent`. */
  to: nonEmptyUpTo(longestAddress),
  content: Schema.String,
  /** `text` when left out. */
  contentType: absentable(Name),
  /** Passed on; `correlation_id` and `target_endpoint_id` are the broker's. `in_reply_to` names a correlation id received. */
  metadata: absentable(Metadata),
  require_live: absentable(Schema.Boolean),
  /** The same key again is the same message: sent at most once, answered alike. Per endpoint, for 24 hours. */
  idempotency_key: absentable(nonEmptyUpTo(128)),
  /** Where the network cannot be reached the message waits for it (202 `queued`), for 24 hours at most. */
  store: absentable(Schema.Boolean)
})

export const SendResponse = Schema.Struct({
  messageId: Schema.String,
  status: Schema.Literal("delivered", "stored"),
  /** With `in_reply_to`: whether the message went out under that correlation id. */
  reply_resolved: optional(Schema.Boolean)
})

/** It waits in the broker until the network can be reached. */
export const SendQueued = Schema.Struct({
  messageId: Schema.String,
  status: Schema.Literal("queued"),
  reply_resolved: optional(Schema.Boolean)
})

export const UndispatchedMessage = Schema.Struct({
  id: Schema.String,
  /** ISO time. */
  arrived_at: Schema.String,
  sender_address: Schema.String,
  content: Schema.String,
  content_type: Schema.String,
  metadata: Metadata,
  reason: UndispatchedReason,
  original_target_endpoint_id: optional(Schema.String),
  original_correlation_id: optional(Schema.String),
  source_message_id: Schema.String
})

const PageSize = Schema.String.pipe(
  Schema.filter((value) => /^[1-9][0-9]{0,3}$/.test(value) && Number(value) <= 1_000),
  Schema.annotations({
    description: "a whole number from 1 to 1000",
    jsonSchema: { type: "integer", minimum: 1, maximum: 1_000 }
  })
)

const Cursor = Schema.String.pipe(
  Schema.filter((value) => /^[0-9]{1,16}$/.test(value)),
  Schema.annotations({ description: 'the "next" of a page' })
)

/** Without them the list is whole. */
export const UndispatchedPage = Schema.Struct({
  /** So many at most. */
  limit: optional(PageSize),
  /** Those behind a page: the `next` it gave. */
  after: optional(Cursor)
})

/** In arrival order. */
export const UndispatchedList = Schema.Struct({
  items: Schema.Array(UndispatchedMessage),
  /** More are behind these: the `after` of the next page. */
  next: optional(Schema.String)
})

export const DispatchRequest = Schema.Struct({ undispatched_id: NonEmpty, target_endpoint_id: NonEmpty })

export class MessageGroup extends HttpApiGroup.make("messages")
  .add(
    HttpApiEndpoint.post("send", "/v1/send")
      .annotate(
        OpenApi.Description,
        "Sends a message as an active endpoint. 200 only after the network took it. The broker stamps correlation_id, source_endpoint_id and require_live."
      )
      .setHeaders(CallerHeaders)
      .setPayload(SendRequest)
      .addSuccess(SendResponse)
      .addSuccess(SendQueued, { status: 202 })
      .addError(onWire(Errors.PluginPidInvalid))
      .addError(onWire(Errors.UnknownEndpoint))
      .addError(onWire(Errors.EndpointPidMismatch))
      .addError(onWire(Errors.EndpointOwnerTokenMismatch))
      .addError(onWire(Errors.EndpointNotActive))
      .addError(onWire(Errors.CorrelationIdForbidden))
      .addError(onWire(Errors.TargetEndpointIdForbidden))
      .addError(onWire(Errors.SourceEndpointIdMismatch))
      .addError(onWire(Errors.IdempotencyConflict))
      .addError(onWire(Errors.SendUnavailable))
      .addError(onWire(Errors.SendUnknown))
      .addError(onWire(Errors.SendRefused))
      .addError(onWire(Errors.StoreUnavailable))
  )
  .add(
    HttpApiEndpoint.get("undispatched", "/v1/undispatched")
      .setUrlParams(UndispatchedPage)
      .addSuccess(UndispatchedList)
      .annotate(
        OpenApi.Description,
        "The undispatched messages, in arrival order: all of them, or with `limit` so many. Where more are behind these, `next` " +
          "is the `after` of the request for them; messages may be dispatched meanwhile. A long list is written as it is read. Each message that is there from beginning to end is in " +
          "it once; one that is dispatched meanwhile may be left out, and so is one whose record is damaged. A client that " +
          "stops reading is cut off after a while; where many lists are read at once, others wait and may be refused."
      )
  )
  .add(
    HttpApiEndpoint.post("dispatch", "/v1/dispatch")
      .annotate(
        OpenApi.Description,
        "Hands an undispatched message to an endpoint; one that is reconnecting gets it when it is back. When either is unknown, the message keeps its place."
      )
      .setPayload(DispatchRequest)
      .addSuccess(Ok)
      .addError(onWire(Errors.DispatchBodyInvalid))
      .addError(onWire(Errors.DispatchFailed))
      .addError(onWire(Errors.DispatchNotAllowed))
      .addError(onWire(Errors.StoreUnavailable))
  )
  .middleware(Authorized) {}
