/** Does the running broker answer, and is it well? */
import { Effect } from "effect"
import { BrokerClient } from "../../../services/BrokerClient.js"
import type { Status } from "../../../services/ipc/OperatorGroup.js"
import { type Check, ok, problem, warning } from "./check.js"

/** Asks it; it proves that it knows the token of its discovery file before it hears one. */
export const checkRunning = (pid: number): Effect.Effect<ReadonlyArray<Check>, never, BrokerClient> =>
  Effect.flatMap(BrokerClient, ({ status }) => status).pipe(
    Effect.map((status) =>
      status.pid === pid
        ? [ok("answer", `${status.version} answers and has proved itself.`), ...checkStatus(status)]
        : [problem("answer", `Process ${status.pid} answers in the place of process ${pid}; stop both and start one.`)]
    ),
    Effect.catchAll(({ message }) =>
      Effect.succeed([problem("answer", `Process ${pid} holds the lock and does not answer as it should: ${message}`)])
    )
  )

/** What is not well is among the warnings of the broker itself. */
const checkStatus = ({ books, connector, presence, store, warnings }: Status): ReadonlyArray<Check> => [
  ...(connector.state === "up"
    ? [ok("link", `The link to the ${connector.name} network is up, and presence is ${presence}.`)]
    : []),
  ...(connector.state === "up" && presence !== "online"
    ? [warning("presence", `The network is told that this broker is ${presence}.`)]
    : []),
  ...(store.healthy
    ? [ok("store", "The store takes records.")]
    : [problem("store", `The store takes no ${store.state === "full" ? "new mail" : "records"}: ${store.reason}.`)]),
  ...(books.unaccounted === 0 ? [] : [problem("books", `${books.unaccounted} messages are unaccounted for.`)]),
  ...warnings.map((message) => warning("broker", message))
]

/** The books beside the records of the store. */
export const checkLedger: Effect.Effect<ReadonlyArray<Check>, never, BrokerClient> = Effect.flatMap(
  BrokerClient,
  ({ store }) => store.audit
).pipe(
  Effect.map(({ books, problems, settled, stored }) => {
    if (problems.length === 0) {
      const where = `${stored.held} held, ${stored.inbox} in the inbox, ${stored.dead_letters} dead letters`
      return [
        ok("ledger", `The store holds what the books say (${where}), and ${books.accepted} accepted messages balance.`)
      ]
    }
    if (settled) return problems.map((message) => problem("ledger", message))
    return problems.map((message) => warning("ledger", `${message} The broker is busy; ask again.`))
  }),
  Effect.catchAll(({ message }) => Effect.succeed([problem("ledger", message)]))
)
