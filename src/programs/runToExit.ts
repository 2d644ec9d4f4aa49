/** How every program of this package runs and ends. */
import { NodeRuntime } from "@effect/platform-node"
import { Effect } from "effect"

/** 0: done; a broker stopped, was already running, or superseded. 1: it did not work; a sentence on stderr says why. 2: wrong usage. */
export type ExitCode = 0 | 1 | 2

// Whoever read the output may be gone; the program goes on without being heard.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined)

export const complain = (line: string) => Effect.sync(() => process.stderr.write(`${line}\n`))

// The terminal is gone: as if somebody had asked it to end.
process.on("SIGHUP", () => process.emit("SIGTERM"))

/** Runs to the exit code. The first signal interrupts; a second one ends the process at once. */
export const runToExit = (program: Effect.Effect<ExitCode>): void =>
  NodeRuntime.runMain(
    program.pipe(
      Effect.catchAllDefect((defect) => Effect.as(complain(`A fault of the broker: ${String(defect)}`), 1 as const)),
      Effect.flatMap((code) => Effect.sync(() => process.exit(code)))
    ),
    { disableErrorReporting: true, disablePrettyLogger: true }
  )
