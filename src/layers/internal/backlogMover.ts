import { Effect, FiberSet, type Scope } from "effect"
import { EventLog } from "../../services/EventLog.js"
import { Inbox, type UndispatchedItem } from "../../services/Inbox.js"
import { Ledger } from "../../services/Ledger.js"
import { EndpointKey } from "../../services/model/Ids.js"
import type { Place } from "../../services/model/MailboxState.js"
import { ordered, under } from "../../services/model/StoreKey.js"
import { Store, Transaction, table } from "../../services/Store.js"
import type { FoundMail } from "./foundMail.js"
import { behind, mail, placeOf } from "./mail.js"
import { deleteRecord } from "./mailExpiry.js"
import { restarted } from "./supervised.js"

export interface BacklogMover {
  /** Moves so many stored messages behind `after` to the inbox, where their places are kept for them from now on. */
  readonly unsafeMove: (
    transaction: Transaction,
    key: EndpointKey,
    after: Place,
    originalTarget: string,
    count: number
  ) => void
  /** Moves what nobody took, and returns whose it was. */
  readonly unsafeMoveRest: (transaction: Transaction, found: FoundMail) => ReadonlyArray<EndpointKey>
  /** The greatest key of an endpoint whose mail an earlier life left on its way; 0 when there was none. */
  readonly lastKey: number
  /** How many are on their way. */
  readonly unsafeMoving: () => number
}

/** Moved in pages of so many messages or bytes, each in one commit: it needs room on the disk beside all that is there. */
const page = { messages: 256, bytes: 4 * 2 ** 20 }
/** So many are read at a time, for messages may be large. */
const read = 4

/** Whose mail is on its way, and for whom it was; a move that the broker did not live to finish goes on with the next one. */
const moves = table<Target>("mail_moves", 1)
type Target = Pick<UndispatchedItem, "originalTarget">

/** Moves the stored mail of ended endpoints to the inbox. */
export const makeBacklogMover: Effect.Effect<BacklogMover, never, Store | Inbox | Ledger | EventLog | Scope.Scope> =
  Effect.gen(function* () {
    const store = yield* Store
    const inbox = yield* Inbox
    const ledger = yield* Ledger
    const log = yield* EventLog
    const run = yield* FiberSet.makeRuntime<EventLog>()
    // A page of each that ended, after a restart perhaps all, would be a lot of memory.
    const oneAtATime = (yield* Effect.makeSemaphore(1)).withPermits(1)
    let moving = 0

    const move = (key: EndpointKey, after: Place, target: Target, count: number) => {
      let place = inbox.unsafeReserve(count)
      let from = after
      let left = count
      /** Puts the next page into the transaction. False when there was none. */
      const takePage = (transaction: Transaction): boolean => {
        let messages = 0
        let bytes = 0
        try {
          while (messages < page.messages && bytes < page.bytes) {
            const records = store.unsafeRange(mail, { ...behind(key, from), limit: read })
            for (const [recordKey, { message }] of records) {
              deleteRecord(transaction, recordKey, message)
              inbox.unsafeAdd(transaction, { message, reason: "closed_session_continuation", ...target }, place++)
              messages++
              bytes += message.bytes
              from = placeOf(recordKey)
            }
            if (records.length < read) break
          }
        } catch (fault) {
          // The inbox has what was read before: that is written, and the next page meets the fault again.
          if (messages === 0) throw fault
        }
        moving -= messages
        left -= messages
        return messages > 0
      }
      // Begun again after a fault, it goes on from where it was.
      return Effect.gen(function* () {
        // What is being written lies behind what is written.
        yield* store.flush
        while (true) {
          const transaction = new Transaction()
          if (!takePage(transaction)) {
            moving -= left
            // What was not found is damaged: it is in no books, as it would be in none after a start.
            ledger.unsafeCount("accepted", -left)
            transaction.delete(moves, ordered(key))
            return store.unsafeCommit(transaction)
          }
          // Much mail must not become one large write, which would hold up everybody else's.
          yield* store.commit(transaction)
        }
      }).pipe(oneAtATime, restarted("backlog"))
    }

    const start = (key: EndpointKey, after: Place, target: Target, count: number) => {
      moving += count
      run(move(key, after, target, count))
    }
    const recovered = new Set<EndpointKey>()
    for (const [recordKey, target] of store.unsafeRange(moves, { from: "", until: "~" })) {
      const key = EndpointKey(Number.parseInt(recordKey, 36))
      recovered.add(key)
      const count = store.unsafeCount(mail, under(ordered(key)))
      ledger.unsafeCount("accepted", count)
      start(key, 0, target, count)
    }

    const begin = (transaction: Transaction, key: EndpointKey, after: Place, target: Target, count: number) => {
      transaction.put(moves, ordered(key), target)
      start(key, after, target, count)
    }

    return {
      unsafeMove: (transaction, key, after, originalTarget, count) =>
        begin(transaction, key, after, { originalTarget }, count),
      unsafeMoveRest: (transaction, found) => {
        const lost = found.owners().filter((key) => !recovered.has(key))
        let total = 0
        for (const key of lost) {
          const { count } = found.take(key)
          total += count
          ledger.unsafeCount("accepted", count)
          // Its record is lost, and with it whom the mail was for.
          begin(transaction, key, 0, {}, count)
        }
        if (total > 0) log.unsafeLog("warn", "mail_without_endpoint", { count: total })
        return lost
      },
      lastKey: Math.max(0, ...recovered),
      unsafeMoving: () => moving
    }
  })
