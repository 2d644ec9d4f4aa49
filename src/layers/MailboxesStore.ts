/**
 * Mailboxes over the store. `MailboxState` decides what may be pushed and what must be written; this layer pushes, writes,
 * reads, tells the connector what is safe, and keeps the time.
 */
import { Effect, FiberSet, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Channels } from "../services/Channels.js"
import { Connector } from "../services/Connector.js"
import { DeadLetters } from "../services/DeadLetters.js"
import { EventLog } from "../services/EventLog.js"
import { Inbox } from "../services/Inbox.js"
import { Ledger } from "../services/Ledger.js"
import { Mailboxes } from "../services/Mailboxes.js"
import { delay } from "../services/model/Backoff.js"
import type { ChannelId, EndpointKey, PushId } from "../services/model/Ids.js"
import { type Letter, MailboxState, type Order } from "../services/model/MailboxState.js"
import type { Message } from "../services/model/Message.js"
import { ordered, under } from "../services/model/StoreKey.js"
import { Store, Transaction } from "../services/Store.js"
import { frameOf, keyOf, letterOf, mail, orderOf } from "./internal/mail.js"
import { mintPushId } from "./internal/minting.js"
import { makeSweeper } from "./internal/sweeper.js"

interface Mailbox {
  readonly key: EndpointKey
  readonly name: string
  readonly state: MailboxState
  /** It refused mail since it last had room. */
  isRefusing: boolean
}

/** A live push the connector has not been told about. */
interface Pending {
  readonly mailbox: Mailbox
  readonly letter: Letter
  /** How many messages the broker had taken before it, accepted or not. */
  readonly before: number
}

/** Mail is read and moved in pages of so many messages. */
const page = 256

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
    const run = yield* FiberSet.makeRuntime<never>()
    const nackBackoff = { base: config.nackDelayMs, cap: config.nackDelayMaxMs }

    const mailboxes = new Map<EndpointKey, Mailbox>()
    const byChannel = new Map<ChannelId, Set<Mailbox>>()
    const inFlight = new Map<PushId, { readonly mailbox: Mailbox; readonly channel: ChannelId }>()
    const spaceListeners: Array<() => void> = []
    /** Live pushes in order of arrival; those no longer live are skipped. */
    let pending: Array<Pending> = []
    /** How many of them there are. */
    let live = 0
    /** Mailboxes that wait for the end of a refused push's pause. */
    const paused = new Set<Mailbox>()
    let totalMessages = 0
    let totalBytes = 0
    /** Mail of ended endpoints on its way to the inbox. */
    let moving = 0

    ledger.unsafeHolds("held", () => totalMessages + moving)
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
      if (letter.pushedAt !== undefined) live--
      ledger.unsafeCount("accepted", 1)
    }

    /** Puts the letters into one commit; they are accepted when it is durable. */
    const write = (transaction: Transaction, mailbox: Mailbox, letters: ReadonlyArray<Letter>) => {
      if (letters.length === 0) return
      for (const letter of letters) {
        countAccepted(letter)
        totalMessages++
        totalBytes += letter.message.bytes
        transaction.put(mail, keyOf(mailbox.key, letter.order), {
          message: letter.message,
          failures: letter.failures,
          pushed: letter.pushedAt !== undefined
        })
      }
      transaction.onDurable(() => {
        accept(letters)
        for (const letter of letters) mailbox.state.wrote(letter)
        if (mailbox.state.deliversOver !== undefined) pumpAlone(mailbox)
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
        transaction.onDurable(() => accept([letter]))
      } else {
        totalMessages--
        totalBytes -= letter.message.bytes
        transaction.delete(mail, keyOf(mailbox.key, letter.order))
      }
      // Dead letters count themselves.
      if (to !== "dead") ledger.unsafeCount(to, 1)
      if (mailbox.isRefusing && hasRoom(mailbox, 0)) {
        mailbox.isRefusing = false
        transaction.onDurable(() => {
          for (const listener of spaceListeners) listener()
        })
      }
    }

    const hasRoom = ({ state }: Mailbox, bytes: number) =>
      state.count < config.mailboxMessages &&
      state.bytes + bytes <= config.mailboxBytes &&
      totalMessages < config.totalMessages &&
      totalBytes + bytes <= config.totalBytes &&
      store.unsafeHealth()._tag === "Healthy"

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
      inFlight.set(pushId, { mailbox, channel: outlet.channel })
      return true
    }

    /** A live push: the connector is told when its receipt comes, or when it is stored instead. */
    const awaitReceipt = (mailbox: Mailbox, letter: Letter) => {
      pending.push({ mailbox, letter, before: ledger.unsafeAccepted() + live })
      live++
      sweeper.unsafeWakeAt(letter.pushedAt! + config.spillAgeMs)
    }

    /** Pushes what is held, as far as the window is open. */
    const pump = (transaction: Transaction, mailbox: Mailbox) => {
      const { state } = mailbox
      while (true) {
        const next = state.next(now())
        switch (next._tag) {
          case "Push":
            if (push(transaction, mailbox, next.letter)) break
            return
          case "Expired":
            state.drop(next.letter)
            leave(transaction, mailbox, next.letter, "expired")
            break
          case "Load":
            if (load(mailbox, next.after)) break
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

    /** Reads the next page. False when nothing could be read yet. */
    const load = ({ key, state }: Mailbox, after: Order): boolean => {
      const { until } = under(ordered(key))
      const records = store.unsafeRange(mail, { after: keyOf(key, after), until, limit: config.windowMessages })
      const before = state.unloadedCount
      state.load(
        records.map(([recordKey, record]) => letterOf(orderOf(recordKey), record)),
        records.length < config.windowMessages
      )
      return state.unloadedCount < before
    }

    // -- time ----------------------------------------------------------------------------------------------------------

    /** Stores what has waited too long for its receipt, and pushes again what was refused a while ago. */
    const sweep = (at: number): number | undefined => {
      const transaction = new Transaction()
      let index = 0
      let next = Number.POSITIVE_INFINITY
      for (; index < pending.length; index++) {
        const { before, letter, mailbox } = pending[index]!
        if (letter.stored !== "live" || letter.isAccepted) continue
        const age = at - letter.pushedAt!
        const isOverdue = age >= config.receiptMs
        // Everything taken before the oldest live push is accepted: what is accepted beyond that came later.
        const blocksOthers = age >= config.spillAgeMs && ledger.unsafeAccepted() - before >= config.spillAfterAccepted
        if (!isOverdue && !blocksOthers) {
          next = Math.min(letter.pushedAt! + config.receiptMs, at + config.spillAgeMs)
          break
        }
        if (store.unsafeHealth()._tag === "Failing") {
          next = at + config.spillAgeMs
          break
        }
        write(transaction, mailbox, mailbox.state.spill(letter.order))
      }
      pending = pending.slice(index)
      for (const mailbox of [...paused]) {
        paused.delete(mailbox)
        pump(transaction, mailbox)
      }
      store.unsafeCommit(transaction)
      return Number.isFinite(next) ? next : undefined
    }
    const sweeper = yield* makeSweeper(sweep)

    // -- the end of a mailbox ------------------------------------------------------------------------------------------

    const toInbox = (transaction: Transaction, message: Message, originalTarget: string) =>
      inbox.unsafeAdd(transaction, { message, reason: "closed_session_continuation", originalTarget })

    /** Moves what lies in the store, page by page, each in one commit. */
    const moveRest = (key: EndpointKey, after: Order, originalTarget: string, count: number): Effect.Effect<void> =>
      Effect.gen(function* () {
        // What is being written lies behind what is written.
        yield* store.flush
        let from = keyOf(key, after)
        let left = count
        while (true) {
          const records = store.unsafeRange(mail, { after: from, until: under(ordered(key)).until, limit: page })
          if (records.length === 0) {
            moving -= left
            return
          }
          const transaction = new Transaction()
          for (const [recordKey, { message }] of records) {
            transaction.delete(mail, recordKey)
            toInbox(transaction, message, originalTarget)
            moving--
            left--
            from = recordKey
          }
          store.unsafeCommit(transaction)
          yield* Effect.yieldNow()
        }
      })

    const get = (key: EndpointKey): Mailbox => {
      const mailbox = mailboxes.get(key)
      if (mailbox === undefined) throw new Error(`no mailbox of endpoint ${key}`)
      return mailbox
    }

    const detach = (transaction: Transaction, mailbox: Mailbox) => {
      const { state } = mailbox
      const outlet = state.deliversOver
      if (outlet === undefined) return
      byChannel.get(outlet.channel)?.delete(mailbox)
      for (const pushId of state.pushIds()) inFlight.delete(pushId)
      const { dead, write: returned } = state.detach()
      if (dead !== undefined) bury(transaction, mailbox, dead)
      write(transaction, mailbox, returned)
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
        mailboxes.set(key, { key, name, state: new MailboxState(config), isRefusing: false })
      },

      unsafeDeliver: (transaction, key, { kind, message, token }) => {
        const mailbox = get(key)
        const { state } = mailbox
        if (kind === "moved") {
          write(
            transaction,
            mailbox,
            state.write(state.letter(message, { sequence: undefined, token: undefined, isAccepted: true }))
          )
          return true
        }
        const letter = state.letter(message, { sequence: message.sequence, token, isAccepted: false })
        if (state.canPushLive(letter, now()) && push(transaction, mailbox, letter)) {
          if (letter.pushedAt !== undefined) awaitReceipt(mailbox, letter)
          return true
        }
        if (kind === "new" && !hasRoom(mailbox, message.bytes)) {
          mailbox.isRefusing = true
          return false
        }
        write(transaction, mailbox, state.write(letter))
        return true
      },

      unsafeAttach: (transaction, key, outlet) => {
        const mailbox = get(key)
        mailbox.state.attach(outlet)
        if (!channels.unsafeIsWritable(outlet.channel)) mailbox.state.setCongested(true)
        let attached = byChannel.get(outlet.channel)
        if (attached === undefined) {
          attached = new Set()
          byChannel.set(outlet.channel, attached)
        }
        attached.add(mailbox)
        pump(transaction, mailbox)
      },

      unsafeDetach: (transaction, key) => detach(transaction, get(key)),

      unsafeHandToInbox: (transaction, key, originalTarget) => {
        const mailbox = get(key)
        detach(transaction, mailbox)
        mailboxes.delete(key)
        paused.delete(mailbox)
        const { after, bytes, letters, unloaded } = mailbox.state.close()
        totalBytes -= bytes
        const isHere = (letter: Letter) =>
          unloaded === 0 ||
          letter.order.sequence < after.sequence ||
          (letter.order.sequence === after.sequence && letter.order.arrival <= after.arrival)
        const here = letters.filter(isHere)
        totalMessages -= unloaded + letters.length
        for (const letter of here) {
          transaction.delete(mail, keyOf(key, letter.order))
          toInbox(transaction, letter.message, originalTarget)
        }
        if (unloaded === 0) return
        const rest = unloaded + letters.length - here.length
        moving += rest
        run(moveRest(key, after, originalTarget, rest))
      },

      unsafeReceipt: (transaction, channel, pushId) => {
        const flight = inFlight.get(pushId)
        if (flight?.channel !== channel) return false
        inFlight.delete(pushId)
        const letter = flight.mailbox.state.acknowledge(pushId)!
        leave(transaction, flight.mailbox, letter, "delivered")
        pump(transaction, flight.mailbox)
        return true
      },

      unsafeRefuse: (transaction, channel, pushId, reason) => {
        const flight = inFlight.get(pushId)
        if (flight?.channel !== channel) return false
        inFlight.delete(pushId)
        const { mailbox } = flight
        const refused = mailbox.state.refuse(pushId, now(), (failures) =>
          delay(nackBackoff, failures - 1, Math.random())
        )!
        log.unsafeLog("info", "push_refused", {
          message_id: refused.letter.message.id,
          failures: refused.letter.failures,
          reason
        })
        if (refused.dead) bury(transaction, mailbox, refused.letter)
        write(transaction, mailbox, refused.write)
        pump(transaction, mailbox)
        return true
      },

      unsafeWritable: (channel) => {
        for (const mailbox of byChannel.get(channel) ?? []) {
          mailbox.state.setCongested(false)
          pumpAlone(mailbox)
        }
      },

      unsafeUsage: (key) => {
        const { state } = get(key)
        return { undelivered: state.size, inFlight: state.flying, storedBytes: state.bytes }
      },
      unsafeTotals: () => ({ messages: totalMessages, bytes: totalBytes }),
      unsafeOnSpace: (listener) => {
        spaceListeners.push(listener)
      }
    }
  })
)
