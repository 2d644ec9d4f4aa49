/** The durable store and the books, as an operator looks at them. These routes take the operator token only. */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { OperatorOnly, onWire, StoreNotReadable, StoreUnavailable } from "../model/Errors.js"
import { optional } from "../model/Json.js"
import { Authorized } from "./Auth.js"
import { Books } from "./OperatorGroup.js"

const Count = Schema.Number
const CountByTable = Schema.Record({ key: Schema.String, value: Count })

/** What a store holds. */
export const Inspection = Schema.Struct({
  directory: Schema.String,
  file_bytes: Count,
  /** Of the file, what holds nothing. */
  free_bytes: Count,
  /** Sound ones. */
  records: Count,
  tables: Schema.Record({
    key: Schema.String,
    value: Schema.Struct({
      records: Count,
      /** Of keys and values. */
      bytes: Count,
      /** How many there are of each version. */
      versions: Schema.Record({ key: Schema.String, value: Count })
    })
  }),
  /** Records that fail their checksum, by table. */
  damaged: CountByTable,
  /** Stores that were found damaged and are kept beside this one. */
  damaged_copies: Schema.Array(Schema.String),
  /** Where the bytes of damaged records are kept. */
  set_aside_file: optional(Schema.String)
})
export type Inspection = typeof Inspection.Type

/** Whether everything in a store is as it was written. */
export const Verification = Schema.Struct({
  directory: Schema.String,
  sound: Schema.Boolean,
  /** `records`: each record against its checksum. `file`: and the file's own structure, for which it must be closed. */
  checked: Schema.Literal("file", "records"),
  records: Count,
  damaged: CountByTable,
  /** In sentences. */
  problems: Schema.Array(Schema.String)
})
export type Verification = typeof Verification.Type

/** The books of the running broker beside the records of its store. */
export const Audit = Schema.Struct({
  /** False: the broker was never still; differences may be what was on its way. */
  settled: Schema.Boolean,
  books: Books,
  dead_letters: Count,
  /** Records of messages in the store. */
  stored: Schema.Struct({ held: Count, inbox: Count, dead_letters: Count }),
  /** Mail of each endpoint: as the broker counts it, and records. */
  endpoints: Schema.Array(Schema.Struct({ endpoint_id: Schema.String, held: Count, stored: Count })),
  /** What does not agree, in sentences. */
  problems: Schema.Array(Schema.String)
})
export type Audit = typeof Audit.Type

export class StoreGroup extends HttpApiGroup.make("operatorStore")
  .add(
    HttpApiEndpoint.get("inspect", "/v1/operator/store")
      .addSuccess(Inspection)
      .addError(onWire(StoreNotReadable))
      .addError(onWire(OperatorOnly))
      .annotate(OpenApi.Description, "What the durable store holds.")
  )
  .add(
    HttpApiEndpoint.post("verify", "/v1/operator/store/verify")
      .addSuccess(Verification)
      .addError(onWire(StoreNotReadable))
      .addError(onWire(OperatorOnly))
      .annotate(OpenApi.Description, "Reads every record of the durable store and checks it.")
  )
  .add(
    HttpApiEndpoint.get("export", "/v1/operator/store/export")
      .addSuccess(HttpApiSchema.Text({ contentType: "application/x-ndjson" }))
      .addError(onWire(StoreNotReadable))
      .addError(onWire(OperatorOnly))
      .annotate(
        OpenApi.Description,
        'Every sound record of this moment, a line of JSON each: `{"table", "key", "version", "value"}`. Holds the content of ' +
          "messages and the tokens of endpoints. An export that breaks off ends the connection."
      )
  )
  .add(
    HttpApiEndpoint.get("ledger", "/v1/operator/ledger")
      .addSuccess(Audit)
      .addError(onWire(StoreUnavailable))
      .addError(onWire(OperatorOnly))
      .annotate(OpenApi.Description, "The books, and whether the records of the store agree with them.")
  )
  .middleware(Authorized) {}
