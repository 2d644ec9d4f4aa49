import { Deferred, Effect, FiberId } from "effect"

/** Work under a key: whoever comes while it is under way gets its result, and does not begin it again. */
export const makeSharing = <A, E = never>() => {
  const running = new Map<string, Deferred.Deferred<A, E>>()
  return (key: string, work: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const current = running.get(key)
        if (current !== undefined) return restore(Deferred.await(current))
        // In the same turn: a fiber may be made to wait between any two of its steps.
        const result = Deferred.unsafeMake<A, E>(FiberId.none)
        running.set(key, result)
        return restore(work).pipe(
          Effect.onExit((exit) => {
            running.delete(key)
            return Deferred.done(result, exit)
          })
        )
      })
    )
}
