/** Counts the records of the store beside the books. */
import { Effect, Layer } from "effect"
import { DeadLetters } from "../services/DeadLetters.js"
import { Directory } from "../services/Directory.js"
import type { Audit } from "../services/ipc/StoreGroup.js"
import { Ledger } from "../services/Ledger.js"
import { LedgerAudit } from "../services/LedgerAudit.js"
import { Mailboxes } from "../services/Mailboxes.js"
import { StoreUnavailable } from "../services/model/Errors.js"
import { ordered, under } from "../services/model/StoreKey.js"
import { Store } from "../services/Store.js"
import * as tables from "./internal/messageTables.js"
import { storeCommits } from "./internal/storeChecks.js"

const everything = { from: "", until: "~" }
/** How often a moment is looked for at which nothing is on its way. */
const tries = 50
/** How long writing may take until the store is said to fail. */
const writeMs = 10_000

export const layer: Layer.Layer<LedgerAudit, never, DeadLetters | Directory | Ledger | Mailboxes | Store> =
  Layer.effect(
    LedgerAudit,
    Effect.gen(function* () {
      const deadLetters = yield* DeadLetters
      const directory = yield* Directory
      const ledger = yield* Ledger
      const mailboxes = yield* Mailboxes
      const store = yield* Store

      /** Changes with every message that comes, goes or moves. */
      const position = () => JSON.stringify([ledger.unsafeBooks(), deadLetters.unsafeCount()])

      /** True when everything decided is durable, in this turn. */
      const isSettled = Effect.gen(function* () {
        const before = position()
        yield* store.flush
        return position() === before
      }).pipe(
        Effect.timeoutFail({
          duration: writeMs,
          onTimeout: () => new StoreUnavailable({ message: "The store does not write.", retryable: true })
        })
      )

      const count = (settled: boolean): Audit => {
        const books = ledger.unsafeBooks()
        const endpoints = Array.from(directory.unsafeAll(), ({ id, key }) => ({
          endpoint_id: id,
          held: mailboxes.unsafeUsage(key).stored,
          stored: store.unsafeCount(tables.mail, under(ordered(key)))
        }))
        const stored = {
          held: store.unsafeCount(tables.mail, everything),
          inbox: store.unsafeCount(tables.inbox, everything),
          dead_letters: store.unsafeCount(tables.deadLetters, everything)
        }
        const counts = { settled, books, dead_letters: deadLetters.unsafeCount(), stored, endpoints }
        return { ...counts, problems: problemsOf(counts) }
      }

      return {
        audit: storeCommits(store).pipe(
          Effect.zipRight(isSettled.pipe(Effect.repeat({ until: (settled) => settled, times: tries - 1 }))),
          Effect.map(count)
        )
      }
    })
  )

const problemsOf = ({ books, dead_letters, endpoints, stored }: Omit<Audit, "problems">): ReadonlyArray<string> => {
  const differs = (what: string, counted: number, records: number) =>
    counted === records ? [] : [`${what}: the broker counts ${counted}, and the store holds ${records}.`]
  return [
    ...(books.unaccounted === 0 ? [] : [`${books.unaccounted} messages are unaccounted for.`]),
    ...differs("Messages in mailboxes", books.held, stored.held),
    ...endpoints.flatMap(({ endpoint_id, held, stored }) => differs(`Mail of ${endpoint_id}`, held, stored)),
    ...differs("Messages in the inbox", books.inbox, stored.inbox),
    ...differs("Dead letters", dead_letters, stored.dead_letters)
  ]
}
