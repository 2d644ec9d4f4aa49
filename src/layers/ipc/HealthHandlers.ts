/** Health, handshake, proof and the OpenAPI document. */
import { HttpApiBuilder, HttpServerRequest, HttpServerResponse, OpenApi } from "@effect/platform"
import { Effect, Redacted } from "effect"
import { IpcTokens } from "../../services/IpcTokens.js"
import { capabilities, protocolVersion, serverVersion } from "../../services/ipc/Capabilities.js"
import { IpcApi } from "../../services/ipc/IpcApi.js"
import { ProtocolVersionMismatch } from "../../services/model/Errors.js"
import { version } from "../../services/model/Version.js"
import { Presence } from "../../services/Presence.js"
import { mintUuid } from "../internal/minting.js"
import { proofOf } from "../machine/proof.js"
import { contentType } from "./refusals.js"
import { roleOf } from "./requests.js"

const major = (text: string) => text.split(".", 1)[0]

export const layer = HttpApiBuilder.group(IpcApi, "health", (handlers) =>
  Effect.gen(function* () {
    const presence = yield* Presence
    const tokens = yield* IpcTokens
    // Costs what a tenth of the whole start does; all answers share its bytes.
    const document = yield* Effect.cached(
      Effect.sync(() => new TextEncoder().encode(JSON.stringify(OpenApi.fromApi(IpcApi))))
    )
    const about = { version: serverVersion(version), protocol_version: protocolVersion, capabilities }

    return handlers
      .handle("health", ({ request }) =>
        Effect.succeed(roleOf(request) === undefined ? { ok: true as const } : { ok: true as const, ...about })
      )
      .handleRaw("openapi", () =>
        Effect.map(document, (bytes) => HttpServerResponse.uint8Array(bytes, { contentType }))
      )
      .handle("proof", ({ urlParams }) =>
        Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
          const port = (request.source as { socket: { localPort: number } }).socket.localPort
          return { proof: proofOf(Redacted.value(tokens.plugin), port, urlParams.nonce) }
        })
      )
      .handle("initialize", ({ payload }) => {
        const theirs = major(payload.client_protocol_version)
        return theirs === major(protocolVersion)
          ? Effect.succeed({
              server_protocol_version: protocolVersion,
              server_version: serverVersion(version),
              server_capabilities: capabilities,
              network_presence: presence.unsafeCurrent(),
              session_id: mintUuid()
            })
          : new ProtocolVersionMismatch({
              message: `The client speaks protocol ${theirs} and the broker protocol ${major(protocolVersion)}.`
            })
      })
  })
)
