/**
 * Finds the broker of an account, and starts one when there is none. Of any number of callers, in any number of processes, one
 * starts it: who holds the lock beside the discovery file. The others wait and find it.
 */
import { type FileLock, fileLock, type Holder, parseHolder } from "../../layers/machine/fileLock.js"
import { isHalted } from "../../layers/machine/processes.js"
import { removeFile, secretDirectory } from "../../layers/machine/secretFiles.js"
import { askToLeave, kill } from "./launchEnd.js"
import { BrokerLaunchError, notUsable } from "./launchErrors.js"
import type { DiscoverOptions, FoundBroker } from "./launchOptions.js"
import { type Place, placeOf } from "./launchPlace.js"
import { look, lookTogether, type Sight } from "./launchSight.js"
import {
  endOfOutput,
  foundElsewhere,
  type Program,
  programOf,
  readStarting,
  type Started,
  start,
  writeStarting
} from "./launchStart.js"
import { deadline, orAborted, pause } from "./waiting.js"
import { isRecord } from "./wire.js"

export { BrokerLaunchError } from "./launchErrors.js"

/** How long things take, in milliseconds. */
export interface LaunchTimes {
  /** All of it, when the caller does not say. A slow start is not given up early: the next caller would only wait for the same. */
  readonly timeout: number
  /** How long each answer of a broker may take; up to four times as long for one that has not answered. */
  readonly probe: number
  /** How long after a look the next one follows; each time a fifth later, up to ten times as long. */
  readonly poll: number
  /** A broker that a signal has halted is replaced after so long a silence, */
  readonly halted: number
  /** any other that does not answer, after this one. */
  readonly silent: number
  /** How long a broker may take to leave, or to end when killed. */
  readonly leave: number
}

export const usualTimes: LaunchTimes = {
  timeout: 30_000,
  probe: 1_000,
  poll: 100,
  halted: 1_000,
  silent: 15_000,
  leave: 10_000
}

/** So many times a start that ended because another broker ran is repeated. */
const mostStarts = 3

/**
 * The broker of the account: found, or started. Fails with `BrokerLaunchError`, or with the signal's reason. A broker that was
 * started stays when the wait for it is given up, and the next caller waits for the same.
 */
export const findOrLaunch = (options: DiscoverOptions): Promise<FoundBroker> => findOrLaunchWithin(options, usualTimes)

/** The same at another pace. */
export const findOrLaunchWithin = async (options: DiscoverOptions, times: LaunchTimes): Promise<FoundBroker> => {
  const place = placeOf(options)
  const search = new Search(options, place, times)
  const timeoutMs = options.timeoutMs ?? times.timeout
  const limit = deadline(timeoutMs, () => search.tookTooLong(timeoutMs), options.signal)
  try {
    // What a step does with others' processes it does to its end; the caller does not wait for that.
    return await orAborted(search.run(limit.signal), limit.signal)
  } finally {
    limit.done()
  }
}

class Search {
  readonly #options: DiscoverOptions
  readonly #place: Place
  readonly #times: LaunchTimes
  readonly #began = Date.now()
  readonly #program: Program
  #lock: FileLock | undefined
  #isHeld = false
  #started: Started | undefined
  #starts = 0
  // Many who look at once are not to keep the broker from starting, or from answering.
  #patience: number
  #pause: number
  /** Which process does not answer, and since when. */
  #silence: { readonly of: number; readonly since: number } | undefined
  /** What it waits for, to complete a sentence. */
  #waitsFor = "it was not looked for yet"

  constructor(options: DiscoverOptions, place: Place, times: LaunchTimes) {
    this.#options = options
    this.#place = place
    this.#times = times
    this.#program = programOf(options, place)
    this.#patience = times.probe
    this.#pause = times.poll
  }

  async run(signal: AbortSignal): Promise<FoundBroker> {
    try {
      while (true) {
        signal.throwIfAborted()
        const step = await this.#step()
        if (typeof step === "object") return step
        // Callers that came together part.
        if (step === "again") continue
        await pause(this.#pause * (0.75 + 0.5 * Math.random()), signal)
        this.#pause = Math.min(this.#pause * 1.2, this.#times.poll * 10)
      }
    } finally {
      this.#started?.forget()
      await this.#lock?.release()
    }
  }

  tookTooLong(timeoutMs: number): Error {
    const output = this.#started === undefined ? "" : endOfOutput(this.#place)
    const message = `No usable broker within ${timeoutMs} ms: ${this.#waitsFor}.${quoted(output)}`
    return new BrokerLaunchError({ code: "broker_start_timeout", message, output: output || undefined })
  }

  async #step(): Promise<FoundBroker | "wait" | "again"> {
    const before = Date.now()
    const { acceptUnproven = false, launch = true } = this.#options
    // Who may start one must know that there is none by now.
    const sight = await (this.#isHeld ? look : lookTogether)(this.#place, { acceptUnproven, withinMs: this.#patience })
    if (sight.is === "silent") this.#patience = Math.min(this.#patience * 2, this.#times.probe * 4)
    if (sight.is === "usable" || (sight.is === "older" && !launch)) return this.#found(sight)
    if (sight.is === "unproven") throw unproven(sight.pid)
    if (!launch) {
      if (sight.is === "absent") throw absent(this.#place)
      return this.#waitFor(notReady(sight))
    }
    await this.#watchStarted()
    const deaf = await this.#deafFor(sight, before)
    if ((sight.is === "silent" || sight.is === "starting") && deaf === undefined) return this.#waitFor(notReady(sight))

    if (!this.#isHeld) {
      const holder = await this.#takeLock()
      return holder === undefined
        ? "again"
        : this.#waitFor(
            `process ${holder.pid} holds ${this.#place.launchLockFile} and has not started or replaced it yet`
          )
    }
    if (deaf !== undefined) {
      await kill(this.#place, deaf, this.#times.leave)
      return "again"
    }
    if (sight.is === "older") {
      this.#waitsFor = `an older broker (process ${sight.recorded.pid}) is leaving`
      await askToLeave(this.#place, sight.recorded, sight.version, this.#times.leave)
      return "again"
    }
    await this.#start()
    return this.#waitFor("the broker that was started is not ready")
  }

  #waitFor(what: string): "wait" {
    this.#waitsFor = what
    return "wait"
  }

  async #found({ recorded, version }: Extract<Sight, { is: "usable" | "older" }>): Promise<FoundBroker> {
    const spawned = recorded.pid === this.#started?.pid
    if (this.#started !== undefined) await removeFile(this.#place.startingFile).catch(() => undefined)
    return { ...recorded, version, spawned, discoveryFile: this.#place.discoveryFile }
  }

  /** Who else holds the lock; `undefined`: this search does, from now on. */
  async #takeLock(): Promise<Holder | undefined> {
    try {
      if (this.#lock === undefined) {
        await secretDirectory(this.#place.directory)
        this.#lock = await fileLock(this.#place.launchLockFile, { parse: launchHolder })
      }
      const holder = await this.#lock.acquire()
      this.#isHeld = holder === undefined
      if (this.#isHeld) await this.#lock.removeLeftovers()
      return holder
    } catch (error) {
      throw notUsable(error)
    }
  }

  async #start(): Promise<void> {
    if (this.#started !== undefined) return
    const { failure, at, key } = (await readStarting(this.#place)) ?? {}
    // It was tried for all who waited, and would fail for each of them in turn.
    if (failure !== undefined && key === this.#program.key && at! >= this.#began) throw new BrokerLaunchError(failure)
    if (++this.#starts > mostStarts) {
      const output = endOfOutput(this.#place)
      throw new BrokerLaunchError({
        code: "broker_start_failed",
        message: `The broker was started ${mostStarts} times and ended each time without a fault.${quoted(output)}`,
        exitCode: 0,
        output
      })
    }
    this.#started = await start(this.#program, this.#place)
  }

  /** Fails when the broker this search started has failed. */
  async #watchStarted(): Promise<void> {
    const started = this.#started
    if (started === undefined) return
    const ended = started.ended()
    // Another broker of this identity runs, or did until now.
    if (ended?.code === 0) {
      started.forget()
      this.#started = undefined
    }
    const elsewhere = ended === undefined ? foundElsewhere(this.#place) : undefined
    if (elsewhere !== undefined) return this.#fail(started, "", startedElsewhere(started.pid, elsewhere, this.#place))
    if (ended === undefined || ended.code === 0) return
    const how = ended.code === null ? `was ended by ${ended.signal}` : `ended with code ${ended.code}`
    const output = endOfOutput(this.#place)
    return this.#fail(started, output, `The broker did not start: its process ${how}.${quoted(output)}`, ended.code)
  }

  async #fail({ pid }: Started, output: string, message: string, code: number | null = null): Promise<never> {
    const failure = { code: "broker_start_failed", message, exitCode: code ?? undefined, output } as const
    const process = { version: 1, pid, startedAs: null, bootId: null, mark: "" } as const
    await writeStarting(this.#place, { process, at: Date.now(), key: this.#program.key, failure })
    throw new BrokerLaunchError(failure)
  }

  /** The broker that was silent for so long that it may be replaced. */
  async #deafFor(sight: Sight, before: number): Promise<Holder | undefined> {
    const holder = sight.is === "silent" || sight.is === "starting" ? sight.holder : undefined
    // A command is no broker: whoever halted it means to go on.
    const isTool = holder?.purpose !== undefined
    const halted = holder !== undefined && (await isHalted(holder.pid))
    if (holder === undefined || isTool || (sight.is === "starting" && !halted)) {
      this.#silence = undefined
      return undefined
    }
    if (this.#silence?.of !== holder.pid) this.#silence = { of: holder.pid, since: before }
    return Date.now() - this.#silence.since >= (halted ? this.#times.halted : this.#times.silent) ? holder : undefined
  }
}

/** What the broker said, behind a sentence. */
const quoted = (output: string): string => (output === "" ? "" : ` It said: ${output}`)

const notReady = (sight: Sight): string => {
  switch (sight.is) {
    case "silent":
      return `the broker (process ${sight.holder.pid}) does not answer`
    case "starting":
      return sight.holder?.purpose === undefined
        ? `the broker (process ${sight.pid}) runs and cannot be found yet; it is starting or leaving`
        : `\`runtime-broker ${sight.holder.purpose}\` (process ${sight.pid}) is at work on the broker's files`
    default:
      return "there is none"
  }
}

const absent = ({ discoveryFile }: Place) =>
  new BrokerLaunchError({
    code: "broker_not_found",
    message: `No broker is running (looked for ${discoveryFile}), and none was to be started.`
  })

const unproven = (pid: number) =>
  new BrokerLaunchError({
    code: "broker_not_usable",
    message:
      `Another kind of broker (process ${pid}) runs for this account and cannot prove that it knows the token. ` +
      'Stop it, or set "acceptUnproven" to send it the token all the same.'
  })

const startedElsewhere = (pid: number, elsewhere: string, { discoveryFile }: Place) =>
  `The broker that was started (process ${pid}) is not the one asked for: it can be found by ${elsewhere}, not ${discoveryFile}. ` +
  "Its credentials hold another token for this account; ask with that token, or correct the credentials."

/** Launchers of the published package are through, or have given up, long before. */
const longestForeignMs = 60_000

/** Who holds the launch lock: a launcher of this package, or of the published one, whose locks say when they were made. */
const launchHolder = (text: string): Holder | undefined => {
  const holder = parseHolder(text)
  if (holder !== undefined) return holder
  try {
    const json: unknown = JSON.parse(text)
    if (!isRecord(json) || json.version !== 1 || typeof json.pid !== "number") return undefined
    const age = Date.now() - Date.parse(String(json.startedAt))
    const isRecent = Math.abs(age) < longestForeignMs
    return isRecent ? { version: 1, pid: json.pid, startedAs: null, bootId: null, mark: "" } : undefined
  } catch {
    return undefined
  }
}
