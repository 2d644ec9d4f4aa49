/** `runtime-broker dev-cloud`: a cloud on this machine, to run brokers against. */
import { Command, Options } from "@effect/cli"
import { Console, Effect, Option } from "effect"
import { defaultAccounts } from "../../layers/devCloud/DevCloudServer.js"
import { type DevCloudReady, describe, devCloud } from "../devCloud.js"
import { Exit } from "./exit.js"

/** For people on a terminal, for programs a JSON object. */
const tell = (ready: DevCloudReady) =>
  Console.log(
    process.stdout.isTTY
      ? describe(ready).join("\n")
      : JSON.stringify({ event: "dev_cloud_ready", ts: new Date().toISOString(), ...ready })
  )

export const devCloudCommand = Command.make(
  "dev-cloud",
  {
    port: Options.integer("port").pipe(
      Options.withDescription("Port on 127.0.0.1; 0 lets the system choose"),
      Options.withDefault(0)
    ),
    account: Options.text("account").pipe(
      Options.withDescription(`An account it has, may be repeated; ${defaultAccounts.join(" and ")} unless given`),
      Options.repeated
    ),
    directory: Options.directory("directory").pipe(
      Options.withDescription("Where the credentials files go; a temporary directory unless given"),
      Options.optional
    )
  },
  ({ account, directory, port }) =>
    devCloud({
      port,
      accounts: account.length === 0 ? defaultAccounts : account,
      directory: Option.getOrUndefined(directory),
      onReady: tell
    }).pipe(Effect.catchAll(({ message }) => new Exit({ code: 1, message })))
).pipe(Command.withDescription("Runs a cloud for development: gateway, platform, several accounts, faults to order."))
