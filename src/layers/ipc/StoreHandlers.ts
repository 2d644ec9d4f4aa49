/** The durable store and the books, as the operator looks at them. */
import { HttpApiBuilder, type HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { Effect, Stream } from "effect"
import { IpcApi } from "../../services/ipc/IpcApi.js"
import { LedgerAudit } from "../../services/LedgerAudit.js"
import { StoreNotReadable } from "../../services/model/Errors.js"
import { StoreInspection } from "../../services/StoreInspection.js"
import { breakOff } from "./longAnswers.js"

/**
 * An answer that waits behind others of its connection gathers in memory, and nobody is told when the connection ends
 * meanwhile.
 */
const isNext = (request: HttpServerRequest.HttpServerRequest) =>
  Effect.suspend(() =>
    NodeHttpServerRequest.toServerResponse(request).socket === null
      ? new StoreNotReadable({ message: "An export takes a connection on which no other answer is awaited." })
      : Effect.void
  )

export const layer = HttpApiBuilder.group(IpcApi, "operatorStore", (handlers) =>
  Effect.gen(function* () {
    const { inspect, lines, verify } = yield* StoreInspection
    const { audit } = yield* LedgerAudit
    return handlers
      .handle("inspect", () => inspect)
      .handle("verify", () => verify)
      .handleRaw("export", ({ request }) =>
        Effect.map(Effect.zipRight(isNext(request), lines), (all) =>
          HttpServerResponse.stream(
            Stream.encodeText(Stream.onError(all, () => Effect.sync(() => breakOff(request)))),
            {
              contentType: "application/x-ndjson"
            }
          )
        )
      )
      .handle("ledger", () => audit)
  })
)
