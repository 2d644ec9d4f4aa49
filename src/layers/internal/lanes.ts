import { Deferred, Effect, FiberId } from "effect"

/**
 * Work in order per subject: an effect waits for every earlier one that shares a subject with it, earlier being the order in
 * which the effects began. Work without a subject in common does not wait for each other.
 */
export const makeLanes = () => {
  const last = new Map<string, Deferred.Deferred<void>>()
  return (subjects: ReadonlyArray<string>) =>
    <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      subjects.length === 0
        ? work
        : Effect.uninterruptibleMask((restore) =>
            Effect.suspend(() => {
              const earlier = new Set(subjects.flatMap((subject) => last.get(subject) ?? []))
              const done = Deferred.unsafeMake<void>(FiberId.none)
              for (const subject of subjects) last.set(subject, done)
              const waited = Effect.forEach(earlier, Deferred.await, { discard: true })
              return restore(Effect.zipRight(waited, work)).pipe(
                // Whoever gives up in the queue must not let those behind pass those before.
                Effect.ensuring(
                  Effect.sync(() => {
                    for (const subject of subjects) if (last.get(subject) === done) last.delete(subject)
                    Deferred.unsafeDone(done, Effect.void)
                  })
                )
              )
            })
          )
}
