/** How operator commands end. */
import { Data, Effect } from "effect"
import type { ExitCode } from "../runToExit.js"

export type { ExitCode }

/** The command ends with this code, and this sentence on stderr if there is one. */
export class Exit extends Data.TaggedError("Exit")<{ readonly code: ExitCode; readonly message: string }> {}

export const exitWith = (error: { readonly _tag: string; readonly message: string }): Effect.Effect<ExitCode> =>
  Effect.sync(() => {
    if (error.message !== "") process.stderr.write(`${error.message}\n`)
    return error._tag === "Exit" ? (error as Exit).code : 1
  })
