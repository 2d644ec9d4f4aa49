/** Files under the user's application data directory, one directory per identity. */
import * as path from "node:path"
import { Effect, Layer, Redacted } from "effect"
import { Credentials } from "../services/Credentials.js"
import { Paths } from "../services/Paths.js"
import { identityDirectory, identityFiles } from "./machine/userData.js"

export { accountDirectory, baseDirectory, identityDirectory } from "./machine/userData.js"

export const layer = (base: string): Layer.Layer<Paths, never, Credentials> =>
  Layer.effect(
    Paths,
    Effect.map(Credentials, ({ accountId, runtimeToken }) => {
      const directory = identityDirectory(base, accountId, Redacted.value(runtimeToken))
      const logDirectory = path.join(base, "runtime-broker", "log")
      return {
        directory,
        ...identityFiles(directory),
        storeDirectory: path.join(directory, "store"),
        logDirectory,
        logFile: path.join(logDirectory, `broker-${process.pid}.log`)
      }
    })
  )
