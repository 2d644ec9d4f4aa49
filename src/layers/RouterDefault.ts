/** Routes batches in a fiber of its own: one wake-up, one loop, one commit per batch. */
import { Cause, Effect, FiberSet, Layer, Mailbox } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Connector, type InboundItem } from "../services/Connector.js"
import { CorrelationIndex } from "../services/CorrelationIndex.js"
import { DeadLetters } from "../services/DeadLetters.js"
import { Directory, type Endpoint } from "../services/Directory.js"
import { EventLog } from "../services/EventLog.js"
import { Inbox, type UndispatchedReason } from "../services/Inbox.js"
import { Ledger } from "../services/Ledger.js"
import { Mailboxes } from "../services/Mailboxes.js"
import { delay } from "../services/model/Backoff.js"
import { HoldBack } from "../services/model/HoldBack.js"
import { EndpointKey, MessageId } from "../services/model/Ids.js"
import { isDeeperThan } from "../services/model/Json.js"
import { isExpired, type Message } from "../services/model/Message.js"
import { admitInbound, expiry, text } from "../services/model/Metadata.js"
import { plan } from "../services/model/RoutePlan.js"
import type { PlatformApi } from "../services/PlatformApi.js"
import { ReplyCorrelations } from "../services/ReplyCorrelations.js"
import { Router } from "../services/Router.js"
import { Store, Transaction } from "../services/Store.js"
import { makeClosedLookup } from "./internal/closedLookup.js"
import { mintTrace, mintUuid } from "./internal/minting.js"
import { routeView } from "./internal/routeView.js"
import { supervised } from "./internal/supervised.js"
import { makeSweeper } from "./internal/sweeper.js"

/** A message on its way through the router. */
interface Arrival {
  readonly item: InboundItem
  readonly message: Message
  /** It says when it expires, and nobody can read that. */
  readonly isExpiryInvalid: boolean
}

/** An arrival for the inbox whose target may be a closed endpoint; later ones for the inbox wait behind it. */
interface Asking extends Arrival {
  readonly target: string | undefined
  isClosed: boolean | undefined
}

const toInbox = "inbox"

export const layer: Layer.Layer<
  Router,
  never,
  | Connector
  | Directory
  | CorrelationIndex
  | ReplyCorrelations
  | Mailboxes
  | Inbox
  | DeadLetters
  | Ledger
  | PlatformApi
  | Store
  | BrokerConfig
  | EventLog
> = Layer.scoped(
  Router,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const connector = yield* Connector
    const directory = yield* Directory
    const correlations = yield* CorrelationIndex
    const replies = yield* ReplyCorrelations
    const mailboxes = yield* Mailboxes
    const inbox = yield* Inbox
    const deadLetters = yield* DeadLetters
    const ledger = yield* Ledger
    const store = yield* Store
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const closedLookup = yield* makeClosedLookup
    const run = yield* FiberSet.makeRuntime<never>()
    const arrivals = yield* Mailbox.make<InboundItem>()

    const isCumulative = connector.abilities.accept === "cumulative"
    const holdBack = new HoldBack({
      messages: isCumulative ? config.holdBackMessages : undefined,
      bytes: isCumulative ? config.holdBackBytes : undefined
    })
    const asking: Array<Asking> = []
    let invalidExpiries = 0
    let asked = 0
    let askedAt = Number.NEGATIVE_INFINITY
    const now = () => clock.unsafeCurrentTimeMillis()

    const view = routeView(directory, correlations)

    // -- taking and refusing -------------------------------------------------------------------------------------------

    /** Nobody else need keep the message. */
    const took = ({ isExpiryInvalid, message }: Arrival) => {
      if (isExpiryInvalid) invalidExpiries++
      holdBack.take(message.id, message.bytes)
    }

    /** The broker has the message for good once the transaction is durable. */
    const accept = (transaction: Transaction, arrival: Arrival) => {
      ledger.unsafeCount("accepted", 1)
      transaction.onDurable(() => connector.unsafeAccept([arrival.item.token]))
      took(arrival)
    }

    /** The message waits at the network and is asked for again. */
    const refuse = ({ item, message }: Arrival, destination: string) => {
      if (holdBack.isEmpty) {
        asked = 0
        log.unsafeLog("warn", "messages_held_back", { destination })
      }
      holdBack.refuse(message.id, destination, now())
      connector.unsafeRelease([item.token])
      redelivery.unsafeWakeAt(now() + delay({ base: config.holdBackMs, cap: config.holdBackMaxMs }, asked, 1))
    }

    const redelivery = yield* makeSweeper("held_back", (at) => {
      if (holdBack.isEmpty) return undefined
      asked++
      // Without a link nothing can come back, and its absence says nothing.
      if (connector.unsafeLink().state === "up") {
        askedAt = at
        holdBack.askAgain()
        connector.unsafeRedeliver()
      }
      return now() + delay({ base: config.holdBackMs, cap: config.holdBackMaxMs }, asked, Math.random())
    })

    /** Space was freed. Slots freed soon after each other are one request: an answer is awaited before the next. */
    const askSoon = () => {
      if (holdBack.isEmpty) return
      asked = 0
      redelivery.unsafeWakeAt(Math.max(now() + 10, askedAt + config.holdBackMs / 10))
    }
    inbox.unsafeOnSpace(askSoon)
    mailboxes.unsafeOnSpace(askSoon)

    // -- one message ---------------------------------------------------------------------------------------------------

    const arrive = (item: InboundItem): Arrival => {
      const expiresAt = expiry(item.metadata)
      const message: Message = {
        id: MessageId(item.messageId ?? mintUuid()),
        from: item.from,
        content: item.content,
        contentType: item.contentType,
        metadata: admitInbound(item.metadata, mintTrace),
        arrivedAt: now(),
        bytes: item.bytes,
        ...(typeof expiresAt === "number" ? { expiresAt } : {})
      }
      return { item, message, isExpiryInvalid: expiresAt === "invalid" }
    }

    /** Accepted, and given up at once. */
    const bury = (transaction: Transaction, arrival: Arrival, reason: "too_large" | "too_deep") => {
      const { item, message } = arrival
      accept(transaction, arrival)
      deadLetters.unsafeAdd(transaction, {
        message,
        reason,
        at: message.arrivedAt,
        ...(item.recipient === undefined ? {} : { recipient: item.recipient })
      })
    }

    const route = (transaction: Transaction, item: InboundItem) => {
      const arrival = arrive(item)
      const { message } = arrival
      if (item.isTooLarge) return bury(transaction, arrival, "too_large")
      if (inbox.unsafeHas(message.id) || mailboxes.unsafeHolds(message.id)) {
        // The first of its id may not be durable yet.
        transaction.isBarrier = true
        transaction.onDurable(() => connector.unsafeAccept([item.token]))
        return holdBack.take(message.id, 0)
      }
      if (isDeeperThan(item.metadata, config.jsonDepth)) return bury(transaction, arrival, "too_deep")
      if (isExpired(message, message.arrivedAt)) {
        accept(transaction, arrival)
        return ledger.unsafeCount("expired", 1)
      }
      if (item.redeliverable && holdBack.stalls(message.id)) return connector.unsafeRelease([item.token])
      const route = plan(message.metadata, item.recipient, view)
      if (route._tag === "Endpoint") {
        if (route.contenders > 1) {
          log.unsafeLog("warn", "correlation_id_collision", { message_id: message.id, contenders: route.contenders })
        }
        return deliver(transaction, arrival, route.endpoint)
      }
      askOrAdd(transaction, arrival, route.unknownTarget)
    }

    const deliver = (transaction: Transaction, arrival: Arrival, { key }: Endpoint) => {
      const { item, message } = arrival
      const destination = String(key)
      const kind = item.redeliverable ? "new" : "unrepeatable"
      if (kind === "new" && !holdBack.mayPass(message.id, destination)) return refuse(arrival, destination)
      const { mayBeKnown = false, token } = item
      if (!mailboxes.unsafeDeliver(transaction, key, { message, token, kind, mayBeKnown })) {
        return refuse(arrival, destination)
      }
      took(arrival)
      const correlationId = text(message.metadata, "correlation_id")
      if (correlationId !== undefined) replies.unsafeRecord(transaction, key, correlationId)
    }

    // -- the inbox -----------------------------------------------------------------------------------------------------

    /** To the inbox; when its target may be a closed endpoint, the platform is asked first, and what comes later waits. */
    const askOrAdd = (transaction: Transaction, arrival: Arrival, target: string | undefined) => {
      if (arrival.item.redeliverable) {
        const isCrowded = asking.length >= config.holdBackMessages
        if (!holdBack.mayPass(arrival.message.id, toInbox) || isCrowded) return refuse(arrival, toInbox)
      }
      const isClosed =
        target === undefined ? false : directory.unsafeHasEnded(target) || closedLookup.unsafePeek(target)
      if (asking.length === 0 && isClosed !== undefined) return addToInbox(transaction, arrival, target, isClosed)
      const entry: Asking = { ...arrival, target, isClosed }
      asking.push(entry)
      if (isClosed !== undefined) return
      run(
        Effect.map(closedLookup.isClosed(target!), (answer) => {
          entry.isClosed = answer
          addAnswered()
        })
      )
    }

    const addAnswered = () => {
      const transaction = new Transaction()
      while (asking[0]?.isClosed !== undefined) {
        const { isClosed, target, ...arrival } = asking.shift()!
        addToInbox(transaction, arrival, target, isClosed === true)
      }
      store.unsafeCommit(transaction)
    }

    const addToInbox = (transaction: Transaction, arrival: Arrival, target: string | undefined, isClosed: boolean) => {
      const { item, message } = arrival
      const hasRoom = inbox.unsafeHasRoom(message.bytes) && store.unsafeHealth()._tag === "Healthy"
      if (item.redeliverable && !hasRoom) return refuse(arrival, toInbox)
      accept(transaction, arrival)
      const reason: UndispatchedReason = isClosed ? "closed_session_continuation" : "unaddressed"
      inbox.unsafeAdd(transaction, {
        message,
        reason,
        ...(isClosed && target !== undefined ? { originalTarget: target } : {})
      })
      log.unsafeLog("info", "undispatched_added", { undispatched_id: message.id, reason })
    }

    // -- the loop ------------------------------------------------------------------------------------------------------

    const routeAll = (items: Iterable<InboundItem>) => {
      const transaction = new Transaction()
      for (const item of items) {
        try {
          const own = new Transaction()
          route(own, item)
          transaction.append(own)
        } catch (fault) {
          // It must not stop the others. The network has it still, and none of what was decided for it is written.
          log.unsafeLog("error", "message_not_routed", {
            message_id: item.messageId,
            cause: Cause.pretty(Cause.die(fault))
          })
          connector.unsafeRelease([item.token])
        }
      }
      store.unsafeCommit(transaction)
    }

    yield* arrivals.takeAll.pipe(
      Effect.map(([items]) => routeAll(items)),
      Effect.forever,
      supervised("router")
    )
    yield* connector.receive((batch) => {
      arrivals.unsafeOfferAll(batch)
    })

    return {
      unsafeStatus: () => ({
        heldBack: holdBack.list().map(({ destination, since, waiting }) => ({
          destination:
            destination === toInbox
              ? toInbox
              : (directory.unsafeByKey(EndpointKey(Number(destination)))?.id ?? destination),
          since,
          waiting
        })),
        isStalled: holdBack.isStalled,
        invalidExpiries
      })
    }
  })
)
