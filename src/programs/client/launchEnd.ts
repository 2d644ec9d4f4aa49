/** How a broker is made to end: it is asked; killed is only one that cannot answer, and surely is the broker. */
import { setTimeout as sleep } from "node:timers/promises"
import { type Holder, holderOf, readHolder } from "../../layers/machine/fileLock.js"
import { isAlive, startOf } from "../../layers/machine/processes.js"
import { readSecretFile } from "../../layers/machine/secretFiles.js"
import { BrokerLaunchError, notUsable } from "./launchErrors.js"
import type { Place } from "./launchPlace.js"
import { ask, type Recorded } from "./launchProbe.js"
import { isRecord } from "./wire.js"

const pollMs = 25

/** False when the process is still there after this time. */
const hasEnded = async (pid: number, start: string | undefined, withinMs: number): Promise<boolean> => {
  for (const until = Date.now() + withinMs; isAlive(pid, start); await sleep(pollMs)) {
    if (Date.now() > until) return false
  }
  return true
}

/** Asks a broker that has proved itself to make place for the next one, and waits until it has ended. */
export const askToLeave = async (
  place: Place,
  { ipcUrl, pid }: Recorded,
  version: string | undefined,
  withinMs: number
): Promise<void> => {
  const start = await startOf(pid)
  const refused = (why: string) =>
    new BrokerLaunchError({
      code: "broker_not_usable",
      message: `An older broker (${version}, process ${pid}) runs and cannot be replaced: ${why}. Stop it with "runtime-broker stop".`
    })
  const text = await readSecretFile(place.operatorFile).catch((error) => {
    throw notUsable(error)
  })
  const token = operatorToken(text)
  if (token === undefined) throw refused(`${place.operatorFile} holds no operator token`)
  const body = { restart: true }
  const answer = await ask(ipcUrl, { method: "POST", path: "/v1/operator/drain", token, body, withinMs })
  // It ended meanwhile, or it hangs: the next look tells.
  if (typeof answer === "string") return
  if (answer.status !== 200) throw refused(`it answered ${answer.status} ${JSON.stringify(answer.body)}`)
  if (!(await hasEnded(pid, start, withinMs))) throw refused("it was asked to leave and has not ended")
}

const operatorToken = (text: string | undefined): string | undefined => {
  try {
    const json: unknown = JSON.parse(text ?? "")
    return isRecord(json) && typeof json.operatorToken === "string" ? json.operatorToken : undefined
  } catch {
    return undefined
  }
}

/**
 * Kills the broker that holds the lock. Fails, and signals nobody, unless process id, start and boot are known and are those of
 * the lock at this moment.
 */
export const kill = async (place: Place, { pid }: Holder, withinMs: number): Promise<void> => {
  const leftAlone = (why: string) =>
    new BrokerLaunchError({
      code: "broker_not_usable",
      message: `The broker (process ${pid}) does not answer, and ${why}. End it, then try again.`
    })
  const running = await holderOf(pid, "")
  const recorded = await readHolder(place.lockFile)
  const isTheBroker =
    recorded?.pid === pid &&
    recorded.startedAs !== null &&
    recorded.bootId !== null &&
    recorded.startedAs === running.startedAs &&
    recorded.bootId === running.bootId
  if (!isTheBroker) throw leftAlone(`it is not certain that this process is the one of ${place.lockFile}`)
  try {
    process.kill(pid, "SIGKILL")
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") {
      throw leftAlone(`it cannot be ended (${(error as NodeJS.ErrnoException).code})`)
    }
  }
  if (!(await hasEnded(pid, recorded.startedAs ?? undefined, withinMs))) throw leftAlone("it does not end when killed")
}
