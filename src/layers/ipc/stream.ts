/** The plugin stream: the upgrade, and what a channel's frames and its end mean to the broker. */
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import type { Scope } from "effect"
import { Effect, Either, Schema } from "effect"
import { WebSocket, WebSocketServer } from "ws"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { type Channel, Channels } from "../../services/Channels.js"
import { EventLog } from "../../services/EventLog.js"
import { pidFromHeader } from "../../services/ipc/Fields.js"
import { PluginFrame } from "../../services/ipc/StreamFrame.js"
import { Mailboxes } from "../../services/Mailboxes.js"
import { BrokerDraining, NotFound, PluginPidInvalid, TooManyChannels } from "../../services/model/Errors.js"
import { PushId } from "../../services/model/Ids.js"
import { isDeeperThan } from "../../services/model/Json.js"
import { Registry } from "../../services/Registry.js"
import { Shutdown } from "../../services/Shutdown.js"
import { Store, Transaction } from "../../services/Store.js"
import { type AdmissionRules, admit } from "./admission.js"
import { refuseUpgrade } from "./refusals.js"

const streamPath = "/v1/stream"
const decodeFrame = Schema.decodeUnknownEither(PluginFrame)

/** Handles the node server's `upgrade` event. Every channel it opened is cut when the scope ends. */
export const makeStream = (
  rules: () => AdmissionRules
): Effect.Effect<
  (request: IncomingMessage, socket: Duplex, head: Buffer) => void,
  never,
  Channels | Registry | Mailboxes | Store | Shutdown | BrokerConfig | EventLog | Scope.Scope
> =>
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const channels = yield* Channels
    const registry = yield* Registry
    const mailboxes = yield* Mailboxes
    const store = yield* Store
    const shutdown = yield* Shutdown
    const log = yield* EventLog

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

    /** The frames that came in one turn are one batch and one commit. */
    const receive = (channel: Channel, texts: ReadonlyArray<string>) => {
      const transaction = new Transaction()
      for (const text of texts) handleFrame(transaction, channel, text)
      store.unsafeCommit(transaction)
    }

    const handleFrame = (transaction: Transaction, channel: Channel, text: string) => {
      const frame = parseFrame(text, config.jsonDepth)
      if (frame === undefined) return
      const push = PushId(frame.push_id)
      const isKnown =
        frame.event === "push_ack"
          ? mailboxes.unsafeReceipt(transaction, channel.id, push)
          : mailboxes.unsafeRefuse(transaction, channel.id, push, frame.reason ?? "")
      if (!isKnown) log.unsafeLog("debug", "receipt_ignored", { plugin_pid: channel.pluginPid, event: frame.event })
    }

    const openChannel = (socket: WebSocket, pluginPid: number, capabilities: ReadonlySet<string>) => {
      const { channel, replaced } = channels.unsafeOpen(
        pluginPid,
        capabilities,
        {
          send: (text, written) => {
            if (socket.readyState === WebSocket.OPEN) socket.send(text, written)
          },
          backlog: () => socket.bufferedAmount,
          ping: () => socket.ping(),
          close: (code, reason) => socket.close(code, reason),
          terminate: () => socket.terminate()
        },
        ({ id }) => mailboxes.unsafeWritable(id)
      )
      if (replaced !== undefined) {
        const transaction = new Transaction()
        registry.unsafeChannelReplaced(transaction, replaced, channel)
        store.unsafeCommit(transaction)
      }
      log.unsafeLog("info", "channel_opened", { plugin_pid: pluginPid, replaces: replaced !== undefined })

      let batch: Array<string> = []
      socket.on("message", (data, isBinary) => {
        channels.unsafeHeard(channel)
        if (isBinary) return
        batch.push(String(data))
        if (batch.length > 1) return
        queueMicrotask(() => {
          const texts = batch
          batch = []
          receive(channel, texts)
        })
      })
      socket.on("pong", () => channels.unsafeHeard(channel))
      socket.on("ping", () => channels.unsafeHeard(channel))
      socket.on("close", (code) => {
        if (!channels.unsafeClosed(channel)) return
        log.unsafeLog("info", "channel_closed", { plugin_pid: pluginPid, code })
        const transaction = new Transaction()
        registry.unsafeChannelClosed(transaction, channel)
        store.unsafeCommit(transaction)
      })
    }

    return (request, socket, head) => {
      // A reset during the handshake must find a listener.
      socket.on("error", () => socket.destroy())
      const admission = admit(request, rules())
      if ("_tag" in admission) return refuseUpgrade(socket, admission)
      if (admission.path !== streamPath || request.method !== "GET") {
        return refuseUpgrade(
          socket,
          new NotFound({ message: `The stream is at ${streamPath}.`, path: request.url ?? "" })
        )
      }
      const header = request.headers["x-plugin-pid"]
      const pluginPid = header === undefined ? undefined : pidFromHeader(String(header))
      if (pluginPid === undefined) {
        return refuseUpgrade(
          socket,
          new PluginPidInvalid({ message: "The header x-plugin-pid must be the plugin's process id." })
        )
      }
      if (shutdown.unsafeIsLeaving()) {
        return refuseUpgrade(socket, new BrokerDraining({ message: "The broker is leaving.", retryable: true }))
      }
      if (channels.unsafeCount() >= config.channels && channels.unsafeCurrent(pluginPid) === undefined) {
        return refuseUpgrade(
          socket,
          new TooManyChannels({ message: `All ${config.channels} plugin channels are in use.`, retryable: true })
        )
      }
      server.handleUpgrade(request, socket, head, (webSocket) => {
        // Resets and frames over the limit: the close event says all that matters.
        webSocket.on("error", () => undefined)
        openChannel(webSocket, pluginPid, capabilitiesOf(request))
      })
    }
  })

const capabilitiesOf = (request: IncomingMessage): ReadonlySet<string> =>
  new Set(
    String(request.headers["x-masons-ipc-capabilities"] ?? "")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== "")
  )

/** A frame the broker knows, or `undefined`: plugins may be newer than the broker. */
const parseFrame = (text: string, jsonDepth: number): PluginFrame | undefined => {
  try {
    const json: unknown = JSON.parse(text)
    return isDeeperThan(json, jsonDepth) ? undefined : Either.getOrUndefined(decodeFrame(json))
  } catch {
    return undefined
  }
}
