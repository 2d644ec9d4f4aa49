/** The open channels of this process. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { type Channel, type ChannelSocket, Channels } from "../services/Channels.js"
import { EventLog } from "../services/EventLog.js"
import { closeCodes } from "../services/ipc/StreamFrame.js"
import { ChannelContention } from "../services/model/ChannelContention.js"
import { ChannelId } from "../services/model/Ids.js"
import { makeSweeper } from "./internal/sweeper.js"

interface OpenChannel extends Channel {
  readonly socket: ChannelSocket
  readonly onWritable: (channel: Channel) => void
  heardAt: number
  pingedAt: number
  isCongested: boolean
}

export const layer: Layer.Layer<Channels, never, BrokerConfig | EventLog> = Layer.scoped(
  Channels,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const { congestedBytes, pingIntervalMs, silenceMs, uncongestedBytes } = config
    const log = yield* EventLog
    const clock = yield* Effect.clock
    const open = new Map<ChannelId, OpenChannel>()
    const current = new Map<number, OpenChannel>()
    const contention = new ChannelContention({
      count: config.contentionCount,
      withinMs: config.contentionWithinMs,
      restMs: config.contentionRestMs
    })
    let last = 0
    let onEmpty: (() => void) | undefined

    const remove = (channel: Channel, answered = false): boolean => {
      const { pluginPid } = channel
      if (!open.delete(channel.id)) {
        if (answered && current.has(pluginPid) && contention.displaced(pluginPid, clock.unsafeCurrentTimeMillis())) {
          log.unsafeLog("warn", "channel_contended", { plugin_pid: pluginPid, rest_ms: config.contentionRestMs })
        }
        return false
      }
      if (current.get(pluginPid)?.id === channel.id) {
        current.delete(pluginPid)
        contention.ended(pluginPid)
      }
      if (open.size === 0) onEmpty?.()
      return true
    }

    /** Looks at the backlog after a write left the process, and tells once when it is low again. */
    const written = (channel: OpenChannel) => () => {
      if (!channel.isCongested || channel.socket.backlog() >= uncongestedBytes || !open.has(channel.id)) return
      channel.isCongested = false
      channel.onWritable(channel)
    }

    const hand = (channel: OpenChannel, frame: string, then?: () => void) => {
      const hasLeft = written(channel)
      channel.socket.send(
        frame,
        then === undefined
          ? hasLeft
          : () => {
              hasLeft()
              then()
            }
      )
      if (channel.socket.backlog() > congestedBytes) channel.isCongested = true
    }

    const sweeper = yield* makeSweeper("channels", (now) => {
      let next = Number.POSITIVE_INFINITY
      for (const channel of open.values()) {
        if (now >= channel.heardAt + silenceMs) {
          log.unsafeLog("warn", "channel_silent", { plugin_pid: channel.pluginPid, silent_ms: now - channel.heardAt })
          channel.heardAt = now
          channel.socket.terminate()
        } else if (now >= channel.pingedAt + pingIntervalMs) {
          channel.pingedAt = now
          channel.socket.ping()
        }
        next = Math.min(next, channel.heardAt + silenceMs, channel.pingedAt + pingIntervalMs)
      }
      return next
    })

    return {
      unsafeOpen: (pluginPid, capabilities, socket, onWritable) => {
        const now = clock.unsafeCurrentTimeMillis()
        const replaced = current.get(pluginPid)
        const id = ChannelId(++last)
        const channel: OpenChannel = {
          id,
          pluginPid,
          capabilities,
          openedAt: now,
          socket,
          onWritable,
          heardAt: now,
          pingedAt: now,
          isCongested: false
        }
        open.set(id, channel)
        sweeper.unsafeWakeAt(now + pingIntervalMs)
        current.set(pluginPid, channel)
        if (replaced !== undefined) {
          open.delete(replaced.id)
          replaced.socket.close(closeCodes.replaced.code, closeCodes.replaced.reason)
        }
        return { channel, replaced }
      },
      unsafeClosed: remove,
      unsafeWait: (pluginPid) => contention.wait(pluginPid, clock.unsafeCurrentTimeMillis()),
      unsafeContended: () => contention.resting(clock.unsafeCurrentTimeMillis()),
      unsafeHeard: (channel) => {
        const heard = open.get(channel.id)
        if (heard !== undefined) heard.heardAt = clock.unsafeCurrentTimeMillis()
      },
      unsafeGet: (id) => open.get(id),
      unsafeCurrent: (pluginPid) => current.get(pluginPid),
      unsafePush: (id, frame) => {
        const channel = open.get(id)
        if (channel === undefined) return "closed"
        if (channel.isCongested) return "congested"
        hand(channel, frame)
        return "pushed"
      },
      unsafeAnswer: (id, frame, then) => {
        const channel = open.get(id)
        if (channel !== undefined) hand(channel, frame, then)
      },
      unsafeIsWritable: (id) => open.get(id)?.isCongested === false,
      unsafeBroadcast: (frame, capability) => {
        for (const channel of open.values()) {
          if (capability === undefined || channel.capabilities.has(capability)) hand(channel, frame)
        }
      },
      closeAll: (code, reason, withinMs) =>
        Effect.async<void>((resume) => {
          if (open.size === 0) return resume(Effect.void)
          onEmpty = () => resume(Effect.void)
          for (const channel of open.values()) channel.socket.close(code, reason)
        }).pipe(
          // The broker leaves uninterruptibly, and a timeout waits for what cannot be interrupted.
          Effect.interruptible,
          Effect.timeoutOption(withinMs),
          Effect.zipRight(
            Effect.sync(() => {
              for (const channel of open.values()) channel.socket.terminate()
            })
          )
        ),
      unsafeCount: () => open.size
    }
  })
)
