/** The files of a broker that does not run. */
import { existsSync, readdirSync } from "node:fs"
import * as path from "node:path"
import { Effect, Layer, Option } from "effect"
import * as InstanceLockFile from "../../layers/InstanceLockFile.js"
import * as PathsUserData from "../../layers/PathsUserData.js"
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

/**
 * Does the work of this command while no broker of the directory can start, nor another command begin. `otherwise` says what to do
 * where a broker runs.
 */
export const whileNoBrokerRuns =
  (paths: Paths["Type"], command: string, otherwise: string) =>
  <A, E>(work: Effect.Effect<A, E>): Effect.Effect<A, E | Exit> => {
    const lock = Layer.provide(InstanceLockFile.layerFor(command), Layer.succeed(Paths, paths))
    return Effect.scoped(
      Layer.build(lock).pipe(
        Effect.catchTags({
          AlreadyRunning: ({ message }) => new Exit({ code: 1, message: `${message} ${otherwise}` }),
          ToolAtWork: ({ message }) => new Exit({ code: 1, message }),
          LockError: ({ message }) => new Exit({ code: 1, message })
        }),
        Effect.zipRight(work)
      )
    )
  }
