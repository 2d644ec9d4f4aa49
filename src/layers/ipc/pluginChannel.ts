/** What a plugin's channel means to the broker: its opening, its frames, and its end. */
import { Effect, Option, Schema } from "effect"
import { BrokerConfig } from "../../services/BrokerConfig.js"
import { type Channel, type ChannelSocket, Channels } from "../../services/Channels.js"
import type { Directory } from "../../services/Directory.js"
import { EventLog } from "../../services/EventLog.js"
import { Receipt } from "../../services/ipc/StreamFrame.js"
import { Limits } from "../../services/Limits.js"
import { Mailboxes } from "../../services/Mailboxes.js"
import { PushId } from "../../services/model/Ids.js"
import { isDeeperThan } from "../../services/model/Json.js"
import { Registry } from "../../services/Registry.js"
import type { Sender } from "../../services/Sender.js"
import type { Shutdown } from "../../services/Shutdown.js"
import { Store, Transaction } from "../../services/Store.js"
import { TooDeep } from "./body.js"
import type { AnyRefusal } from "./refusals.js"
import { makeStreamSends } from "./streamSends.js"

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

interface Frame {
  readonly event: string
  readonly request_id?: unknown
}

interface ReadFrame {
  readonly frame: Frame
  readonly bytes: number
  /** What is wrong with it, as far as it was read. */
  readonly refused?: AnyRefusal
}

/** The text as a frame; `undefined` when it is none. */
const parse = (text: string): Frame | undefined => {
  try {
    const json = JSON.parse(text)
    return typeof json?.event === "string" ? json : undefined
  } catch {
    return undefined
  }
}

const decodeReceipt = Schema.decodeUnknownOption(Receipt)

export const makePluginChannels: Effect.Effect<
  OpenPluginChannel,
  never,
  Channels | Registry | Directory | Mailboxes | Sender | Store | Shutdown | Limits | BrokerConfig | EventLog
> = Effect.gen(function* () {
  const { jsonDepth } = yield* BrokerConfig
  const limits = yield* Limits
  const channels = yield* Channels
  const registry = yield* Registry
  const mailboxes = yield* Mailboxes
  const store = yield* Store
  const log = yield* EventLog

  const sendsOf = yield* makeStreamSends

  /** Of a frame that nests too deep only what its answer needs. */
  const read = (text: string): ReadonlyArray<ReadFrame> => {
    const frame = parse(text)
    if (frame === undefined) return []
    const bytes = Buffer.byteLength(text)
    if (!isDeeperThan(frame, jsonDepth)) return [{ frame, bytes }]
    limits.unsafeHit("json_depth")
    const refused = new TooDeep({ message: `The frame nests deeper than ${jsonDepth} levels.` })
    return [{ frame: { event: frame.event, request_id: frame.request_id }, bytes, refused }]
  }

  const handleReceipt = (transaction: Transaction, channel: Channel, frame: Receipt) => {
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
    if (replaced !== undefined) registry.unsafeChannelReplaced(replaced, channel)
    const send = sendsOf(channel, socket)
    return {
      receive: (texts) => {
        const frames = texts.flatMap(read)
        const transaction = new Transaction()
        for (const { frame } of frames) {
          // Plugins may be newer than the broker: what it does not know is ignored.
          const receipt = Option.getOrUndefined(decodeReceipt(frame))
          if (receipt !== undefined) handleReceipt(transaction, channel, receipt)
        }
        store.unsafeCommit(transaction)
        for (const { bytes, frame, refused } of frames) if (frame.event === "send") send(frame, bytes, refused)
      },
      heard: () => channels.unsafeHeard(channel),
      closed: (code, answered) => {
        // Replaced before: its endpoints have moved on.
        if (!channels.unsafeClosed(channel, answered)) return
        log.unsafeLog("info", "channel_closed", { plugin_pid: pluginPid, code })
        registry.unsafeChannelClosed(channel)
      }
    }
  }
})
