/** Messages from the gateway: their order, gaps, acknowledgements, and the cursor that survives the broker. */

import type { Scope } from "effect"
import { Effect } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import type { InboundItem } from "../../services/Connector.js"
import { EventLog } from "../../services/EventLog.js"
import { AnnouncedDeliveries } from "../../services/model/AnnouncedDeliveries.js"
import { type Delivery, DeliveryCursor } from "../../services/model/DeliveryCursor.js"
import type { FromGateway, MessageReceived, RegisterAck } from "../../services/model/GatewayFrame.js"
import { Store } from "../../services/Store.js"
import { idInKey } from "../internal/idInKey.js"
import { makeSweeper } from "../internal/sweeper.js"
import { openCursorStore, runsKept, scopeOf } from "./cursorStore.js"
import { DeliveryMark } from "./deliveryMark.js"
import type { Transmit } from "./sends.js"

type Handler = (batch: ReadonlyArray<InboundItem>) => void

/** A message on its way to the handler. Its delivery is also its token. */
interface Arrived {
  readonly frame: MessageReceived
  readonly bytes: number
  readonly delivery: Delivery
}

export interface Inbound {
  readonly receive: (handler: Handler) => Effect.Effect<void, never, Scope.Scope>
  readonly unsafeAccept: (tokens: ReadonlyArray<unknown>) => void
  readonly unsafeRelease: (tokens: ReadonlyArray<unknown>) => void
  readonly unsafeRedeliver: () => void
  /** The highest number up to which everything is safe. */
  readonly unsafeCursor: () => number
  /** The link carries messages from now on. */
  readonly unsafeRegistered: (ack: RegisterAck) => void
  /** A frame about deliveries, and the size it came in. */
  readonly unsafeFrame: (frame: FromGateway, bytes: number) => void
}

export const makeInbound = (
  transmit: Transmit,
  flow: { readonly pause: () => void; readonly resume: () => void }
): Effect.Effect<Inbound, never, Store | BrokerConfig | EventLog | Scope.Scope> =>
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const store = yield* Store
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const scope = config.runtimeSessionId === "" ? undefined : config.runtimeSessionId
    const scoped = scope === undefined ? {} : { runtimeSessionId: scope }
    const now = () => clock.unsafeCurrentTimeMillis()

    const stored = openCursorStore(store, config.runtimeSessionId, config.deliveredIds)
    const cursor = new DeliveryCursor<Arrived>(
      {
        order: { waitMs: config.gapWaitMs, messages: config.waitingMessages, bytes: config.waitingBytes },
        gapRetryMs: config.gapRetryMs,
        gapRetryMaxMs: config.gapRetryMaxMs,
        rememberedIds: config.deliveredIds
      },
      stored.cursor,
      stored.ids
    )
    const announced = new AnnouncedDeliveries()
    /** The gateway numbers its messages: the older form of acknowledgement is not its own. */
    let hasNumbers = false
    /** The number the gateway was last told. */
    let acknowledged = cursor.cursor

    // -- to the broker -------------------------------------------------------------------------------------------------

    let handler: Handler | undefined
    let batch: Array<Arrived> = []
    let batchBytes = 0
    let isFlushing = false

    const flush = () => {
      isFlushing = false
      if (handler === undefined || batch.length === 0) return
      const highest = batch.reduce((most, { delivery }) => Math.max(most, delivery.sequence ?? 0), 0)
      if (!mark.allows(highest)) {
        pauseIfCrowded()
        // A store that begins to fail meanwhile does not say so.
        return sweeper.unsafeWakeAt(now() + config.cursorMs)
      }
      const items = batch.map(itemOf)
      batch = []
      batchBytes = 0
      flow.resume()
      handler(items)
    }

    /** Once for all that comes in this turn. */
    const flushSoon = () => {
      if (isFlushing || handler === undefined || batch.length === 0) return
      isFlushing = true
      queueMicrotask(flush)
    }
    const mark = new DeliveryMark(store, scopeOf(config.runtimeSessionId), stored.cursor.sequence, flushSoon)

    const itemOf = ({ bytes, delivery, frame }: Arrived): InboundItem => ({
      ...(frame.messageId === undefined ? {} : { messageId: frame.messageId }),
      from: frame.from,
      content: frame.content,
      contentType: frame.contentType,
      metadata: frame.metadata,
      bytes,
      token: delivery,
      redeliverable: delivery.sequence !== undefined && delivery.sequence > cursor.cursor,
      ...(delivery.sequence !== undefined && delivery.sequence <= mark.before ? { mayBeKnown: true } : {}),
      ...(frame.isOutline ? { isTooLarge: true } : {})
    })

    const pauseIfCrowded = () => {
      const { bytes, messages } = cursor.waiting
      if (batch.length + messages >= config.waitingMessages || batchBytes + bytes >= config.waitingBytes) flow.pause()
    }

    /** What is its turn goes to the handler, or waits for one. */
    const handOver = () => {
      for (const arrived of cursor.take(now())) {
        batch.push(arrived)
        batchBytes += arrived.bytes
      }
      if (handler !== undefined) flushSoon()
      else if (batch.length > 0) pauseIfCrowded()
    }

    // -- to the gateway ------------------------------------------------------------------------------------------------

    let isSettling = false

    /** Acknowledges and asks for what is missing, once for all that happens in this turn. */
    const settleSoon = () => {
      if (isSettling) return
      isSettling = true
      queueMicrotask(settle)
    }

    const settle = () => {
      isSettling = false
      handOver()
      acknowledge()
      askForMissing()
      // What is due and was not sent has no link to go over: it is looked at again with the next one.
      for (const at of [cursor.nextExpiry(), cursor.nextRequestAt()]) {
        if (at !== undefined && at > now()) sweeper.unsafeWakeAt(at)
      }
    }

    const acknowledge = () => {
      if (cursor.cursor > acknowledged && transmit({ event: "DELIVERY_ACK", upToSeq: cursor.cursor, ...scoped })) {
        acknowledged = cursor.cursor
      }
      const words = announced.due()
      if (!hasNumbers) for (const upTo of words) transmit({ event: "DELIVERY_ACK", upTo })
    }

    const askForMissing = () => {
      const sinceSeq = cursor.gapRequest(now())
      if (sinceSeq === undefined || !transmit({ event: "REQUEST_GAP_FILL", sinceSeq, ...scoped })) return
      cursor.requested(now(), Math.random())
      log.unsafeLog("debug", "gap_fill_requested", { since: sinceSeq, waiting: cursor.waiting.messages })
    }

    const sweeper = yield* makeSweeper("gateway_gaps", () => {
      settle()
      return undefined
    })

    // -- over a restart ------------------------------------------------------------------------------------------------

    let isChanged = false
    let isSaving = false

    const save = () => {
      if (!isChanged) return
      isChanged = false
      isSaving = true
      stored.unsafeSave(cursor.record(runsKept), cursor.takeUnsaved(), () => {
        isSaving = false
        if (isChanged) saveSoon()
      })
      mark.drawIn()
    }
    const saving = yield* makeSweeper("gateway_cursor", () => {
      if (!isSaving) save()
      return undefined
    })
    /** One write at a time: while the store fails, nothing piles up behind it. */
    const saveSoon = () => {
      isChanged = true
      saving.unsafeWakeAt(now() + config.cursorMs)
    }
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        save()
        mark.leave()
      })
    )

    // -- arriving ------------------------------------------------------------------------------------------------------

    const arrived = (frame: MessageReceived, bytes: number) => {
      const { messageId, seq: sequence } = frame
      if (sequence !== undefined) hasNumbers = true
      const delivery = { sequence, id: messageId === undefined ? undefined : idInKey(messageId) }
      const before = cursor.cursor
      const isNew = cursor.arrive(delivery, { frame, bytes, delivery }, bytes, now())
      if (isNew && sequence === undefined) announced.arrive(delivery)
      if (cursor.cursor > before) saveSoon()
      handOver()
      settleSoon()
    }

    const unsafeFrame = (frame: FromGateway, bytes: number) => {
      if ("runtimeSessionId" in frame && frame.runtimeSessionId !== scope) return
      switch (frame.event) {
        case "MESSAGE_RECEIVED":
          return arrived(frame, bytes)
        case "DELIVERY_PENDING":
          if (!hasNumbers) announced.announce(frame.upTo)
          return settleSoon()
        case "DELIVERY_CURSOR":
          cursor.exists(frame.deliverySeq)
          if (frame.deliveredSeq !== undefined) {
            cursor.advanceTo(frame.deliveredSeq)
            // The gateway missed an acknowledgement, or gave more than was asked for.
            acknowledged = frame.deliveredSeq
          }
          if (frame.deliverySeq > cursor.cursor) cursor.invite()
          saveSoon()
          return settleSoon()
        case "DELIVERY_SKIP":
          cursor.accept({ sequence: frame.seq, id: undefined })
          saveSoon()
          return settleSoon()
      }
    }

    return {
      receive: (given) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            handler = given
            flow.resume()
            flush()
          }),
          () =>
            Effect.sync(() => {
              handler = undefined
            })
        ),
      unsafeAccept: (tokens) => {
        for (const token of tokens as ReadonlyArray<Delivery>) {
          cursor.accept(token)
          if (token.sequence === undefined) announced.accept(token)
        }
        saveSoon()
        settleSoon()
      },
      unsafeRelease: (tokens) => {
        for (const token of tokens as ReadonlyArray<Delivery>) cursor.release(token)
      },
      unsafeRedeliver: () => {
        cursor.askAgain()
        settleSoon()
      },
      unsafeCursor: () => cursor.cursor,
      unsafeRegistered: ({ deliverySeq }) => {
        cursor.reconnected(now(), Math.random())
        announced.forget()
        // The gateway may be behind what it was told: it is told again.
        acknowledged = Math.min(acknowledged, deliverySeq ?? acknowledged)
        log.unsafeLog("info", "delivery_resumed", { cursor: cursor.cursor, gateway: deliverySeq })
        settle()
      },
      unsafeFrame
    }
  })
