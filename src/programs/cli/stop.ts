/** `runtime-broker stop`: asks the running broker to leave and waits until it has. */
import { Command } from "@effect/cli"
import { Console, Effect } from "effect"
import { BrokerClient } from "../../services/BrokerClient.js"
import { clientOf, whichBroker } from "./where.js"

export const stop = Command.make("stop", whichBroker, (options) =>
  Effect.gen(function* () {
    const client = yield* BrokerClient
    const { pid } = yield* client.stop
    yield* Console.log(`The broker (process ${pid}) has stopped.`)
  }).pipe(
    Effect.catchTag("NoBroker", ({ message }) => Console.log(`${message} Nothing to stop.`)),
    Effect.provide(clientOf(options))
  )
).pipe(Command.withDescription("Stops the running broker. Mail and endpoints are kept for its next start."))
