/** The built command as an operator uses it. */
import { Effect } from "effect"
import { type Exited, environmentOf, type RunningBroker, runProgram } from "./broker.js"

/** The command, with no settings but where the files are. */
export const cli = (userData: string, ...args: ReadonlyArray<string>): Effect.Effect<Exited> => {
  const { MASONS_BROKER_CONNECTOR: _, ...environment } = environmentOf(userData, {})
  return runProgram("programs/cli.js", args, environment)
}

/** For a running broker, whatever its account. */
export const cliOf = (broker: RunningBroker, ...args: ReadonlyArray<string>): Effect.Effect<Exited> =>
  cli(broker.userData, ...args, "--directory", broker.directory)

export const linesOf = (text: string): ReadonlyArray<string> => text.split("\n").filter((line) => line !== "")

/** Everything the broker has decided so far is in its store. */
export const stored = (broker: RunningBroker): Effect.Effect<void> =>
  Effect.map(broker.operator("GET", "/v1/operator/ledger"), ({ body, status }) => {
    if (status !== 200 || body.settled !== true) throw new Error(`the store is not settled: ${JSON.stringify(body)}`)
  })
