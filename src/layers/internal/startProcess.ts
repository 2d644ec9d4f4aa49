import { spawn } from "node:child_process"
import { Effect } from "effect"

export interface Start {
  readonly file: string
  readonly args: ReadonlyArray<string>
  readonly environment: { readonly [name: string]: string }
  /** `undefined`: the broker's own. */
  readonly directory: string | undefined
  readonly input: string | undefined
  /** It ended in a way that is none: the sentence says how. */
  readonly onFailed: (how: string) => void
}

/** Starts a process that outlives the broker. Answers its id; the failure says why there is none, without its arguments. */
export const startProcess = ({ args, directory, environment, file, input, onFailed }: Start) =>
  Effect.async<number, string>((resume) => {
    try {
      const child = spawn(file, args, {
        cwd: directory,
        env: environment,
        detached: true,
        windowsHide: true,
        stdio: [input === undefined ? "ignore" : "pipe", "ignore", "ignore"]
      })
      // Stays on for the child's whole life: an error nobody hears ends the broker.
      child.on("error", (error) => resume(Effect.fail(reasonOf(error))))
      child.once("spawn", () => resume(Effect.succeed(child.pid!)))
      child.once("exit", (code, signal) => {
        if (signal !== null) onFailed(`the command was ended by ${signal}`)
        else if (code !== 0) onFailed(`the command ended with code ${code}`)
      })
      // A command need not read its input.
      child.stdin?.on("error", () => undefined)
      child.stdin?.end(input)
      child.unref()
    } catch (error) {
      resume(Effect.fail(reasonOf(error)))
    }
  })

/** The texts of these errors may hold arguments; their codes do not. */
const reasonOf = (error: unknown): string => {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? "unknown"
  switch (code) {
    case "ENOENT":
      return "the command or its working directory is not there (ENOENT)"
    case "ENOTDIR":
      return "its working directory is not a directory (ENOTDIR)"
    case "EACCES":
    case "EPERM":
      return `the broker is not allowed to run the command (${code})`
    case "E2BIG":
      return "the prompt is too long for an argument (E2BIG)"
    default:
      return `the command could not be started (${code})`
  }
}
