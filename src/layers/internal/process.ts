/** What the operating system says of processes (`machine/processes`), as effects. */
import { Effect } from "effect"
import * as processes from "../machine/processes.js"

export { isAlive, processExists, quickStartOf } from "../machine/processes.js"

/** Start time of a process in the words of its system; `undefined` when it is not there or the system does not tell. */
export const startOf = (pid: number): Effect.Effect<string | undefined> =>
  process.platform === "linux"
    ? Effect.sync(() => processes.quickStartOf(pid))
    : Effect.promise(() => processes.startOf(pid))

/** What tells this boot of the machine from the others; `undefined` where the system does not tell. */
export const bootId: Effect.Effect<string | undefined> = Effect.promise(processes.bootId)
