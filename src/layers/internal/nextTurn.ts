import { Effect } from "effect"

/** Lets everything else have its turn, sockets too: a yield of Effect's does not always. */
export const nextTurn: Effect.Effect<void> = Effect.async<void>((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})
