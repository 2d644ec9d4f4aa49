/** Is a broker there, which one, and is it ours? */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { onWire, ProtocolVersionMismatch } from "../model/Errors.js"
import { absentable, optional } from "../model/Json.js"
import { Authorized } from "./Auth.js"
import { NonEmpty } from "./Fields.js"

const CapabilityMap = Schema.Record({ key: Schema.String, value: Schema.Boolean })

/** Without a token only `ok`; with one, everything. */
export const Health = Schema.Struct({
  ok: Schema.Literal(true),
  version: optional(Schema.String),
  protocol_version: optional(Schema.String),
  capabilities: optional(CapabilityMap)
})

export const InitializeRequest = Schema.Struct({
  /** `major.minor`; the major must be the broker's. */
  client_protocol_version: Schema.String,
  client_kind: NonEmpty,
  client_version: absentable(Schema.String),
  capabilities: absentable(Schema.Unknown)
})

export const Initialized = Schema.Struct({
  server_protocol_version: Schema.String,
  server_version: Schema.String,
  server_capabilities: CapabilityMap,
  network_presence: Schema.Literal("online", "reconnecting", "offline"),
  /** Informational; a new one for each call. */
  session_id: Schema.String
})

/** 16 to 64 random bytes, in hex. */
export const Nonce = Schema.String.pipe(
  Schema.pattern(/^[0-9a-fA-F]{32,128}$/),
  Schema.annotations({ identifier: "Nonce", description: "32 to 128 hex digits" })
)

export const Proof = Schema.Struct({
  /** HMAC-SHA256, keyed with the plugin token, over `"runtime-broker\n" + port + "\n" + nonce`; lower-case hex. */
  proof: Schema.String
})

export class HealthGroup extends HttpApiGroup.make("health")
  .add(
    HttpApiEndpoint.get("health", "/health")
      .addSuccess(Health)
      .annotate(OpenApi.Description, "Says that a broker is there. Without a token that is all it says.")
  )
  .add(
    HttpApiEndpoint.get("openapi", "/openapi.json")
      .addSuccess(Schema.Unknown)
      .middleware(Authorized)
      .annotate(OpenApi.Description, "This document.")
  )
  .add(
    HttpApiEndpoint.get("proof", "/v1/proof")
      .annotate(
        OpenApi.Description,
        "Proves that the broker knows the plugin token, so that a client can be sure of it before it sends its own. Takes no token."
      )
      .setUrlParams(Schema.Struct({ nonce: Nonce }))
      .addSuccess(Proof)
  )
  .add(
    HttpApiEndpoint.post("initialize", "/v1/initialize")
      .annotate(
        OpenApi.Description,
        "The handshake: versions, capabilities, presence. Has no effect, and may be left out."
      )
      .setPayload(InitializeRequest)
      .addSuccess(Initialized)
      .addError(onWire(ProtocolVersionMismatch))
      .middleware(Authorized)
  ) {}
