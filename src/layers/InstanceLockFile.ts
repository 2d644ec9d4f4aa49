/** One broker per identity by a lock file that names its holder (`machine/fileLock`). */
import { Effect, Layer, Option } from "effect"
import { AlreadyRunning, InstanceLock, LockError } from "../services/InstanceLock.js"
import { Paths } from "../services/Paths.js"
import { readSecretFile, type SecretFileError, secretDirectory } from "./internal/secretFile.js"
import { fileLock, type Holder, type Processes, parseHolder, thisMachine } from "./machine/fileLock.js"

/** The holder of the lock at `file`, if it is a whole one. */
export const readHolder = (file: string): Effect.Effect<Option.Option<Holder>, SecretFileError> =>
  Effect.map(readSecretFile(file), (text) => Option.fromNullable(text === undefined ? undefined : parseHolder(text)))

/** The lock, among these processes. */
export const layerAmong = (processes: Processes): Layer.Layer<InstanceLock, AlreadyRunning | LockError, Paths> =>
  Layer.scoped(
    InstanceLock,
    Effect.gen(function* () {
      const { directory, lockFile } = yield* Paths
      const failed = (why: string) => new LockError({ message: `The lock ${lockFile} cannot be taken: ${why}` })
      const attempt = <A>(work: () => Promise<A>) =>
        Effect.tryPromise({ try: work, catch: (error) => failed(`${(error as Error).message}.`) })

      const lock = yield* Effect.acquireRelease(
        attempt(() => fileLock(lockFile, { processes })),
        ({ release }) => Effect.promise(release)
      )
      const take = Effect.gen(function* () {
        yield* Effect.mapError(secretDirectory(directory), ({ message }) => failed(message))
        // Only what was taken can be given back.
        const holder = yield* Effect.uninterruptible(attempt(lock.acquire))
        if (holder !== undefined) return yield* new AlreadyRunning({ pid: holder.pid, lockFile })
      })
      yield* take
      yield* Effect.promise(lock.removeLeftovers)
      return {
        lockFile,
        renew: Effect.flatMap(attempt(lock.isHeld), (isHeld) =>
          isHeld ? Effect.succeed(false) : Effect.as(take, true)
        )
      }
    })
  )

export const layer = layerAmong(thisMachine)
