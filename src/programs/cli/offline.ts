/** The files of a broker that does not run. */
import { existsSync, readdirSync } from "node:fs"
import * as path from "node:path"
import { Console, Effect, Layer, Option } from "effect"
import * as InstanceLockFile from "../../layers/InstanceLockFile.js"
import { isHolderAlive } from "../../layers/machine/fileLock.js"
import * as PathsUserData from "../../layers/PathsUserData.js"
import type { AlreadyRunning, ToolAtWork } from "../../services/InstanceLock.js"
import { Paths } from "../../services/Paths.js"
import { Exit } from "./exit.js"

const { accountDirectory, baseDirectory } = PathsUserData

export interface WhichBroker {
  readonly account: string
  readonly directory: Option.Option<string>
}

/** Where the broker of a directory keeps its files. */
export const pathsOf = (directory: string): Paths["Type"] =>
  PathsUserData.pathsOf(baseDirectory(process.env), directory)

/** The directories the options may mean: that which is named, or those of the account. */
export const directoriesOf = ({ account, directory }: WhichBroker): ReadonlyArray<string> => {
  if (Option.isSome(directory)) return existsSync(directory.value) ? [path.resolve(directory.value)] : []
  const all = accountDirectory(baseDirectory(process.env), account)
  if (!existsSync(all)) return []
  return readdirSync(all, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => path.join(all, name))
}

/** The one directory with a store that the options mean. */
export const storeOf = (options: WhichBroker): Effect.Effect<Paths["Type"], Exit> =>
  Effect.suspend(() => {
    const found = directoriesOf(options)
      .map(pathsOf)
      .filter(({ storeDirectory }) => existsSync(storeDirectory))
    if (found.length === 1) return Effect.succeed(found[0]!)
    const where = Option.getOrElse(options.directory, () =>
      accountDirectory(baseDirectory(process.env), options.account)
    )
    return new Exit({
      code: 1,
      message:
        found.length === 0
          ? `There is no store (looked in ${where}).`
          : `There are several stores: ${found.map(({ directory }) => directory).join(", ")}. Name one with --directory.`
    })
  })

/** A command that works on the files itself. */
export interface Task {
  /** As it is typed behind `runtime-broker`. */
  readonly command: string
  /** What to do where a broker runs. */
  readonly otherwise: string
  /** It changes nothing: where nothing can be written, it goes on without the lock and says so. */
  readonly isReader?: boolean
}

/** Does the work of this command while no broker of the directory can start, nor another command begin. */
export const whileNoBrokerRuns =
  (paths: Paths["Type"], { command, isReader = false, otherwise }: Task) =>
  <A, E>(work: Effect.Effect<A, E>): Effect.Effect<A, E | Exit> => {
    const lock = Layer.provide(InstanceLockFile.layerFor(command), Layer.succeed(Paths, paths))
    const refused = (error: AlreadyRunning | ToolAtWork) =>
      new Exit({
        code: 1,
        message: error._tag === "AlreadyRunning" ? `${error.message} ${otherwise}` : error.message
      })
    return Effect.scoped(
      Layer.build(lock).pipe(
        Effect.asVoid,
        Effect.catchTag("LockError", (error) =>
          isReader && cannotWrite.has(error.code ?? "")
            ? Effect.zipRight(nobodyHolds(paths), Console.error(`${error.message} ${without}`))
            : new Exit({ code: 1, message: error.message })
        ),
        Effect.catchTags({ AlreadyRunning: refused, ToolAtWork: refused }),
        Effect.zipRight(work)
      )
    )
  }

const cannotWrite: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EROFS", "EACCES"])
const without = "The files are read all the same; what is said of them is wrong if a broker starts meanwhile."

/** Fails when a living process has the lock. */
const nobodyHolds = ({ lockFile }: Paths["Type"]) =>
  Effect.gen(function* () {
    const holder = yield* Effect.mapError(InstanceLockFile.readHolder(lockFile), failedToRead)
    if (Option.isNone(holder)) return
    if (yield* Effect.promise(() => isHolderAlive(holder.value))) {
      return yield* InstanceLockFile.heldBy(holder.value, lockFile)
    }
  })

const failedToRead = ({ message }: { readonly message: string }) => new Exit({ code: 1, message })
