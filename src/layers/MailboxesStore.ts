/**
 * Mailboxes over the store. `MailboxState` decides what may be pushed and what must be written; this layer pushes, writes,
 * reads, tells the connector what is safe, and keeps the time.
 */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Channels } from "../services/Channels.js"
import { Connector } from "../services/Connector.js"
import { DeadLetters } from "../services/DeadLetters.js"
import { EventLog } from "../services/EventLog.js"
import { Inbox } from "../services/Inbox.js"
import { Ledger } from "../services/Ledger.js"
import { Mailboxes } from "../services/Mailboxes.js"
import { delay } from "../services/model/Backoff.js"
import type { EndpointKey } from "../services/model/Ids.js"
import { type Letter, MailboxState, type Place } from "../services/model/MailboxState.js"
import { Store, Transaction } from "../services/Store.js"
import { makeBacklogMover } from "./internal/backlogMover.js"
import { FoundMail } from "./internal/foundMail.js"
import { LivePushes } from "./internal/livePushes.js"
import { frameOf, readMail } from "./internal/mail.js"
import { deleteMail, makeMailExpiry, putMail } from "./internal/mailExpiry.js"
import { MailQuota } from "./internal/mailQuota.js"
import { mintPushId } from "./internal/minting.js"
import { Outlets } from "./internal/outlets.js"
import { PushMarks } from "./internal/pushMarks.js"
import { makeSweeper } from "./internal/sweeper.js"

interface Mailbox {
  readonly key: EndpointKey
  readonly name: string
  readonly state: MailboxState
  /** It refused mail since it last had room. */
  isRefusing: boolean
}

export const layer: Layer.Layer<
  Mailboxes,
  never,
  Store | Channels | Connector | Inbox | DeadLetters | Ledger | BrokerConfig | EventLog
> = Layer.scoped(
  Mailboxes,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const store = yield* Store
    const channels = yield* Channels
    const connector = yield* Connector
    const inbox = yield* Inbox
    const deadLetters = yield* DeadLetters
    const ledger = yield* Ledger
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const backlog = yield* makeBacklogMover
    const nackBackoff = { base: config.nackDelayMs, cap: config.nackDelayMaxMs }

    const mailboxes = new Map<EndpointKey, Mailbox>()
    const outlets = new Outlets<Mailbox>()
    const marks = new PushMarks(store)
    const livePushes = new LivePushes<Mailbox>(config)
    /** Mailboxes that wait for the end of a refused push's pause. */
    const paused = new Set<Mailbox>()
    const quota = new MailQuota(config)
    const found = new FoundMail(store)

    ledger.unsafeHolds("held", () => quota.messages + backlog.unsafeMoving())
    const now = () => clock.unsafeCurrentTimeMillis()

    // -- safe with the broker ------------------------------------------------------------------------------------------

    /** The connector may forget these. */
    const accept = (letters: ReadonlyArray<Letter>) => {
      const tokens: Array<unknown> = []
      for (const letter of letters) {
        if (letter.token === undefined) continue
        tokens.push(letter.token)
        letter.token = undefined
      }
      if (tokens.length > 0) connector.unsafeAccept(tokens)
    }

    /** New mail is taken for good in this turn. */
    const countAccepted = (letter: Letter) => {
      if (letter.isAccepted) return
      letter.isAccepted = true
      if (letter.pushedAt !== undefined) livePushes.accepted()
      ledger.unsafeCount("accepted", 1)
    }

    /** Puts the letters into one commit; they are accepted when it is durable. */
    const write = (transaction: Transaction, mailbox: Mailbox, letters: ReadonlyArray<Letter>) => {
      if (letters.length === 0) return
      for (const letter of letters) {
        countAccepted(letter)
        quota.add(1, letter.message.bytes)
        putMail(transaction, mailbox.key, letter)
      }
      transaction.onDurable(() => {
        accept(letters)
        for (const letter of letters) mailbox.state.wrote(letter)
        for (const letter of letters) expiry.unsafeWatch(letter)
        pumpIfOpen(mailbox)
      })
    }

    /** The letter is in no mailbox any more. */
    const leave = (
      transaction: Transaction,
      mailbox: Mailbox,
      letter: Letter,
      to: "delivered" | "expired" | "dead"
    ) => {
      if (letter.stored === "live") {
        countAccepted(letter)
        // What its arrival wrote, the conversation it may be answered in, is durable before; a store that fails holds up nothing.
        if (store.unsafeHealth()._tag !== "Failing") transaction.isBarrier = true
        transaction.onDurable(() => accept([letter]))
      } else {
        quota.add(-1, -letter.message.bytes)
        found.ids.delete(letter.message.id)
        deleteMail(transaction, mailbox.key, letter)
      }
      // Dead letters count themselves.
      if (to !== "dead") ledger.unsafeCount(to, 1)
      quota.frees(transaction, mailbox)
    }

    // -- pushing -------------------------------------------------------------------------------------------------------

    /** Hands the letter to the channel. False when the channel cannot take it now. */
    const push = (transaction: Transaction, mailbox: Mailbox, letter: Letter): boolean => {
      const outlet = mailbox.state.deliversOver!
      const pushId = outlet.receipts ? mintPushId() : undefined
      const result = channels.unsafePush(outlet.channel, frameOf(letter, pushId))
      if (result !== "pushed") {
        if (result === "congested") mailbox.state.setCongested(true)
        return false
      }
      if (pushId === undefined) {
        mailbox.state.drop(letter)
        leave(transaction, mailbox, letter, "delivered")
        return true
      }
      mailbox.state.pushed(letter, pushId, now())
      outlets.pushed(mailbox, outlet.channel, pushId)
      return true
    }

    /** A live push: the connector is told when its receipt comes, or when it is stored instead. */
    const awaitReceipt = (mailbox: Mailbox, letter: Letter) => {
      sweeper.unsafeWakeAt(livePushes.add(mailbox, letter, ledger.unsafeAccepted()))
    }

    /** Reads on behind that place. False: it led nowhere yet. */
    const load = (transaction: Transaction, mailbox: Mailbox, after: Place): boolean => {
      const { state } = mailbox
      const { bytes, count } = state
      const isLoaded = state.load(readMail(store, mailbox.key, after, config))
      if (state.count !== count) {
        // Damaged mail is in no books, as it would be in none after a start.
        quota.add(state.count - count, state.bytes - bytes)
        ledger.unsafeCount("accepted", state.count - count)
        quota.frees(transaction, mailbox)
      }
      return isLoaded
    }

    /** Pushes what is held, as far as the window is open. */
    const pump = (transaction: Transaction, mailbox: Mailbox) => {
      const { state } = mailbox
      while (true) {
        const next = state.next(now())
        switch (next._tag) {
          case "Push":
            if (!marks.allows(transaction, mailbox.key, next.letter.place, () => pumpIfOpen(mailbox))) return
            if (push(transaction, mailbox, next.letter)) break
            return
          case "Expired":
            state.drop(next.letter)
            leave(transaction, mailbox, next.letter, "expired")
            break
          case "Load":
            if (load(transaction, mailbox, next.after)) break
            return
          case "Wait":
            if (next.until !== undefined) {
              paused.add(mailbox)
              sweeper.unsafeWakeAt(next.until)
            }
            return
        }
      }
    }

    /** As the stage of its own: after a commit, a timer, or a channel that reads again. */
    const pumpAlone = (mailbox: Mailbox) => {
      const transaction = new Transaction()
      pump(transaction, mailbox)
      store.unsafeCommit(transaction)
    }

    const pumpIfOpen = (mailbox: Mailbox) => {
      if (mailbox.state.deliversOver !== undefined) pumpAlone(mailbox)
    }

    // -- time ----------------------------------------------------------------------------------------------------------

    /** Stores what has waited too long for its receipt, once the store takes mail. Returns when to look again. */
    const spill = (transaction: Transaction, at: number): number | undefined => {
      const { due, next } = livePushes.due(at, ledger.unsafeAccepted())
      if (due.length > 0 && store.unsafeHealth()._tag !== "Healthy") {
        livePushes.putBack(due)
        return at + config.spillAgeMs
      }
      for (const { letter, owner } of due) write(transaction, owner, owner.state.spill(letter.place))
      return next
    }

    /** Spills, and pushes again what was refused a while ago. */
    const sweep = (at: number): number | undefined => {
      const transaction = new Transaction()
      const next = spill(transaction, at)
      for (const mailbox of [...paused]) {
        paused.delete(mailbox)
        pump(transaction, mailbox)
      }
      store.unsafeCommit(transaction)
      return next
    }
    const sweeper = yield* makeSweeper("mailboxes", sweep)

    const expiry = yield* makeMailExpiry(
      (key) => mailboxes.get(key),
      (transaction, { bytes, endpoint, id }) => {
        quota.add(-1, -bytes)
        found.ids.deleteKept(id)
        ledger.unsafeCount("expired", 1)
        quota.frees(transaction, get(endpoint))
        settle(transaction, get(endpoint))
      },
      config.spillAgeMs
    )

    // -- the end of a mailbox ------------------------------------------------------------------------------------------

    const get = (key: EndpointKey): Mailbox => {
      const mailbox = mailboxes.get(key)
      if (mailbox === undefined) throw new Error(`no mailbox of endpoint ${key}`)
      return mailbox
    }

    const detach = (transaction: Transaction, mailbox: Mailbox) => {
      if (mailbox.state.deliversOver === undefined) return
      outlets.unbind(mailbox)
      const { dead, failed, write: returned } = mailbox.state.detach()
      if (dead !== undefined) bury(transaction, mailbox, dead)
      write(transaction, mailbox, returned)
      if (failed !== undefined && !returned.includes(failed)) putMail(transaction, mailbox.key, failed)
      settle(transaction, mailbox)
      transaction.onDurable(expiry.unsafeLookAgain)
    }

    /** The store is read again when it holds what was decided. */
    const settle = (transaction: Transaction, mailbox: Mailbox) => {
      transaction.isBarrier = true
      transaction.onDurable(() => {
        mailbox.state.settled()
        pumpIfOpen(mailbox)
        expiry.unsafeLook()
      })
    }

    const bury = (transaction: Transaction, mailbox: Mailbox, letter: Letter) => {
      leave(transaction, mailbox, letter, "dead")
      deadLetters.unsafeAdd(transaction, {
        message: letter.message,
        endpointId: mailbox.name,
        reason: "delivery_limit",
        at: now()
      })
    }

    return {
      unsafeOpen: (key, name) => {
        const stored = found.take(key)
        const { bytes, count } = stored
        const state = new MailboxState(config, { ...stored, knownUpTo: marks.before(key) })
        mailboxes.set(key, { key, name, state, isRefusing: false })
        quota.add(count, bytes)
        ledger.unsafeCount("accepted", count)
        if (count > 0) expiry.unsafeLookAgain()
      },

      unsafeOpenedAll: (transaction) => {
        for (const key of backlog.unsafeMoveRest(transaction, found)) marks.forget(transaction, key)
        return Math.max(found.lastKey, backlog.lastKey)
      },

      unsafeDeliver: (transaction, key, { kind, mayBeKnown = false, message, token }) => {
        const mailbox = get(key)
        const { state } = mailbox
        if (kind === "moved") {
          const letter = state.letter(message, { token: undefined, isAccepted: true, redelivered: mayBeKnown })
          write(transaction, mailbox, state.write(letter))
          return true
        }
        const letter = state.letter(message, { token, isAccepted: false, redelivered: mayBeKnown })
        if (state.canPushLive(letter, now()) && push(transaction, mailbox, letter)) {
          if (letter.pushedAt !== undefined) awaitReceipt(mailbox, letter)
          return true
        }
        if (kind === "new" && (!quota.admits(mailbox, message.bytes) || store.unsafeHealth()._tag !== "Healthy")) {
          return false
        }
        write(transaction, mailbox, state.write(letter))
        return true
      },

      unsafeHolds: (id) => found.ids.has(id),

      unsafeAttach: (transaction, key, outlet) => {
        const mailbox = get(key)
        mailbox.state.attach(outlet)
        if (!channels.unsafeIsWritable(outlet.channel)) mailbox.state.setCongested(true)
        outlets.bind(mailbox, outlet.channel)
        pump(transaction, mailbox)
      },

      unsafeDetach: (transaction, key) => detach(transaction, get(key)),

      unsafeHandToInbox: (transaction, key, originalTarget) => {
        const mailbox = get(key)
        outlets.unbind(mailbox)
        mailboxes.delete(key)
        paused.delete(mailbox)
        marks.forget(transaction, key)
        quota.ends(transaction, mailbox)
        const { after, bytes, letters, unloaded } = mailbox.state.close()
        const here = letters.filter(({ place }) => unloaded === 0 || place <= after)
        quota.add(-unloaded - letters.filter(({ stored }) => stored !== "live").length, -bytes)
        for (const letter of here) {
          if (letter.stored === "live") {
            countAccepted(letter)
            transaction.onDurable(() => accept([letter]))
          } else deleteMail(transaction, mailbox.key, letter)
          inbox.unsafeAdd(transaction, {
            message: letter.message,
            reason: "closed_session_continuation",
            originalTarget
          })
        }
        if (unloaded === 0) return
        const rest = unloaded + letters.length - here.length
        backlog.unsafeMove(transaction, key, after, originalTarget, rest)
      },

      unsafeReceipt: (transaction, channel, pushId) => {
        const mailbox = outlets.land(channel, pushId)
        if (mailbox === undefined) return false
        const letter = mailbox.state.acknowledge(pushId)!
        leave(transaction, mailbox, letter, "delivered")
        pump(transaction, mailbox)
        return true
      },

      unsafeRefuse: (transaction, channel, pushId, reason) => {
        const mailbox = outlets.land(channel, pushId)
        if (mailbox === undefined) return false
        const refused = mailbox.state.refuse(pushId, now(), (failures) =>
          delay(nackBackoff, failures - 1, Math.random())
        )!
        log.unsafeLog("info", "push_refused", {
          message_id: refused.letter.message.id,
          failures: refused.letter.failures,
          reason
        })
        if (refused.dead) bury(transaction, mailbox, refused.letter)
        else if (!refused.write.includes(refused.letter)) putMail(transaction, mailbox.key, refused.letter)
        write(transaction, mailbox, refused.write)
        expiry.unsafeWatch(refused.letter)
        pump(transaction, mailbox)
        return true
      },

      unsafeWritable: (channel) => {
        for (const mailbox of outlets.boundTo(channel)) {
          mailbox.state.setCongested(false)
          pumpAlone(mailbox)
        }
      },

      unsafeUsage: (key) => {
        const { state } = get(key)
        return { undelivered: state.size, inFlight: state.flying, stored: state.count, storedBytes: state.bytes }
      },
      unsafeTotals: () => ({ messages: quota.messages, bytes: quota.bytes }),
      unsafeOnSpace: (listener) => quota.onSpace(listener)
    }
  })
)
