/** Do lock and discovery file agree with a process that lives? */
import { Effect, Either, Option } from "effect"
import { parseDiscovery } from "../../../layers/DiscoveryFile.js"
import { readHolder } from "../../../layers/InstanceLockFile.js"
import { isHolderAlive } from "../../../layers/machine/fileLock.js"
import { processExists } from "../../../layers/machine/processes.js"
import { readSecretFile } from "../../../layers/machine/secretFiles.js"
import type { Paths } from "../../../services/Paths.js"
import { type Check, ok, problem, warning } from "./check.js"

export interface Life {
  readonly checks: ReadonlyArray<Check>
  /** The broker that holds the lock, and lives. */
  readonly pid: number | undefined
}

export const checkLife = ({ discoveryFile, lockFile }: Paths["Type"]): Effect.Effect<Life> =>
  Effect.gen(function* () {
    const lock = yield* Effect.either(readHolder(lockFile))
    if (Either.isLeft(lock)) return { checks: [problem("lock", lock.left.message)], pid: undefined }
    const published = yield* Effect.promise(() =>
      readSecretFile(discoveryFile).then(
        (text) => ({ text }),
        (error: Error) => ({ error })
      )
    )
    if ("error" in published) return { checks: [problem("discovery", published.error.message)], pid: undefined }

    const holder = Option.getOrUndefined(lock.right)
    const isAlive = holder !== undefined && (yield* Effect.promise(() => isHolderAlive(holder)))
    const discovery = Option.getOrUndefined(parseDiscovery(published.text))
    if (holder === undefined || !isAlive) {
      return { checks: withoutBroker(lockFile, holder?.pid, discoveryFile, discovery?.pid), pid: undefined }
    }
    const { pid, purpose } = holder
    // Whoever needs the lock next says which command has it.
    if (purpose !== undefined) return { checks: [], pid: undefined }
    if (discovery === undefined) {
      const message = `Process ${pid} holds the lock ${lockFile} and is not published in ${discoveryFile}: it is starting or leaving.`
      return { checks: [warning("discovery", message)], pid }
    }
    if (discovery.pid !== pid) {
      const message = `${discoveryFile} names process ${discovery.pid}, and process ${pid} holds the lock; stop both and start one.`
      return { checks: [problem("discovery", message)], pid }
    }
    return { checks: [ok("process", `Process ${pid} holds the lock and is published.`)], pid }
  })

const withoutBroker = (
  lockFile: string,
  lockPid: number | undefined,
  discoveryFile: string,
  discoveryPid: number | undefined
): ReadonlyArray<Check> => {
  const checks: Array<Check> = []
  if (lockPid !== undefined) {
    const message = `The lock ${lockFile} is of process ${lockPid}, which is gone; the next broker takes it over.`
    checks.push(warning("lock", message))
  }
  if (discoveryPid !== undefined && processExists(discoveryPid)) {
    const message = `${discoveryFile} names process ${discoveryPid}, which lives and does not hold the lock; remove the file.`
    checks.push(problem("discovery", message))
  } else if (discoveryPid !== undefined) {
    const message = `${discoveryFile} is of process ${discoveryPid}, which is gone; the next broker replaces it.`
    checks.push(warning("discovery", message))
  }
  return checks.length > 0 ? checks : [ok("process", "No broker runs, and none has left anything behind.")]
}
