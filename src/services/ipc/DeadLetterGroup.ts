/** What the broker gave up on: messages and platform reports. These routes take the operator token only. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { DeadLetterNotRetryable, DeadLetterUnknown, OperatorOnly, onWire, StoreUnavailable } from "../model/Errors.js"
import { optional } from "../model/Json.js"
import { PlatformReport } from "../model/PlatformReport.js"
import { Authorized } from "./Auth.js"
import { Metadata, Ok } from "./Fields.js"

/** ISO time. */
const Time = Schema.String

const DeadMessage = {
  id: Schema.String,
  kind: Schema.Literal("message"),
  /** When it was given up. */
  at: Time,
  /** Of one that is `too_large` only the beginning of the content is kept. */
  reason: Schema.Literal("delivery_limit", "too_large", "too_deep"),
  /** The endpoint it was for; absent when it never had one. */
  endpoint_id: optional(Schema.String),
  from: Schema.String,
  message_id: Schema.String,
  /** The size of the frame it came in. */
  bytes: Schema.Number
}

const DeadReport = {
  id: Schema.String,
  kind: Schema.Literal("report"),
  /** When the platform refused it. */
  at: Time,
  /** What the platform said. */
  reason: Schema.String,
  report: Schema.String,
  /** What it is about: reports of one lane are posted one after the other. */
  lane: Schema.String
}

/** One line of the list: whose it is and why it is dead, and nothing of its content. */
export const DeadSummary = Schema.Union(Schema.Struct(DeadMessage), Schema.Struct(DeadReport))
export type DeadSummary = typeof DeadSummary.Type

/** One of them, whole. */
export const DeadEntry = Schema.Union(
  Schema.Struct({
    ...DeadMessage,
    content: Schema.String,
    content_type: Schema.String,
    metadata: Metadata,
    arrived_at: Time
  }),
  Schema.Struct({ ...DeadReport, content: PlatformReport })
)
export type DeadEntry = typeof DeadEntry.Type

export const DeadRetried = Schema.Struct({
  id: Schema.String,
  to: Schema.Literal("mailbox", "inbox", "outbox"),
  /** With `mailbox`. */
  endpoint_id: optional(Schema.String)
})
export type DeadRetried = typeof DeadRetried.Type

const Letter = Schema.Struct({ letter: Schema.String })

export class DeadLetterGroup extends HttpApiGroup.make("operatorDead")
  .add(
    HttpApiEndpoint.get("list", "/v1/operator/dead")
      .addSuccess(Schema.Struct({ items: Schema.Array(DeadSummary) }))
      .addError(onWire(OperatorOnly))
      .annotate(OpenApi.Description, "Messages and platform reports that were given up, the oldest first.")
  )
  .add(
    HttpApiEndpoint.get("show", "/v1/operator/dead/:letter")
      .setPath(Letter)
      .addSuccess(DeadEntry)
      .addError(onWire(DeadLetterUnknown))
      .addError(onWire(OperatorOnly))
      .annotate(OpenApi.Description, "One of them with its content.")
  )
  .add(
    HttpApiEndpoint.post("retry", "/v1/operator/dead/:letter/retry")
      .setPath(Letter)
      .addSuccess(DeadRetried)
      .addError(onWire(DeadLetterUnknown))
      .addError(onWire(DeadLetterNotRetryable))
      .addError(onWire(StoreUnavailable))
      .addError(onWire(OperatorOnly))
      .annotate(
        OpenApi.Description,
        "Delivers the message again, or owes the report again. Answers when that is durable."
      )
  )
  .add(
    HttpApiEndpoint.del("purge", "/v1/operator/dead/:letter")
      .setPath(Letter)
      .addSuccess(Ok)
      .addError(onWire(DeadLetterUnknown))
      .addError(onWire(StoreUnavailable))
      .addError(onWire(OperatorOnly))
      .annotate(OpenApi.Description, "Deletes it for good.")
  )
  .add(
    HttpApiEndpoint.del("purgeAll", "/v1/operator/dead")
      .addSuccess(Schema.Struct({ purged: Schema.Number }))
      .addError(onWire(StoreUnavailable))
      .addError(onWire(OperatorOnly))
      .annotate(OpenApi.Description, "Deletes all of them for good.")
  )
  .middleware(Authorized) {}
