/** Files under the user's application data directory, one directory per identity. */
import * as path from "node:path"
import { Effect, Layer, Redacted } from "effect"
import { Credentials } from "../services/Credentials.js"
import { Paths } from "../services/Paths.js"
import { identityDirectory, identityFiles } from "./machine/userData.js"

export { accountDirectory, baseDirectory, identityDirectory } from "./machine/userData.js"

/** The files of the identity in this directory. */
export const pathsOf = (base: string, directory: string): Paths["Type"] => {
  const logDirectory = path.join(base, "runtime-broker", "log")
  return {
    directory,
    ...identityFiles(directory),
    storeDirectory: path.join(directory, "store"),
    logDirectory,
    logFile: path.join(logDirectory, `broker-${process.pid}.log`)
  }
}

export const layer = (base: string): Layer.Layer<Paths, never, Credentials> =>
  Layer.effect(
    Paths,
    Effect.map(Credentials, ({ accountId, runtimeToken }) =>
      pathsOf(base, identityDirectory(base, accountId, Redacted.value(runtimeToken)))
    )
  )
