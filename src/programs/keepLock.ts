/** A broker whose lock is removed while it runs would not keep a second one from starting. */
import { Effect, Schedule } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { EventLog } from "../services/EventLog.js"
import { InstanceLock } from "../services/InstanceLock.js"
import { Shutdown } from "../services/Shutdown.js"

/** Looks after the lock: takes it again when it is gone, and makes place for whoever was quicker. */
export const keepLock = Effect.gen(function* () {
  const { discoveryCheckMs } = yield* BrokerConfig
  const { lockFile, renew } = yield* InstanceLock
  const log = yield* EventLog
  const shutdown = yield* Shutdown

  let hasFailed = false
  yield* renew.pipe(
    Effect.flatMap((wasGone) =>
      Effect.sync(() => {
        hasFailed = false
        if (wasGone) log.unsafeLog("warn", "lock_restored", { file: lockFile })
      })
    ),
    Effect.catchTag("LockError", ({ message }) =>
      Effect.sync(() => {
        if (!hasFailed) log.unsafeLog("warn", "lock_not_restored", { reason: message })
        hasFailed = true
      })
    ),
    Effect.schedule(Schedule.spaced(discoveryCheckMs)),
    Effect.catchAll(({ pid }) => {
      log.unsafeLog("error", "lock_lost", { file: lockFile, holder: pid })
      return shutdown.request("restart")
    })
  )
})
