/** One connection to the gateway, from opening it to its end. */

import type { Scope } from "effect"
import { Deferred, Effect } from "effect"
import { type RawData, WebSocket } from "ws"
import type { Settings } from "../../services/BrokerConfig.js"
import {
  type FromGateway,
  gatewayProtocolVersion,
  parseGatewayFrame,
  type RegisterAck,
  type ToGateway,
  withinLimit
} from "../../services/model/GatewayFrame.js"
import { ConnectionEnd } from "../../services/model/GatewayReconnect.js"

export interface SessionOptions {
  readonly url: string
  readonly settings: Settings
  readonly register: ToGateway
  /** Where the delivery cursor stands. */
  readonly unsafeCursor: () => number
  /** The gateway took the registration. From now on `socket` carries messages. */
  readonly onRegistered: (ack: RegisterAck, socket: WebSocket) => void
  /** Every other frame, and its size. Those that came before the registration's answer follow it. */
  readonly onFrame: (frame: FromGateway, bytes: number) => void
  /** Something that is no frame, or none that may be so large, of this size. */
  readonly onNonsense: (bytes: number) => void
}

const closeCodes = {
  intentional: { code: 1000, reason: "Client disconnect" },
  registerTimeout: { code: 4000, reason: "Register timeout" },
  refused: 4001
} as const
const replacedReason = "Replaced by new Runtime"
const unsupportedReason = "Unsupported protocol version"
const alreadyConnectedReason = "Already connected"

/** A frame of up to so many times the limit is read all the same: what is in it can be accepted, so that it comes no more. */
const readFactor = 2
/** How `ws` names what is larger than it may read. */
const tooLargeCode = "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH"

/** Frames kept until the registration is answered. */
const earlyFrames = 1_000
/** Room for the reason in a close frame, bytes. */
const reasonBytes = 123

const lost = (reason: string, wasRegistered = false) => ConnectionEnd.Lost({ reason, wasRegistered })

/** Registers and serves until the connection ends; says how it ended. Closing the scope disconnects. */
export const session = (options: SessionOptions): Effect.Effect<ConnectionEnd, never, Scope.Scope> =>
  open(options.url, options.settings.gatewayFrameBytes * readFactor).pipe(
    Effect.flatMap((socket) => serve(options, socket)),
    Effect.catchTag("CannotOpen", ({ reason }) => Effect.succeed(lost(reason)))
  )

const open = (url: string, maxPayload: number) =>
  Effect.acquireRelease(
    Effect.try({
      try: () => new WebSocket(url, { maxPayload, perMessageDeflate: false }),
      catch: (error) => ({ _tag: "CannotOpen" as const, reason: (error as Error).message })
    }),
    (socket) =>
      Effect.sync(() => {
        // Stays on until the socket is dead: an `error` nobody hears ends the process.
        socket.removeAllListeners()
        socket.on("error", () => undefined)
        // One that is not read would never hear the other side close.
        socket.resume()
        if (socket.readyState === WebSocket.CONNECTING) socket.terminate()
        else socket.close(closeCodes.intentional.code, closeCodes.intentional.reason)
      })
  )

const serve = (options: SessionOptions, socket: WebSocket): Effect.Effect<ConnectionEnd, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { gatewayFrameBytes, handshakeMs, linkPingMs, registerMs, runtimeSessionId, waitingBytes } = options.settings
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()
    const opened = yield* Deferred.make<void>()
    const ended = yield* Deferred.make<ConnectionEnd>()
    const end = (how: ConnectionEnd) => Deferred.unsafeDone(ended, Effect.succeed(how))
    let isRegistered = false
    let registeredAt = 0
    let isAlive = true
    let early: Array<readonly [FromGateway, number]> = []
    let earlyBytes = 0

    const refuse = (how: ConnectionEnd, code: number, reason: string) => {
      socket.close(code, closeReason(reason))
      end(how)
    }

    const onRegisterAck = (ack: RegisterAck) => {
      if (isRegistered) return
      const refusal = refusalOf(ack, runtimeSessionId)
      if (refusal !== undefined) return refuse(refusal.how, closeCodes.refused, refusal.reason)
      isRegistered = true
      registeredAt = now()
      options.onRegistered(ack, socket)
      for (const [frame, bytes] of early) options.onFrame(frame, bytes)
      early = []
    }

    socket.on("open", () => {
      socket.send(JSON.stringify(options.register))
      Deferred.unsafeDone(opened, Effect.void)
    })
    socket.on("pong", () => {
      isAlive = true
    })
    socket.on("message", (data, isBinary) => {
      isAlive = true
      if (socket.readyState !== WebSocket.OPEN) return
      const bytes = sizeOf(data)
      const frame = isBinary ? undefined : parse(data, bytes, gatewayFrameBytes)
      if (frame === undefined) return options.onNonsense(bytes)
      if (frame.event === "REGISTER_ACK") return onRegisterAck(frame)
      if (isRegistered) return options.onFrame(frame, bytes)
      if (early.length >= earlyFrames || earlyBytes >= waitingBytes) return
      early.push([frame, bytes])
      earlyBytes += bytes
    })
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (socket.readyState === WebSocket.OPEN) return
      if (error.code !== tooLargeCode || !isRegistered) return end(lost(error.message, isRegistered))
      const limit = gatewayFrameBytes * readFactor
      end(ConnectionEnd.TooLarge({ limit, cursor: options.unsafeCursor(), livedMs: now() - registeredAt }))
    })
    socket.on("unexpected-response", (_, response) => {
      end(lost(`the gateway answered the handshake with ${response.statusCode}`))
      socket.terminate()
    })
    socket.on("close", (code, reason) => {
      const why = reason.toString()
      end(
        code === closeCodes.refused && why === replacedReason
          ? ConnectionEnd.Replaced()
          : lost(why === "" ? `the connection was closed (${code})` : `${why} (${code})`, isRegistered)
      )
    })

    const onHandshakeTimeout = () => {
      if (socket.readyState === WebSocket.CONNECTING) end(lost(`the connection did not open within ${handshakeMs} ms`))
    }
    yield* Effect.forkScoped(Effect.delay(Effect.sync(onHandshakeTimeout), handshakeMs))
    const onRegisterTimeout = () => {
      if (isRegistered) return
      const { code, reason } = closeCodes.registerTimeout
      refuse(lost(`the gateway did not answer the registration within ${registerMs} ms`), code, reason)
    }
    yield* Deferred.await(opened).pipe(
      Effect.zipRight(Effect.delay(Effect.sync(onRegisterTimeout), registerMs)),
      Effect.forkScoped
    )
    /** Two intervals without a sign of life: the link is half-open. One that is not read gives no sign. */
    const ping = () => {
      if (socket.isPaused) {
        isAlive = true
        return
      }
      if (!isAlive) {
        end(lost("the gateway gave no sign of life", isRegistered))
        return socket.terminate()
      }
      isAlive = false
      socket.ping()
    }
    yield* Deferred.await(opened).pipe(
      Effect.zipRight(Effect.forever(Effect.delay(Effect.sync(ping), linkPingMs))),
      Effect.forkScoped
    )
    return yield* Deferred.await(ended)
  })

/** Why this answer is no registration; `undefined` when it is one. */
const refusalOf = (ack: RegisterAck, runtimeSessionId: string) => {
  const { deliveryRuntimeSessionId = "", isOk, protocolVersion, reason = "Unknown registration error" } = ack
  if (!isOk) {
    const how =
      reason === unsupportedReason
        ? ConnectionEnd.Unsupported({ reason })
        : reason === alreadyConnectedReason
          ? ConnectionEnd.AlreadyConnected()
          : lost(`the gateway refused the registration: ${reason}`)
    return { how, reason }
  }
  if (protocolVersion !== gatewayProtocolVersion) {
    const why = `${unsupportedReason}: ${protocolVersion}`
    return { how: ConnectionEnd.Unsupported({ reason: why }), reason: why }
  }
  if (deliveryRuntimeSessionId !== runtimeSessionId) {
    const why = `the gateway answered for runtime session "${deliveryRuntimeSessionId}", not "${runtimeSessionId}"`
    return { how: lost(why), reason: "Runtime session mismatch" }
  }
  return undefined
}

/** As much of the text as a close frame holds. */
const closeReason = (text: string): string => {
  let reason = text.slice(0, reasonBytes)
  while (Buffer.byteLength(reason) > reasonBytes) reason = reason.slice(0, -1)
  return reason
}

const sizeOf = (data: RawData): number =>
  Array.isArray(data) ? data.reduce((sum, { length }) => sum + length, 0) : data.byteLength

const parse = (data: RawData, bytes: number, limit: number): FromGateway | undefined => {
  try {
    const frame = parseGatewayFrame(JSON.parse(String(data)))
    return frame === undefined ? undefined : withinLimit(frame, bytes, limit)
  } catch {
    return undefined
  }
}
