/** Presence from the connector's link: the machine, its grace period, and who is told. */
import { Effect, Fiber, FiberHandle, Layer, Stream } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Channels } from "../services/Channels.js"
import { Connector } from "../services/Connector.js"
import { Emitters } from "../services/Emitters.js"
import { EventLog } from "../services/EventLog.js"
import type { PresenceChanged } from "../services/ipc/StreamFrame.js"
import {
  type PresenceEffect,
  type PresenceEvent,
  type Presence as State,
  step
} from "../services/model/PresenceMachine.js"
import { Presence } from "../services/Presence.js"
import { Store, Transaction } from "../services/Store.js"
import { supervised } from "./internal/supervised.js"

export const layer: Layer.Layer<Presence, never, Connector | Channels | Emitters | Store | BrokerConfig | EventLog> =
  Layer.scoped(
    Presence,
    Effect.gen(function* () {
      const { presenceGraceMs } = yield* BrokerConfig
      const connector = yield* Connector
      const channels = yield* Channels
      const emitters = yield* Emitters
      const store = yield* Store
      const log = yield* EventLog
      const grace = yield* FiberHandle.make()
      let state: State = "offline"

      const perform = (transaction: Transaction, effect: PresenceEffect): Effect.Effect<unknown> => {
        switch (effect._tag) {
          case "StartGrace":
            return FiberHandle.run(
              grace,
              apply("presence_grace_expired").pipe(Effect.delay(presenceGraceMs), Effect.interruptible)
            )
          case "CancelGrace":
            return FiberHandle.clear(grace)
          case "Emit":
            return Effect.sync(() => {
              log.unsafeLog("info", "network_presence_changed", { state: effect.state, reason: effect.reason })
              const frame: PresenceChanged = {
                event: "presence_changed",
                presence: effect.state,
                reason: effect.reason
              }
              channels.unsafeBroadcast(JSON.stringify(frame))
              emitters.unsafePresence(transaction, effect.state, effect.reason)
            })
        }
      }

      const apply = (event: PresenceEvent): Effect.Effect<void> =>
        Effect.suspend(() => {
          const { effects, next } = step(state, event)
          state = next
          const transaction = new Transaction()
          return Effect.forEach(effects, (effect) => perform(transaction, effect), { discard: true }).pipe(
            Effect.zipRight(Effect.sync(() => store.unsafeCommit(transaction)))
          )
        }).pipe(Effect.uninterruptible)

      const following = yield* connector.links.pipe(
        Stream.runForEach(({ state }) =>
          state === "up"
            ? apply("connector_connected")
            : state === "down"
              ? apply("connector_disconnected")
              : Effect.void
        ),
        supervised("presence")
      )

      return {
        unsafeCurrent: () => state,
        // From then on the link means nothing: a broker that leaves does not come back.
        leave: Effect.zipRight(Fiber.interrupt(following), apply("shutdown"))
      }
    })
  )
