/** `runtime-broker start`: a broker in the foreground, which other commands do not load. */
import { Command, Options } from "@effect/cli"
import { Effect, HashMap, Option } from "effect"
import { Exit } from "./exit.js"

const hints = [
  "Try it: npm run demo. Look inside: npx runtime-broker status.",
  "Stop it with Ctrl-C, or npx runtime-broker stop."
]

const setting = (name: string, about: string) =>
  Options.text(name).pipe(Options.withDescription(about), Options.optional)

export const start = Command.make(
  "start",
  {
    connector: setting("connector", "The network: gateway, or loopback for none beyond this broker"),
    port: setting("port", "Port on 127.0.0.1; 0 lets the system choose"),
    account: setting("account", "The account to run for"),
    set: Options.keyValueMap("set").pipe(
      Options.withDescription("Any setting of docs/settings.md, as name=value"),
      Options.optional
    )
  },
  ({ account, connector, port, set }) => {
    const flags: Record<string, string> = Object.fromEntries(
      Option.match(set, { onNone: () => [], onSome: HashMap.toEntries })
    )
    const named = { connector, port, accountId: account }
    for (const [name, value] of Object.entries(named)) if (Option.isSome(value)) flags[name] = value.value
    return Effect.promise(() => import("../main.js")).pipe(
      Effect.flatMap(({ runDaemon }) => runDaemon(flags, hints)),
      Effect.flatMap((code) => (code === 0 ? Effect.void : new Exit({ code, message: "" })))
    )
  }
).pipe(Command.withDescription("Runs a broker until it is stopped."))
