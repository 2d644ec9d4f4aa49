/** Are the processes of plugins alive? */

import type { Effect } from "effect"
import { Context } from "effect"

/** When a process started, as its system tells it; equal for one process and different for the next one of that pid. */
export type ProcessStart = string

export class Liveness extends Context.Tag("broker/Liveness")<
  Liveness,
  {
    /**
     * False only when the process is surely gone: no such process, or one that started at another time. A process the broker
     * may not signal is alive.
     */
    readonly unsafeIsAlive: (pid: number, start: ProcessStart | undefined) => boolean
    /** `undefined` when there is no such process here, or the system does not tell. */
    readonly startOf: (pid: number) => Effect.Effect<ProcessStart | undefined>
  }
>() {}
