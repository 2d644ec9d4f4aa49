#!/usr/bin/env node
/** `runtime-broker`, the operators' command. */
import { Command, ValidationError } from "@effect/cli"
import { NodeContext } from "@effect/platform-node"
import { Effect } from "effect"
import { version } from "../services/model/Version.js"
import { dead } from "./cli/dead.js"
import { devCloudCommand } from "./cli/devCloud.js"
import { doctor } from "./cli/doctor.js"
import { drain } from "./cli/drain.js"
import { type ExitCode, exitWith } from "./cli/exit.js"
import { start } from "./cli/start.js"
import { status } from "./cli/status.js"
import { stop } from "./cli/stop.js"
import { store } from "./cli/store.js"
import { runToExit } from "./runToExit.js"

const root = Command.make("runtime-broker").pipe(
  Command.withDescription("A local message broker for agent sessions that share one network identity."),
  Command.withSubcommands([start, status, stop, drain, store, dead, doctor, devCloudCommand])
)

const run = Command.run(root, { name: "runtime-broker", version })

runToExit(
  Effect.suspend(() => run(process.argv)).pipe(
    Effect.as<ExitCode>(0),
    Effect.catchAll((error) =>
      // The library has printed what is wrong with the usage.
      ValidationError.isValidationError(error) ? Effect.succeed(2 as const) : exitWith(error)
    ),
    Effect.provide(NodeContext.layer)
  )
)
