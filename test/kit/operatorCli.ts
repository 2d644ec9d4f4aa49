/** The command as an operator uses it: the built one, or its commands within the test, which takes a hundredth of the time. */
import { Command, ValidationError } from "@effect/cli"
import { NodeContext } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { dead } from "../../src/programs/cli/dead.js"
import { doctor } from "../../src/programs/cli/doctor.js"
import type { Exit } from "../../src/programs/cli/exit.js"
import { status } from "../../src/programs/cli/status.js"
import { stop } from "../../src/programs/cli/stop.js"
import { store } from "../../src/programs/cli/store.js"
import { version } from "../../src/services/model/Version.js"
import { type Exited, environmentOf, type RunningBroker, runProgram } from "./broker.js"

/** The built command, with no settings but where the files are. */
export const cli = (userData: string, ...args: ReadonlyArray<string>): Effect.Effect<Exited> => {
  const { MASONS_BROKER_CONNECTOR: _, ...environment } = environmentOf(userData, {})
  return runProgram("programs/cli.js", args, environment)
}

/** For a running broker, whatever its account. */
export const cliOf = (broker: RunningBroker, ...args: ReadonlyArray<string>): Effect.Effect<Exited> =>
  cli(broker.userData, ...args, "--directory", broker.directory)

const root = Command.make("runtime-broker").pipe(Command.withSubcommands([status, stop, store, dead, doctor]))
const run = Command.run(root, { name: "runtime-broker", version })

/**
 * The command within the test. It must say which `--directory` it is for, and can neither start a broker nor write to standard
 * output but by lines.
 */
export const here = (...args: ReadonlyArray<string>): Effect.Effect<Exited> =>
  Effect.gen(function* () {
    const console = yield* Console.consoleWith(Effect.succeed)
    const said = { stdout: "", stderr: "" }
    const say = (where: keyof typeof said) => (line: string) =>
      Effect.sync(() => {
        said[where] += `${line}\n`
      })
    const code = yield* run(["node", "runtime-broker", ...args]).pipe(
      Effect.as(0),
      Effect.catchAll((failure) => {
        if (ValidationError.isValidationError(failure)) return Effect.succeed(2)
        const { code = 1, message } = failure as Exit
        return Effect.as(message === "" ? Effect.void : say("stderr")(message), code)
      }),
      Effect.withConsole({ ...console, log: say("stdout"), error: say("stderr") }),
      Effect.provide(NodeContext.layer)
    )
    return { code, signal: null, ...said }
  })

/** For this broker, or what is left of one. */
export const hereOf = (
  { directory }: { readonly directory: string },
  ...args: ReadonlyArray<string>
): Effect.Effect<Exited> => here(...args, "--directory", directory)

export const linesOf = (text: string): ReadonlyArray<string> => text.split("\n").filter((line) => line !== "")

/** Everything the broker has decided so far is in its store. */
export const stored = (broker: RunningBroker): Effect.Effect<void> =>
  Effect.map(broker.operator("GET", "/v1/operator/ledger"), ({ body, status }) => {
    if (status !== 200 || body.settled !== true) throw new Error(`the store is not settled: ${JSON.stringify(body)}`)
  })
