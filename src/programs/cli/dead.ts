/** `runtime-broker dead …`: messages and platform reports that the running broker gave up on. */
import { Args, Command, Options } from "@effect/cli"
import { Console, Effect } from "effect"
import { BrokerClient, type ClientError, type DeadLetterClient } from "../../services/BrokerClient.js"
import type { DeadRetried, DeadSummary } from "../../services/ipc/DeadLetterGroup.js"
import { Exit } from "./exit.js"
import type { WhichBroker } from "./offline.js"
import { clientOf, whichBroker } from "./where.js"
import { bytes, json, plain, plural } from "./words.js"

const ask = <A>(
  options: WhichBroker,
  question: (client: DeadLetterClient) => Effect.Effect<A, ClientError | Exit>
): Effect.Effect<A, ClientError | Exit> =>
  Effect.flatMap(BrokerClient, ({ deadLetters }) => question(deadLetters)).pipe(
    Effect.catchTag(
      "NoBroker",
      ({ message }) =>
        new Exit({ code: 1, message: `${message} Dead letters are with a running broker; start it first.` })
    ),
    Effect.provide(clientOf(options))
  )

const ids = Args.text({ name: "id" }).pipe(Args.withDescription("As list shows it"))

const list = Command.make("list", { ...whichBroker, json }, (options) =>
  Effect.gen(function* () {
    const items = yield* ask(options, (dead) => dead.list)
    if (options.json) return yield* Console.log(JSON.stringify({ items }))
    yield* Console.log(items.length === 0 ? "There are no dead letters." : items.map(describe).join("\n"))
  })
).pipe(Command.withDescription("Lists what was given up: id, when, why, and whose it is."))

const describe = (dead: DeadSummary): string =>
  plain(
    dead.kind === "message"
      ? `${dead.id}  ${dead.at}  ${dead.reason}  message ${dead.message_id} from ${dead.from}` +
          `${dead.endpoint_id === undefined ? "" : ` for ${dead.endpoint_id}`}, ${bytes(dead.bytes)}`
      : `${dead.id}  ${dead.at}  refused  report ${dead.report} on ${dead.lane}: ${dead.reason}`
  )

const show = Command.make("show", { ...whichBroker, id: ids }, (options) =>
  Effect.gen(function* () {
    const entry = yield* ask(options, (dead) => dead.show(options.id))
    yield* Console.log(JSON.stringify(entry, null, 2))
  })
).pipe(Command.withDescription("Shows one with its content, as JSON."))

/** Does it for each; those that do not work are named on stderr and do not keep the others from it. */
const forEach = <A>(
  options: WhichBroker,
  given: ReadonlyArray<string>,
  work: (client: DeadLetterClient, id: string) => Effect.Effect<A, ClientError>,
  say: (done: A, id: string) => string
) =>
  ask(options, (dead) =>
    Effect.gen(function* () {
      const complaints: Array<string> = []
      for (const id of new Set(given)) {
        yield* work(dead, id).pipe(
          Effect.flatMap((done) => Console.log(say(done, id))),
          Effect.catchTag("BrokerRefused", ({ message }) => Effect.sync(() => complaints.push(message)))
        )
      }
      if (complaints.length > 0) yield* new Exit({ code: 1, message: complaints.join("\n") })
    })
  )

const whither = ({ endpoint_id, id, to }: DeadRetried): string =>
  to === "mailbox"
    ? `${id} is in the mailbox of ${endpoint_id}.`
    : to === "inbox"
      ? `${id} is in the inbox of undispatched messages.`
      : `${id} is owed to the platform again.`

const retry = Command.make("retry", { ...whichBroker, ids: Args.atLeast(ids, 1) }, (options) =>
  forEach(options, options.ids, (dead, id) => dead.retry(id), whither)
).pipe(Command.withDescription("Delivers messages again, owes reports again."))

const all = Options.boolean("all").pipe(Options.withDescription("All that are there"))

const purge = Command.make("purge", { ...whichBroker, all, ids: Args.repeated(ids) }, (options) =>
  Effect.gen(function* () {
    if (options.all === options.ids.length > 0) {
      return yield* new Exit({ code: 2, message: "Name the dead letters to purge, or give --all, and not both." })
    }
    if (!options.all)
      return yield* forEach(
        options,
        options.ids,
        (dead, id) => dead.purge(id),
        (_, id) => `${id} is gone.`
      )
    const purged = yield* ask(options, (dead) => dead.purgeAll)
    yield* Console.log(`${plural(purged, "dead letter")} gone.`)
  })
).pipe(Command.withDescription("Deletes them for good."))

export const dead = Command.make("dead").pipe(
  Command.withDescription("What the running broker gave up on: messages, and reports the platform refused."),
  Command.withSubcommands([list, show, retry, purge])
)
