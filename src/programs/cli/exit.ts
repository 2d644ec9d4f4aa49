/** How operator commands end. */
import { Data, Effect } from "effect"

/** 0: done. 1: it did not work; a sentence on stderr says why. 2: wrong usage. */
export type ExitCode = 0 | 1 | 2

/** The command ends with this code, and this sentence on stderr if there is one. */
export class Exit extends Data.TaggedError("Exit")<{ readonly code: ExitCode; readonly message: string }> {}

export const exitWith = (error: { readonly _tag: string; readonly message: string }): Effect.Effect<ExitCode> =>
  Effect.sync(() => {
    if (error.message !== "") process.stderr.write(`${error.message}\n`)
    return error._tag === "Exit" ? (error as Exit).code : 1
  })
