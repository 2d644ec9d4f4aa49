/** What a plugin's channel means to the broker: its opening, its frames, and its end. */
import { Effect, Either, Schema } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { type Channel, type ChannelSocket, Channels } from "../../services/Channels.js"
import { EventLog } from "../../services/EventLog.js"
import { PluginFrame } from "../../services/ipc/StreamFrame.js"
import { Limits } from "../../services/Limits.js"
import { Mailboxes } from "../../services/Mailboxes.js"
import { PushId } from "../../services/model/Ids.js"
import { isDeeperThan } from "../../services/model/Json.js"
import { Registry } from "../../services/Registry.js"
import { Store, Transaction } from "../../services/Store.js"

/** An open channel, as its socket feeds it. */
export interface PluginChannel {
  /** Text frames that came together are one batch and one commit. */
  readonly receive: (texts: ReadonlyArray<string>) => void
  /** The socket showed a sign of life. */
  readonly heard: () => void
  /** The socket ended; `answered` says that the plugin answered the broker's closing handshake. */
  readonly closed: (code: number, answered?: boolean) => void
}

export type OpenPluginChannel = (
  pluginPid: number,
  capabilities: ReadonlySet<string>,
  socket: ChannelSocket
) => PluginChannel

const decodeFrame = Schema.decodeUnknownEither(PluginFrame)

export const makePluginChannels: Effect.Effect<
  OpenPluginChannel,
  never,
  Channels | Registry | Mailboxes | Store | Limits | BrokerConfig | EventLog
> = Effect.gen(function* () {
  const { jsonDepth } = yield* BrokerConfig
  const limits = yield* Limits
  const channels = yield* Channels
  const registry = yield* Registry
  const mailboxes = yield* Mailboxes
  const store = yield* Store
  const log = yield* EventLog

  /** One turn and its commit. */
  const commit = (decide: (transaction: Transaction) => void) => {
    const transaction = new Transaction()
    decide(transaction)
    store.unsafeCommit(transaction)
  }

  /** A frame the broker knows, or `undefined`: plugins may be newer than the broker. */
  const parseFrame = (text: string): PluginFrame | undefined => {
    try {
      const json: unknown = JSON.parse(text)
      if (!isDeeperThan(json, jsonDepth)) return Either.getOrUndefined(decodeFrame(json))
      limits.unsafeHit("json_depth")
      return undefined
    } catch {
      return undefined
    }
  }

  const handle = (transaction: Transaction, channel: Channel, text: string) => {
    const frame = parseFrame(text)
    if (frame === undefined) return
    const push = PushId(frame.push_id)
    const isKnown =
      frame.event === "push_ack"
        ? mailboxes.unsafeReceipt(transaction, channel.id, push)
        : mailboxes.unsafeRefuse(transaction, channel.id, push, frame.reason ?? "")
    if (!isKnown) log.unsafeLog("debug", "receipt_ignored", { plugin_pid: channel.pluginPid, event: frame.event })
  }

  return (pluginPid, capabilities, socket) => {
    const { channel, replaced } = channels.unsafeOpen(pluginPid, capabilities, socket, ({ id }) =>
      mailboxes.unsafeWritable(id)
    )
    log.unsafeLog("info", "channel_opened", { plugin_pid: pluginPid, replaces: replaced !== undefined })
    if (replaced !== undefined) {
      commit((transaction) => registry.unsafeChannelReplaced(transaction, replaced, channel))
    }
    return {
      receive: (texts) =>
        commit((transaction) => {
          for (const text of texts) handle(transaction, channel, text)
        }),
      heard: () => channels.unsafeHeard(channel),
      closed: (code, answered) => {
        // Replaced before: its endpoints have moved on.
        if (!channels.unsafeClosed(channel, answered)) return
        log.unsafeLog("info", "channel_closed", { plugin_pid: pluginPid, code })
        commit((transaction) => registry.unsafeChannelClosed(transaction, channel))
      }
    }
  }
})
