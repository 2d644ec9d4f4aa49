/** When stored mail is over, for what says so; in the store, in order of time: memory holds nothing of it, nor does a start read it. */
import { Effect, type Scope } from "effect"
import type { EventLog } from "../../services/EventLog.js"
import { EndpointKey } from "../../services/model/Ids.js"
import type { Letter, MailboxState, Place } from "../../services/model/MailboxState.js"
import type { Message } from "../../services/model/Message.js"
import { join, ordered, under } from "../../services/model/StoreKey.js"
import { type Key, Store, Transaction, table } from "../../services/Store.js"
import { keyOf, mail, recordOf, width } from "./mail.js"
import { makeSweeper } from "./sweeper.js"

/** `<time>/<key of the mail>`: written and deleted with the mail. */
const expiries = table<true>("mail_expiry", 1)

/** Stored mail whose time is over. */
export interface Expiry {
  readonly key: Key
  /** Of the mail. */
  readonly mailKey: Key
  readonly endpoint: EndpointKey
  readonly place: Place
  readonly bytes: number
  /** As keys have it. */
  readonly id: string
}

/** So many are read at once. */
const page = 256

/** The whole millisecond from which on it is over. Times that no clock comes to, or that are long past, are all one. */
const expiresAt = (message: Message): number | undefined =>
  message.expiresAt === undefined
    ? undefined
    : Math.min(Math.max(0, Math.ceil(message.expiresAt)), Number.MAX_SAFE_INTEGER)

const expiryKey = (mailKey: Key, message: Message): Key | undefined => {
  const at = expiresAt(message)
  return at === undefined ? undefined : join(ordered(at), mailKey)
}

/** What sorts before all that is over with this one. */
const timeIn = (key: Key): Key => key.slice(0, width)

const expiryOf = (key: Key): Expiry => {
  const [time, endpoint, place, bytes, id] = key.split("/") as [string, string, string, string, string]
  return {
    key,
    mailKey: key.slice(time.length + 1),
    endpoint: EndpointKey(Number.parseInt(endpoint, 36)),
    place: Number.parseInt(place, 36),
    bytes: Number.parseInt(bytes, 36),
    id
  }
}

/** Stores the letter, with its time. */
export const putMail = (transaction: Transaction, endpoint: EndpointKey, letter: Letter): void => {
  const mailKey = keyOf(endpoint, letter)
  transaction.put(mail, mailKey, recordOf(letter))
  const key = expiryKey(mailKey, letter.message)
  if (key !== undefined) transaction.put(expiries, key, true)
}

/** It leaves the store. */
export const deleteMail = (transaction: Transaction, endpoint: EndpointKey, letter: Letter): void =>
  deleteRecord(transaction, keyOf(endpoint, letter), letter.message)

/** `deleteMail` of what lies under that key. */
export const deleteRecord = (transaction: Transaction, mailKey: Key, message: Message): void => {
  transaction.delete(mail, mailKey)
  const key = expiryKey(mailKey, message)
  if (key !== undefined) transaction.delete(expiries, key)
}

export interface MailExpiry {
  /** The stored letter is not in flight, or will not be: it may leave at its time. */
  readonly unsafeWatch: (letter: Letter) => void
  /** A mailbox that was not settled may be so now. */
  readonly unsafeLook: () => void
  /** A whole mailbox may have become free to leave, all that is over already included. */
  readonly unsafeLookAgain: () => void
}

/**
 * Lets go stored mail that is over; `left` is told of each message. It goes page by page, the next one when the last is durable. What
 * is in flight, being written or being moved stays: who brings it back calls for another look. While the store fails nothing
 * leaves; it is looked for again after `retryMs`.
 *
 * What stays is not read again by every look, for it may be much. Nothing is missed: what was being written, or was refused, is
 * watched from then on; what was in flight when its channel ended, or lay there at the start, is looked for again with all the
 * rest; what is moved takes its time along; and a mailbox that is not settled is not passed by.
 */
export const makeMailExpiry = (
  mailboxOf: (endpoint: EndpointKey) => { readonly state: MailboxState } | undefined,
  left: (transaction: Transaction, expiry: Expiry) => void,
  retryMs: number
): Effect.Effect<MailExpiry, never, Store | EventLog | Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const store = yield* Store

    /** What is over up to here was looked at, and is gone or stays. */
    let seen: Key = ""
    const lookBehind = (key: Key) => {
      if (key < seen) seen = key
    }

    /** False when it was moved elsewhere, or was damaged. */
    const hasMail = ({ endpoint, place }: Expiry) =>
      store.unsafeCount(mail, under(join(ordered(endpoint), ordered(place)))) > 0

    const isSettled = ({ endpoint }: Expiry) => mailboxOf(endpoint)?.state.isSettled !== false

    const letGo = (transaction: Transaction, expiry: Expiry, isThere: boolean) => {
      if (isThere) {
        if (mailboxOf(expiry.endpoint)?.state.expire(expiry.place, expiry.bytes) !== true) return
        transaction.delete(mail, expiry.mailKey)
        left(transaction, expiry)
      }
      transaction.delete(expiries, expiry.key)
    }

    const sweep = (at: number): number | undefined => {
      if (store.unsafeHealth()._tag === "Failing") return at + retryMs
      const transaction = new Transaction()
      let unsettled: Expiry | undefined
      let after = seen
      while (transaction.ops.length === 0) {
        const read = store.unsafeRange(expiries, { after, until: ordered(at + 1), limit: page })
        if (read.length === 0) break
        after = read[read.length - 1]![0]
        const due = read.map(([key]) => expiryOf(key))
        // Asked before anything leaves, for that unsettles a mailbox, too; and read before, for that may throw.
        unsettled ??= due.find((expiry) => !isSettled(expiry))
        const settled = due.filter(isSettled).map((expiry) => ({ expiry, isThere: hasMail(expiry) }))
        for (const { expiry, isThere } of settled) letGo(transaction, expiry, isThere)
      }
      seen = after
      if (unsettled !== undefined) lookBehind(timeIn(unsettled.key))
      if (transaction.ops.length > 0) transaction.onDurable(look)
      store.unsafeCommit(transaction)
      const [next] = store.unsafeRange(expiries, { from: ordered(at + 1), until: "~", limit: 1 })
      return next === undefined ? undefined : Number.parseInt(next[0], 36)
    }
    const sweeper = yield* makeSweeper("expired mail", sweep)
    const look = () => sweeper.unsafeWakeAt(clock.unsafeCurrentTimeMillis())
    // Also for what is here of mail that is gone.
    look()

    return {
      unsafeWatch: ({ message }) => {
        const at = expiresAt(message)
        if (at === undefined) return
        lookBehind(ordered(at))
        sweeper.unsafeWakeAt(at)
      },
      unsafeLook: look,
      unsafeLookAgain: () => {
        seen = ""
        look()
      }
    }
  })
