/** One broker per identity by a lock file that names its holder (`machine/fileLock`). */
import { Effect, Layer, Option, Schedule } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { AlreadyRunning, InstanceLock, LockError, ToolAtWork } from "../services/InstanceLock.js"
import { Paths } from "../services/Paths.js"
import { readSecretFile, type SecretFileError, secretDirectory } from "./internal/secretFile.js"
import { fileLock, type Holder, type Processes, parseHolder, thisMachine } from "./machine/fileLock.js"

/** The holder of the lock at `file`, if it is a whole one. */
export const readHolder = (file: string): Effect.Effect<Option.Option<Holder>, SecretFileError> =>
  Effect.map(readSecretFile(file), (text) => Option.fromNullable(text === undefined ? undefined : parseHolder(text)))

export interface LockUse {
  /** The command that takes it, as it is typed behind `runtime-broker`; none is a broker. */
  readonly purpose?: string
  /** How long a command that has it is waited for, in milliseconds; a broker is not. */
  readonly waitMs?: number
}

/** Why nobody else may have the lock that this one holds. */
export const heldBy = ({ pid, purpose }: Holder, lockFile: string): AlreadyRunning | ToolAtWork =>
  purpose === undefined ? new AlreadyRunning({ pid, lockFile }) : new ToolAtWork({ pid, lockFile, purpose })

type NotTaken = AlreadyRunning | ToolAtWork | LockError
const pollMs = 100

/** The lock, among these processes. */
export const layerAmong = (
  processes: Processes,
  { purpose, waitMs = 0 }: LockUse = {}
): Layer.Layer<InstanceLock, NotTaken, Paths> =>
  Layer.scoped(
    InstanceLock,
    Effect.gen(function* () {
      const { directory, lockFile } = yield* Paths
      const failed = (why: string, code?: string) =>
        new LockError({ message: `The lock ${lockFile} cannot be taken: ${why}`, code })
      const attempt = <A>(work: () => Promise<A>) =>
        Effect.tryPromise({
          try: work,
          catch: (error) => failed(`${(error as Error).message}.`, (error as NodeJS.ErrnoException).code)
        })

      const lock = yield* Effect.acquireRelease(
        attempt(() => fileLock(lockFile, { processes, purpose })),
        ({ release }) => Effect.promise(release)
      )
      const take = Effect.gen(function* () {
        yield* Effect.mapError(secretDirectory(directory), ({ message }) => failed(message))
        // Only what was taken can be given back.
        const holder = yield* Effect.uninterruptible(attempt(lock.acquire))
        if (holder === undefined) return
        return yield* heldBy(holder, lockFile)
      })
      yield* Effect.retry(take, {
        while: ({ _tag }) => _tag === "ToolAtWork",
        schedule: Schedule.spaced(pollMs),
        times: Math.ceil(waitMs / pollMs)
      })
      yield* Effect.promise(lock.removeLeftovers)
      return {
        lockFile,
        renew: Effect.flatMap(attempt(lock.isHeld), (isHeld) =>
          isHeld ? Effect.succeed(false) : Effect.as(take, true)
        )
      }
    })
  )

/** That of a broker. */
export const layer: Layer.Layer<InstanceLock, NotTaken, Paths | BrokerConfig> = Layer.unwrapEffect(
  Effect.map(BrokerConfig, ({ lockWaitMs }) => layerAmong(thisMachine, { waitMs: lockWaitMs }))
)

/** That of a command, which waits for nobody. */
export const layerFor = (purpose: string): Layer.Layer<InstanceLock, NotTaken, Paths> =>
  layerAmong(thisMachine, { purpose })
