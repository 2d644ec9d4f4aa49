/** `runtime-broker drain`: the broker tells its plugins, leaves, and with `--restart` makes place for the next one. */
import { Command, Options } from "@effect/cli"
import { Console, Effect } from "effect"
import { BrokerClient } from "../../services/BrokerClient.js"
import { clientOf, whichBroker } from "./where.js"

const restart = Options.boolean("restart").pipe(
  Options.withDescription("Another broker follows at once: the platform keeps the endpoints")
)

export const drain = Command.make("drain", { ...whichBroker, restart }, (options) =>
  Effect.gen(function* () {
    const { pid } = yield* (yield* BrokerClient).drain(options.restart)
    yield* Console.log(
      options.restart
        ? `The broker (process ${pid}) has left; start the next one, or let a plugin start it.`
        : `The broker (process ${pid}) has left.`
    )
  }).pipe(
    Effect.catchTag("NoBroker", ({ message }) => Console.log(`${message} Nothing to drain.`)),
    Effect.provide(clientOf(options))
  )
).pipe(Command.withDescription("Asks the running broker to leave; its plugins are told. For upgrades, with --restart."))
