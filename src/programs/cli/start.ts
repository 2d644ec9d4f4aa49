/** `runtime-broker start`: a broker in the foreground, which other commands do not load. */
import { Command, HelpDoc, Options, ValidationError } from "@effect/cli"
import { Effect, Option } from "effect"
import { Exit } from "./exit.js"

const hints = [
  "Try it: npm run demo. Look inside: npx runtime-broker status.",
  "Stop it with Ctrl-C, or npx runtime-broker stop."
]

const setting = (name: string, about: string) =>
  Options.text(name).pipe(Options.withDescription(about), Options.optional)

const assignment = (
  given: string
): Effect.Effect<readonly [name: string, value: string], ValidationError.ValidationError> => {
  const at = given.indexOf("=")
  return at > 0
    ? Effect.succeed([given.slice(0, at), given.slice(at + 1)])
    : Effect.fail(ValidationError.invalidValue(HelpDoc.p(`--set takes name=value, not "${given}".`)))
}

export const start = Command.make(
  "start",
  {
    connector: setting("connector", "The network: gateway, or loopback for none beyond this broker"),
    port: setting("port", "Port on 127.0.0.1; 0 lets the system choose"),
    account: setting("account", "The account to run for"),
    set: Options.text("set").pipe(
      Options.withPseudoName("name=value"),
      Options.withDescription("Any setting of docs/settings.md"),
      Options.repeated,
      Options.mapEffect(Effect.forEach(assignment))
    )
  },
  ({ account, connector, port, set }) => {
    const flags: Record<string, string> = Object.fromEntries(set)
    const named = { connector, port, accountId: account }
    for (const [name, value] of Object.entries(named)) if (Option.isSome(value)) flags[name] = value.value
    return Effect.promise(() => import("../main.js")).pipe(
      Effect.flatMap(({ runDaemon }) => runDaemon(flags, hints)),
      Effect.flatMap((code) => (code === 0 ? Effect.void : new Exit({ code, message: "" })))
    )
  }
).pipe(Command.withDescription("Runs a broker until it is stopped."))
