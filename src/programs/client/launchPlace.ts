/** Where the broker of an account is found, and what belongs to starting it. */
import * as path from "node:path"
import { baseDirectory, type Environment, identityDirectory, identityFiles } from "../../layers/machine/userData.js"
import { BrokerLaunchError } from "./launchErrors.js"
import type { DiscoverOptions } from "./launchOptions.js"

/** The runtime token of brokers on the loopback network. */
export const loopback = "loopback"

export interface Place {
  /** The directory of all brokers of this user. */
  readonly base: string
  /** The directory of this identity. */
  readonly directory: string
  readonly discoveryFile: string
  readonly operatorFile: string
  /** Held by the broker. */
  readonly lockFile: string
  /** Held by whoever starts or replaces a broker. */
  readonly launchLockFile: string
  /** The start that is under way, or how it failed. */
  readonly startingFile: string
  /** What a broker that was started says before, and beside, its log. */
  readonly outputFile: string
}

/** This process's environment with what the caller adds; `undefined` takes a variable away. */
export const environmentOf = ({ env, userDataDir }: DiscoverOptions): Environment => ({
  ...process.env,
  // A debugger or a loader of the plugin is not meant for a process that outlives it.
  NODE_OPTIONS: undefined,
  ...env,
  ...(userDataDir === undefined ? {} : { MASONS_BROKER_USER_DATA: userDataDir })
})

export const placeOf = (options: DiscoverOptions): Place => {
  const { accountId, runtimeToken } = options
  for (const [name, value] of Object.entries({ accountId, runtimeToken })) {
    if (typeof value === "string" && value !== "") continue
    const message = `"${name}" must be a text that is not empty: account and token name the broker.`
    throw new BrokerLaunchError({ code: "broker_not_usable", message })
  }
  const base = baseDirectory(environmentOf(options))
  const directory = identityDirectory(base, accountId, runtimeToken)
  const files = identityFiles(directory)
  return {
    base,
    directory,
    ...files,
    launchLockFile: `${files.discoveryFile}.lock`,
    startingFile: path.join(directory, "starting.json"),
    outputFile: path.join(directory, "launch.log")
  }
}
