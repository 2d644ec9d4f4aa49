/** What an operator sees and does. */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { BrokerStatus } from "../../services/BrokerStatus.js"
import { IpcApi } from "../../services/ipc/IpcApi.js"
import { Shutdown } from "../../services/Shutdown.js"

export const layer = HttpApiBuilder.group(IpcApi, "operator", (handlers) =>
  Effect.gen(function* () {
    const status = yield* BrokerStatus
    const shutdown = yield* Shutdown
    return handlers
      .handle("status", () => Effect.sync(status.unsafeStatus))
      .handle("stop", () => Effect.as(shutdown.request("operator"), { ok: true as const }))
      .handle("drain", ({ payload }) =>
        Effect.as(shutdown.request(payload.restart ? "restart" : "operator"), { ok: true as const })
      )
  })
)
