/** What the daemon's two entry points share: it runs in the foreground and speaks to whoever started it. */
import { Effect } from "effect"
import { isFailure } from "../services/Shutdown.js"
import { type DaemonOptions, daemon } from "./daemon.js"
import { complain, type ExitCode } from "./runToExit.js"

export { type ExitCode, runToExit } from "./runToExit.js"

const print = (line: string) => Effect.sync(() => process.stdout.write(`${line}\n`))

/** For people on a terminal, for programs a JSON object per line. */
const tell = (event: string, fields: object, sentences: ReadonlyArray<string>) =>
  process.stdout.isTTY
    ? Effect.forEach(sentences, print, { discard: true })
    : print(JSON.stringify({ event, ts: new Date().toISOString(), ...fields }))

/** Runs the broker in the foreground; `parts` puts it on a network of one's own. */
export const runDaemon = (
  flags: { readonly [name: string]: string },
  hints: ReadonlyArray<string>,
  parts?: DaemonOptions["parts"]
): Effect.Effect<ExitCode> =>
  daemon({
    environment: process.env,
    flags,
    ...(parts === undefined ? {} : { parts }),
    onReady: (ready) =>
      tell("broker_ready", ready, [
        `${ready.version} is running for account "${ready.account}" on the ${ready.connector} network.`,
        "",
        `  listens on   ${ready.url}`,
        `  discovery    ${ready.discoveryFile}`,
        `  log          ${ready.logFile}`,
        `  process      ${ready.pid}`,
        "",
        ...hints
      ]),
    onLeaving: (reason, withinMs) =>
      Effect.zipRight(
        // Should a step hang, the process ends all the same.
        Effect.sync(() => setTimeout(() => process.exit(isFailure(reason) ? 1 : 0), withinMs).unref()),
        tell("broker_leaving", { reason }, ["Leaving."])
      )
  }).pipe(
    Effect.as<ExitCode>(0),
    Effect.catchTags({
      AlreadyRunning: (error) => Effect.as(complain(error.message), 0 as const),
      StartError: (error) => Effect.as(complain(error.message), 1 as const)
    })
  )
