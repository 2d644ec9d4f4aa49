/** How the broker leaves: found no more, then quiet, then gone. Every step is bounded; together they are, too. */
import { Effect } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Channels } from "../services/Channels.js"
import { Directory } from "../services/Directory.js"
import { Discovery } from "../services/Discovery.js"
import { EventLog } from "../services/EventLog.js"
import { channelCapabilities } from "../services/ipc/Capabilities.js"
import { type BrokerDraining, closeCodes } from "../services/ipc/StreamFrame.js"
import { Outbox } from "../services/Outbox.js"
import { PlatformApi } from "../services/PlatformApi.js"
import { Presence } from "../services/Presence.js"
import { Shutdown, type ShutdownReason } from "../services/Shutdown.js"
import { Store } from "../services/Store.js"

/** How soon the next broker may be looked for, where one follows. */
const restartAfterMs = 250

export const leave = (reason: ShutdownReason) =>
  Effect.gen(function* () {
    const { leaveMs, leavePlatformMs } = yield* BrokerConfig
    const log = yield* EventLog
    const channels = yield* Channels
    const directory = yield* Directory
    const outbox = yield* Outbox
    const platform = yield* PlatformApi
    const store = yield* Store
    log.unsafeLog("info", "shutdown_begin", { reason })
    const within =
      (ms: number) =>
      <A, E, R>(step: Effect.Effect<A, E, R>) =>
        step.pipe(Effect.disconnect, Effect.interruptible, Effect.timeoutOption(ms))

    // No new work; nobody finds the broker any more.
    yield* (yield* Shutdown).request(reason)
    yield* (yield* Discovery).withdraw
    const isRestart = reason === "restart"
    const notice: BrokerDraining = { event: "broker_draining", retry_after_ms: isRestart ? restartAfterMs : leaveMs }
    channels.unsafeBroadcast(JSON.stringify(notice), channelCapabilities.drainNotice)
    // Endpoints wait for their plugins from now on.
    const { code, reason: why } = closeCodes.leaving
    yield* channels.closeAll(code, why, leaveMs / 5)
    yield* (yield* Presence).leave
    yield* store.flush.pipe(within(leaveMs / 5))
    // The platform hears it, if it listens.
    yield* outbox.drained.pipe(within(leavePlatformMs / 2))
    // The next broker goes on with its records.
    if (!isRestart) {
      yield* Effect.forEach(directory.unsafeAll(), ({ id }) => Effect.ignore(platform.unregister(id)), {
        concurrency: 16,
        discard: true
      }).pipe(within(leavePlatformMs / 2))
    }
    const { waiting } = outbox.unsafeStatus()
    log.unsafeLog(waiting > 0 ? "warn" : "info", "shutdown_end", { reports_waiting: waiting })
  })
