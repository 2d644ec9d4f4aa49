/** The cloud's gateway over WebSocket, protocol 4. Reconnects for ever; a takeover by another runtime ends the broker. */
import { Effect, FiberSet, Layer, Redacted, SubscriptionRef } from "effect"
import { WebSocket } from "ws"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Connector, type Link } from "../services/Connector.js"
import { Credentials } from "../services/Credentials.js"
import { EventLog } from "../services/EventLog.js"
import {
  type FromGateway,
  gatewayProtocolVersion,
  type RegisterAck,
  type ToGateway
} from "../services/model/GatewayFrame.js"
import { ConnectionEnd, fresh, isStuck, next, type ReconnectState } from "../services/model/GatewayReconnect.js"
import { version } from "../services/model/Version.js"
import { Shutdown } from "../services/Shutdown.js"
import type { Store } from "../services/Store.js"
import { makeInbound } from "./gateway/inbound.js"
import { makeSends } from "./gateway/sends.js"
import { session } from "./gateway/session.js"
import { supervised } from "./internal/supervised.js"

/** No message is sent while more than this waits in the socket, bytes. */
const backlogBytes = 64 * 1024 * 1024

export const layer: Layer.Layer<Connector, never, Credentials | Store | Shutdown | BrokerConfig | EventLog> =
  Layer.scoped(
    Connector,
    Effect.gen(function* () {
      const config = yield* BrokerConfig
      const credentials = yield* Credentials
      const shutdown = yield* Shutdown
      const log = yield* EventLog
      const clock = yield* Effect.clock

      const run = yield* FiberSet.makeRuntime<never>()
      const now = () => clock.unsafeCurrentTimeMillis()
      let current: Link = { state: "connecting", since: now() }
      const links = yield* SubscriptionRef.make<Link>(current)
      const setLink = (link: Link) => {
        current = link
        return SubscriptionRef.set(links, link)
      }

      /** The open, registered connection. */
      let socket: WebSocket | undefined
      const transmit = (frame: ToGateway) => {
        if (socket?.readyState !== WebSocket.OPEN) return false
        if (frame.event === "SEND_MESSAGE" && socket.bufferedAmount > backlogBytes) return false
        socket.send(JSON.stringify(frame))
        return true
      }
      const whyNot = () =>
        socket?.readyState === WebSocket.OPEN
          ? "the gateway does not read what it is sent"
          : (current.reason ?? "there is no connection to the gateway")
      const flow = { pause: () => socket?.pause(), resume: () => socket?.resume() }
      const sends = makeSends(transmit, config.sendMs, whyNot)
      const inbound = yield* makeInbound(transmit, flow)

      const onFrame = (frame: FromGateway, bytes: number) => {
        switch (frame.event) {
          case "SEND_ACK":
            if (sends.unsafeAcked(frame.messageId, frame.status)) return
            return log.unsafeLog("debug", "late_send_ack", { message_id: frame.messageId })
          case "ERROR":
            if (frame.messageId !== undefined && sends.unsafeRejected(frame.messageId, frame.code, frame.message))
              return
            return log.unsafeLog("warn", "gateway_error", { code: frame.code, message_id: frame.messageId })
          case "DELIVERY_STATUS":
            return log.unsafeLog("debug", "delivery_status", { message_id: frame.messageId, status: frame.status })
          default:
            return inbound.unsafeFrame(frame, bytes)
        }
      }

      const { alreadyConnectedMs, backoffMaxMs: cap, backoffMs: base, healthyMs } = config
      const policy = { base, cap, alreadyConnectedMs, healthyMs }

      const onRegistered = (ack: RegisterAck, opened: WebSocket) => {
        socket = opened
        const identity = {
          ...(ack.agent === undefined ? {} : { agent: ack.agent.handle }),
          ...(ack.owner === undefined ? {} : { owner: ack.owner.handle })
        }
        log.unsafeLog("info", "connector_connected", identity)
        run(setLink({ state: "up", since: now(), ...identity }))
        inbound.unsafeRegistered(ack)
      }

      const connection = Effect.suspend(() => {
        log.unsafeLog("info", "connecting_to_connector", { cursor: inbound.unsafeCursor() })
        return session({
          url: credentials.connectorUrl,
          settings: config,
          register: {
            event: "REGISTER",
            token: Redacted.value(credentials.runtimeToken),
            protocolVersion: gatewayProtocolVersion,
            clientVersion: version,
            clientKind: "runtime-broker",
            ...(config.runtimeSessionId === "" ? {} : { runtimeSessionId: config.runtimeSessionId }),
            lastKnownSeq: inbound.unsafeCursor()
          },
          unsafeCursor: inbound.unsafeCursor,
          onRegistered,
          onFrame,
          onNonsense: (bytes) => log.unsafeLog("warn", "gateway_frame_ignored", { bytes })
        })
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            socket = undefined
            sends.unsafeLost()
          })
        ),
        Effect.scoped,
        // One connection that fails in an unforeseen way is a lost one.
        Effect.catchAllDefect((defect) => {
          log.unsafeLog("error", "connection_failed", { reason: String((defect as Error)?.stack ?? defect) })
          return Effect.succeed(ConnectionEnd.Lost({ reason: "a fault of the broker", wasRegistered: false }))
        })
      )

      /** One connection after the other, until another runtime takes over or the protocol is not ours. */
      const loop = Effect.gen(function* () {
        let reconnect = fresh
        while (true) {
          const end = yield* connection
          if (end._tag === "Replaced" || end._tag === "Unsupported") {
            const reason =
              end._tag === "Replaced" ? "another runtime of this agent has taken over" : `${end.reason} at the gateway`
            yield* setLink({ state: "down", since: now(), reason })
            log.unsafeLog("error", "connector_given_up", { reason })
            return yield* shutdown.request(end._tag === "Replaced" ? "superseded" : "unsupported_protocol")
          }
          const { state, waitMs } = next(reconnect, end, policy, Math.random())
          const reason = whyDown(end, state)
          yield* setLink({ state: "down", since: current.state === "down" ? current.since : now(), reason })
          if (isStuck(state) && !isStuck(reconnect)) {
            log.unsafeLog("error", "gateway_frame_unreadable", { ...state.tooLarge })
          }
          reconnect = state
          log.unsafeLog("info", "connector_disconnected", { reason, retry_ms: Math.round(waitMs) })
          yield* Effect.sleep(waitMs)
        }
      })
      yield* supervised("gateway")(loop)

      return {
        name: "gateway",
        abilities: {
          accept: "cumulative",
          redelivers: true,
          dedupesSends: false,
          maxFrameBytes: config.gatewayFrameBytes
        },
        receive: inbound.receive,
        unsafeAccept: inbound.unsafeAccept,
        unsafeRelease: inbound.unsafeRelease,
        unsafeRedeliver: inbound.unsafeRedeliver,
        send: sends.send,
        unsafeLink: () => current,
        links: links.changes
      }
    })
  )

/** The reason the link is down, with what an operator can do where that is known. */
const whyDown = (end: Exclude<ConnectionEnd, { _tag: "Replaced" | "Unsupported" }>, state: ReconnectState): string => {
  switch (end._tag) {
    case "Lost":
      return end.reason
    case "AlreadyConnected":
      return "the gateway still sees an older connection of this agent"
    case "TooLarge": {
      const size = `a frame of more than ${end.limit} bytes`
      if (!isStuck(state)) return `the gateway sent ${size}`
      return (
        `the gateway sends ${size} behind message ${end.cursor} again and again, ` +
        "which can be neither read nor skipped (setting gatewayFrameBytes)"
      )
    }
  }
}
