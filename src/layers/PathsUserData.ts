/** Files under the user's application data directory, one directory per identity. */
import { createHash } from "node:crypto"
import * as os from "node:os"
import * as path from "node:path"
import { Effect, Layer, Redacted } from "effect"
import { Credentials } from "../services/Credentials.js"
import { Paths } from "../services/Paths.js"

/** The directory of all brokers of this user. `MASONS_BROKER_USER_DATA` overrides the system's place. */
export const baseDirectory = (environment: { readonly [name: string]: string | undefined }): string => {
  const { LOCALAPPDATA, MASONS_BROKER_USER_DATA, XDG_DATA_HOME } = environment
  if (MASONS_BROKER_USER_DATA) return path.resolve(MASONS_BROKER_USER_DATA)
  const name = "masons-runtime-broker"
  const home = os.homedir()
  switch (process.platform) {
    case "darwin":
      return path.join(home, "Library", "Application Support", name)
    case "win32":
      return path.join(LOCALAPPDATA || path.join(home, "AppData", "Local"), name, "Data")
    default:
      return path.join(XDG_DATA_HOME || path.join(home, ".local", "share"), name)
  }
}

/** The directory of all identities of an account. */
export const accountDirectory = (base: string, accountId: string): string =>
  path.join(base, "runtime-broker", accountId.replace(/[^A-Za-z0-9._-]/g, "_"))

/** The directory of one identity. Clients of the published package derive the same. */
export const identityDirectory = (base: string, accountId: string, runtimeToken: string): string =>
  path.join(
    accountDirectory(base, accountId),
    createHash("sha256").update(runtimeToken, "utf8").digest("hex").slice(0, 16)
  )

export const layer = (base: string): Layer.Layer<Paths, never, Credentials> =>
  Layer.effect(
    Paths,
    Effect.map(Credentials, ({ accountId, runtimeToken }) => {
      const directory = identityDirectory(base, accountId, Redacted.value(runtimeToken))
      const logDirectory = path.join(base, "runtime-broker", "log")
      return {
        directory,
        discoveryFile: path.join(directory, "discovery.json"),
        operatorFile: path.join(directory, "operator.json"),
        lockFile: path.join(directory, "broker.lock"),
        storeDirectory: path.join(directory, "store"),
        logDirectory,
        logFile: path.join(logDirectory, `broker-${process.pid}.log`)
      }
    })
  )
