/** What there is of the broker of a place, at this moment. */
import { type Holder, isHolderAlive, readHolder } from "../../layers/machine/fileLock.js"
import { isHalted, processExists } from "../../layers/machine/processes.js"
import { readSecretFile } from "../../layers/machine/secretFiles.js"
import { version } from "../../services/model/Version.js"
import { notUsable } from "./launchErrors.js"
import type { Place } from "./launchPlace.js"
import { isOlder, type Listener, type ProbeOptions, parseRecorded, probe, type Recorded } from "./launchProbe.js"
import { readStarting } from "./launchStart.js"

export type Sight =
  | { readonly is: "usable" | "older"; readonly recorded: Recorded; readonly version: string | undefined }
  /** A broker that cannot prove to know the token, and was not to be accepted. */
  | { readonly is: "unproven"; readonly pid: number }
  /** A broker runs, is found by its discovery file, and does not answer. */
  | { readonly is: "silent"; readonly holder: Holder }
  /** A broker runs that is not to be found yet, or not any more. `holder` when it has its lock. */
  | { readonly is: "starting"; readonly pid: number; readonly holder?: Holder }
  | { readonly is: "absent" }

/** Fails when a file is there that must not be trusted. */
export const look = async (place: Place, options: ProbeOptions): Promise<Sight> => {
  const recorded = parseRecorded((await secret(readSecretFile(place.discoveryFile))) ?? "")
  const listener = recorded === undefined ? undefined : await listenerOf(recorded, options)
  if (recorded !== undefined && listener?.is === "broker") {
    const is = listener.isProven && isOlder(listener.version, version) ? "older" : "usable"
    return { is, recorded, version: listener.version }
  }
  const holder = await secret(readHolder(place.lockFile))
  if (holder !== undefined && (await isHolderAlive(holder))) {
    return listener?.is === "silent" && holder.pid === recorded?.pid
      ? { is: "silent", holder }
      : { is: "starting", pid: holder.pid, holder }
  }
  const starting = await readStarting(place)
  if (starting !== undefined && starting.failure === undefined && (await isHolderAlive(starting.process))) {
    return { is: "starting", pid: starting.process.pid }
  }
  return recorded !== undefined && listener?.is === "unproven" && processExists(recorded.pid)
    ? { is: "unproven", pid: recorded.pid }
    : { is: "absent" }
}

const looks = new Map<string, Promise<Sight>>()

/** The same for all callers of this process that look at once. What it says may be of the moment before. */
export const lookTogether = (place: Place, options: ProbeOptions): Promise<Sight> => {
  const key = `${place.directory} ${options.acceptUnproven}`
  const known = looks.get(key)
  if (known !== undefined) return known
  const looking = look(place, options).finally(() => looks.delete(key))
  looks.set(key, looking)
  return looking
}

/** A halted process is not waited for: it cannot answer. */
const listenerOf = async (recorded: Recorded, options: ProbeOptions): Promise<Listener> =>
  (await isHalted(recorded.pid)) ? { is: "silent" } : probe(recorded, options)

const secret = <A>(read: Promise<A>): Promise<A> =>
  read.catch((error) => {
    throw notUsable(error)
  })
