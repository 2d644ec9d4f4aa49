/** Starting a broker, in the sight of all who may want to start one. */
import { type ChildProcess, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, constants as files, readFileSync } from "node:fs"
import { type FileHandle, open } from "node:fs/promises"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { type Holder, holderOf } from "../../layers/machine/fileLock.js"
import { readSecretFile, writeSecretFile } from "../../layers/machine/secretFiles.js"
import { BrokerLaunchError, type LaunchFailure } from "./launchErrors.js"
import type { DiscoverOptions } from "./launchOptions.js"
import { environmentOf, loopback, type Place } from "./launchPlace.js"
import { isRecord } from "./wire.js"

/** What is to be started, and with which environment. */
export interface Program {
  readonly node: string
  readonly entry: string
  readonly environment: Record<string, string>
  /** Equal for callers who would start the same. */
  readonly key: string
}

/** A broker nobody uses ends after this time, where only local sessions can use it and no setting says otherwise. */
const loopbackIdleMs = 30 * 60_000

const settingsFile = (given: Readonly<Record<string, string | undefined>>, { base }: Place) =>
  given.MASONS_BROKER_CONFIG || path.join(base, "runtime-broker", "config.json")

const saysIdleExit = (given: Readonly<Record<string, string | undefined>>, place: Place): boolean => {
  if (given.MASONS_BROKER_IDLE_EXIT_MS) return true
  try {
    return "idleExitMs" in JSON.parse(readFileSync(settingsFile(given, place), "utf8"))
  } catch {
    // None, or one the broker itself complains of.
    return false
  }
}

export const programOf = (options: DiscoverOptions, place: Place): Program => {
  const given = environmentOf(options)
  const isLoopback = options.runtimeToken === loopback
  const connector = given.MASONS_BROKER_CONNECTOR
  const all: Record<string, string | undefined> = {
    ...given,
    MASONS_BROKER_USER_DATA: place.base,
    MASONS_BROKER_ACCOUNT_ID: options.accountId,
    MASONS_BROKER_CONNECTOR: isLoopback ? loopback : !connector || connector === loopback ? "gateway" : connector
  }
  if (isLoopback && !saysIdleExit(given, place)) all.MASONS_BROKER_IDLE_EXIT_MS = String(loopbackIdleMs)
  const environment = Object.fromEntries(
    Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined)
  )
  const node = options.nodeBinary ?? process.execPath
  const entry = options.brokerEntry ?? fileURLToPath(new URL("../broker.js", import.meta.url))
  const settings = Object.entries(environment).filter(([name]) => /^(MASONS_|OPENCLAW_|HOME$)/.test(name))
  const key = createHash("sha256")
    .update(JSON.stringify([node, entry, settings.sort()]))
    .digest("hex")
  return { node, entry, environment, key }
}

/** A start that is under way, or how it failed. It is written by who holds the lock and read by all. */
export interface Starting {
  readonly process: Holder
  /** Epoch milliseconds of the start, or of the failure. */
  readonly at: number
  readonly key: string
  readonly failure?: LaunchFailure
}

/** `undefined` when there is none, or it is torn or not to be trusted. */
export const readStarting = async ({ startingFile }: Place): Promise<Starting | undefined> => {
  try {
    const json: unknown = JSON.parse((await readSecretFile(startingFile)) ?? "")
    return isRecord(json) && isRecord(json.process) && typeof json.at === "number"
      ? (json as unknown as Starting)
      : undefined
  } catch {
    return undefined
  }
}

export const writeStarting = (place: Place, starting: Starting): Promise<void> =>
  writeSecretFile(place.startingFile, JSON.stringify(starting))

/** A broker this process started. */
export interface Started {
  readonly pid: number
  /** How it ended, once it has. */
  readonly ended: () => { readonly code: number | null; readonly signal: string | null } | undefined
  /** Nobody listens for its end any more. */
  readonly forget: () => void
}

/** Starts the program as a process that outlives this one. Its output goes to a file of this user only. */
export const start = async (program: Program, place: Place): Promise<Started> => {
  const failed = (why: string) =>
    new BrokerLaunchError({ code: "broker_start_failed", message: `The broker cannot be started: ${why}.` })
  if (!existsSync(program.entry)) {
    throw failed(`its program ${program.entry} is not there; name the right one as "brokerEntry"`)
  }
  const output = await outputTo(place.outputFile).catch((error: Error) => {
    throw failed(`its output file ${place.outputFile} cannot be opened (${error.message})`)
  })
  try {
    const child = await spawned(program, output).catch((error: NodeJS.ErrnoException) => {
      throw failed(`${program.node} cannot be run (${error.code ?? error.message}); name a Node as "nodeBinary"`)
    })
    let ended: ReturnType<Started["ended"]>
    const onExit = (code: number | null, signal: string | null) => {
      ended = { code, signal }
    }
    child.on("exit", onExit)
    if (child.exitCode !== null || child.signalCode !== null) onExit(child.exitCode, child.signalCode)
    child.unref()
    const pid = child.pid!
    await writeStarting(place, { process: await holderOf(pid, ""), at: Date.now(), key: program.key })
    return { pid, ended: () => ended, forget: () => child.off("exit", onExit) }
  } finally {
    await output.close()
  }
}

const spawned = ({ entry, environment, node }: Program, { fd }: FileHandle): Promise<ChildProcess> =>
  new Promise((resolve, reject) => {
    const child = spawn(node, [entry], {
      detached: true,
      env: environment,
      stdio: ["ignore", fd, fd],
      windowsHide: true
    })
    // Stays on: an error nobody hears ends the plugin.
    child.on("error", reject)
    child.once("spawn", () => resolve(child))
  })

const outputTo = async (file: string): Promise<FileHandle> => {
  const { O_APPEND, O_CREAT, O_NOFOLLOW = 0, O_NONBLOCK = 0, O_TRUNC, O_WRONLY } = files
  const handle = await open(file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0o600)
  await handle.chmod(0o600)
  return handle
}

/** How much of the output an error shows. */
const shown = 2_000

/** The end of what the broker wrote. */
export const endOfOutput = (place: Place): string => outputOf(place).trim().slice(-shown)

/** The discovery file the broker said it can be found by, when it is not that of the place. */
export const foundElsewhere = (place: Place): string | undefined => {
  for (const line of outputOf(place).split("\n")) {
    if (!line.startsWith('{"event":"broker_ready"')) continue
    try {
      const { discoveryFile } = JSON.parse(line)
      if (typeof discoveryFile === "string" && discoveryFile !== place.discoveryFile) return discoveryFile
    } catch {
      // Half of it is written.
    }
  }
  return undefined
}

const outputOf = ({ outputFile }: Place): string => {
  try {
    return readFileSync(outputFile, "utf8")
  } catch {
    return ""
  }
}
