/** The plugin stream's WebSocket: the upgrade, and the socket behind a channel. */
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import type { Scope } from "effect"
import { Effect } from "effect"
import { WebSocket, WebSocketServer } from "ws"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { type ChannelSocket, Channels } from "../../services/Channels.js"
import type { Directory } from "../../services/Directory.js"
import type { EventLog } from "../../services/EventLog.js"
import { pidFromHeader } from "../../services/ipc/Fields.js"
import { Limits } from "../../services/Limits.js"
import type { Mailboxes } from "../../services/Mailboxes.js"
import { BadRequest, ChannelContended, PluginPidInvalid, TooManyChannels } from "../../services/model/Errors.js"
import type { Registry } from "../../services/Registry.js"
import type { Sender } from "../../services/Sender.js"
import { Shutdown } from "../../services/Shutdown.js"
import type { Store } from "../../services/Store.js"
import { type AdmissionRules, admit } from "./admission.js"
import { makePluginChannels, type PluginChannel } from "./pluginChannel.js"
import { leaving, refuseUpgrade } from "./refusals.js"
import { type Routes, streamPath } from "./routes.js"

/** What an upgrade leads to. */
const streamRoutes: Routes = {
  find: (method, path) =>
    method === "GET" && path === streamPath ? { access: "plugins", path: streamPath } : undefined,
  none: (method, path) => `There is no stream at ${method} ${path}; it is at GET ${streamPath}.`
}

/** Handles the node server's `upgrade` event. Every socket it opened is cut when the scope ends. */
export const makeStream = (
  rules: AdmissionRules
): Effect.Effect<
  (request: IncomingMessage, socket: Duplex, head: Buffer) => void,
  never,
  | Channels
  | Registry
  | Directory
  | Mailboxes
  | Sender
  | Store
  | Shutdown
  | Limits
  | BrokerConfig
  | EventLog
  | Scope.Scope
> =>
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const channels = yield* Channels
    const shutdown = yield* Shutdown
    const limits = yield* Limits
    const openChannel = yield* makePluginChannels

    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () => new WebSocketServer({ noServer: true, maxPayload: config.frameBytes, perMessageDeflate: false })
      ),
      (server) =>
        Effect.sync(() => {
          for (const socket of server.clients) socket.terminate()
          server.close()
        })
    )

    // What is admitted and no WebSocket handshake.
    server.on("wsClientError", (error, socket) =>
      refuseUpgrade(socket, new BadRequest({ message: `This opens no stream: ${error.message}.` }))
    )

    const refusalFor = (pluginPid: number | undefined) => {
      if (pluginPid === undefined) {
        return new PluginPidInvalid({ message: "The header x-plugin-pid must be the plugin's process id." })
      }
      if (shutdown.unsafeIsLeaving()) return leaving()
      if (channels.unsafeWait(pluginPid) !== undefined) {
        limits.unsafeHit("channel_contention")
        return new ChannelContended({
          message:
            `Another client with process id ${pluginPid} is connected, and the two displaced each other again and again. ` +
            "Run one client per process, and in each process id namespace a broker of its own.",
          retryable: true
        })
      }
      if (channels.unsafeCount() < config.channels || channels.unsafeCurrent(pluginPid) !== undefined) return undefined
      limits.unsafeHit("channels")
      return new TooManyChannels({ message: `All ${config.channels} plugin channels are in use.`, retryable: true })
    }

    return (request, socket, head) => {
      const admission = admit(request, rules, streamRoutes)
      if ("_tag" in admission) return refuseUpgrade(socket, admission)
      const pluginPid = pidFromHeader(String(request.headers["x-plugin-pid"] ?? ""))
      const refusal = refusalFor(pluginPid)
      if (refusal !== undefined) return refuseUpgrade(socket, refusal, channels.unsafeWait(pluginPid ?? 0))
      server.handleUpgrade(request, socket, head, (webSocket) => {
        // Resets and broken frames: the close event says all that matters.
        webSocket.on("error", ({ code }: NodeJS.ErrnoException) => {
          if (code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH") limits.unsafeHit("frame_bytes")
        })
        const channel = channelSocket(webSocket)
        feed(webSocket, channel, openChannel(pluginPid!, capabilitiesOf(request), channel))
      })
    }
  })

/** The code of an end without a close frame. */
const noCloseFrame = 1006

interface StreamSocket extends ChannelSocket {
  /** The broker began the closing handshake, and the plugin ended it, with whatever code: clients need not repeat the broker's. */
  readonly wasAnswered: (code: number) => boolean
}

const channelSocket = (socket: WebSocket): StreamSocket => {
  let hasClosed = false
  return {
    send: (text: string, written: () => void) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(text, written)
    },
    backlog: () => socket.bufferedAmount,
    ping: () => {
      if (socket.readyState === WebSocket.OPEN) socket.ping()
    },
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: (code, reason) => {
      hasClosed ||= socket.readyState === WebSocket.OPEN
      socket.close(code, reason)
    },
    terminate: () => socket.terminate(),
    wasAnswered: (code) => hasClosed && code !== noCloseFrame
  }
}

const feed = (socket: WebSocket, { wasAnswered }: StreamSocket, channel: PluginChannel) => {
  let batch: Array<string> = []
  socket.on("message", (data, isBinary) => {
    channel.heard()
    if (isBinary) return
    batch.push(String(data))
    if (batch.length > 1) return
    queueMicrotask(() => {
      const texts = batch
      batch = []
      channel.receive(texts)
    })
  })
  socket.on("pong", channel.heard)
  socket.on("ping", channel.heard)
  socket.on("close", (code) => channel.closed(code, wasAnswered(code)))
}

const capabilitiesOf = (request: IncomingMessage): ReadonlySet<string> =>
  new Set(
    String(request.headers["x-masons-ipc-capabilities"] ?? "")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== "")
  )
