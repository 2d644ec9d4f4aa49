/**
 * The open WebSockets of plugins: at most one current channel per plugin process.
 *
 * A channel is pinged and ended after silence. Pushing to a channel whose socket has too much backlog is refused until the
 * backlog is gone: a plugin that does not read costs memory only up to that mark.
 */

import type { Effect } from "effect"
import { Context } from "effect"
import type { ChannelId } from "./model/Ids.js"

/** What a channel needs of its socket. */
export interface ChannelSocket {
  /** Hands the text to the socket; `written` is called once it left the process. */
  readonly send: (text: string, written: () => void) => void
  /** Bytes handed over that have not left the process. */
  readonly backlog: () => number
  readonly ping: () => void
  /** Reads nothing more until `resume`. */
  readonly pause: () => void
  readonly resume: () => void
  /** Starts the closing handshake. */
  readonly close: (code: number, reason: string) => void
  /** Cuts the connection. */
  readonly terminate: () => void
}

export interface Channel {
  readonly id: ChannelId
  readonly pluginPid: number
  /** What the plugin announced in `x-masons-ipc-capabilities`. */
  readonly capabilities: ReadonlySet<string>
  /** Epoch milliseconds. */
  readonly openedAt: number
}

export type PushResult = "pushed" | "congested" | "closed"

export class Channels extends Context.Tag("broker/Channels")<
  Channels,
  {
    /**
     * A new current channel for the process. The one it replaces, if any, is closed with 1000 `replaced` and is no longer open.
     * `onWritable` is called when a congested channel's backlog fell below the low mark.
     */
    readonly unsafeOpen: (
      pluginPid: number,
      capabilities: ReadonlySet<string>,
      socket: ChannelSocket,
      onWritable: (channel: Channel) => void
    ) => { readonly channel: Channel; readonly replaced: Channel | undefined }
    /**
     * The socket ended. False when the channel was not open any more. `answered`: the plugin had answered the broker's closing
     * handshake, so it was alive until then.
     */
    readonly unsafeClosed: (channel: Channel, answered?: boolean) => boolean
    /**
     * For how many milliseconds no newer channel of the process is to be opened, because its clients displaced each other again
     * and again (`model/ChannelContention`); `undefined` when one may.
     */
    readonly unsafeWait: (pluginPid: number) => number | undefined
    /** The processes of which that is so. */
    readonly unsafeContended: () => ReadonlyArray<number>
    /** The plugin showed that it lives: a frame, a pong. */
    readonly unsafeHeard: (channel: Channel) => void
    readonly unsafeGet: (id: ChannelId) => Channel | undefined
    /** The current channel of the process. */
    readonly unsafeCurrent: (pluginPid: number) => Channel | undefined
    /** Hands a frame to the channel's socket. Only `pushed` frames were handed over. */
    readonly unsafePush: (id: ChannelId, frame: string) => PushResult
    /** Hands over what the plugin asked for, congested or not; `written` is called once it left the process. */
    readonly unsafeAnswer: (id: ChannelId, frame: string, written: () => void) => void
    /** True when a push would be `pushed`. */
    readonly unsafeIsWritable: (id: ChannelId) => boolean
    /** Hands a frame to every open channel, or to those that announced the capability, congested ones included. */
    readonly unsafeBroadcast: (frame: string, capability?: string) => void
    /** Closes every channel and waits until its socket ended; after `withinMs` those still open are cut. */
    readonly closeAll: (code: number, reason: string, withinMs: number) => Effect.Effect<void>
    readonly unsafeCount: () => number
  }
>() {}
