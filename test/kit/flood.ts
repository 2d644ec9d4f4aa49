/** Sending without the cost of `fetch`, for tests that send much. */
import { Agent, request } from "node:http"
import { Effect, type Scope } from "effect"
import type { RunningBroker } from "./broker.js"
import type { Session } from "./endToEnd.js"

/** Sends from the session over one connection, one message after the other; the answer is its status and error code. */
export const makeFlood = (
  broker: RunningBroker,
  { id, ownerToken, plugin }: Session
): Effect.Effect<
  (to: string, content: string) => Effect.Effect<{ readonly status: number; readonly error: string | undefined }>,
  never,
  Scope.Scope
> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Agent({ keepAlive: true, maxSockets: 1 })),
      (agent) => Effect.sync(() => agent.destroy())
    ),
    (agent) => (to, content) =>
      Effect.async<{ status: number; error: string | undefined }, Error>((resume) => {
        const headers = {
          authorization: `Bearer ${broker.token}`,
          "x-plugin-pid": String(plugin.pid),
          "x-endpoint-owner-token": ownerToken
        }
        const sending = request(`${broker.url}/v1/send`, { method: "POST", agent, headers }, (response) => {
          let text = ""
          response.setEncoding("utf8")
          response.on("data", (chunk) => {
            text += chunk
          })
          response.on("end", () =>
            resume(Effect.succeed({ status: response.statusCode!, error: JSON.parse(text).error }))
          )
        })
        sending.on("error", (error) => resume(Effect.fail(error)))
        sending.end(JSON.stringify({ endpoint_id: id, to, content }))
      }).pipe(Effect.orDie)
  )
