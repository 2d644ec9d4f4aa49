/** Where brokers of this user keep their files: one directory per identity. Plain TypeScript, for launchers too. */
import { createHash } from "node:crypto"
import * as os from "node:os"
import * as path from "node:path"

export type Environment = { readonly [name: string]: string | undefined }

/** The directory of all brokers of this user. `MASONS_BROKER_USER_DATA` overrides the system's place. */
export const baseDirectory = (environment: Environment): string => {
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

/** The files of one identity that others than its broker know. */
export const identityFiles = (directory: string) => ({
  /** How plugins find the broker. */
  discoveryFile: path.join(directory, "discovery.json"),
  /** The operator's token. */
  operatorFile: path.join(directory, "operator.json"),
  /** Held while a broker of this identity runs. */
  lockFile: path.join(directory, "broker.lock")
})
