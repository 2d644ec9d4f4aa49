/** What the broker gave up on, as the operator sees and handles it. */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { DeadLetterQueue } from "../../services/DeadLetterQueue.js"
import { IpcApi } from "../../services/ipc/IpcApi.js"

export const layer = HttpApiBuilder.group(IpcApi, "operatorDead", (handlers) =>
  Effect.gen(function* () {
    const dead = yield* DeadLetterQueue
    return handlers
      .handle("list", () => Effect.sync(() => ({ items: dead.unsafeList() })))
      .handle("show", ({ path }) => dead.show(path.letter))
      .handle("retry", ({ path }) => dead.retry(path.letter))
      .handle("purge", ({ path }) => Effect.as(dead.purge(path.letter), { ok: true as const }))
      .handle("purgeAll", () => Effect.map(dead.purgeAll, (purged) => ({ purged })))
  })
)
