/** A broker that was started for a while ends by itself when the while is over. */
import { Effect, Schedule } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Channels } from "../services/Channels.js"
import { Directory } from "../services/Directory.js"
import { Inbox } from "../services/Inbox.js"
import { Mailboxes } from "../services/Mailboxes.js"
import { Outbox } from "../services/Outbox.js"
import { SendQueue } from "../services/SendQueue.js"
import { Shutdown } from "../services/Shutdown.js"

const longestCheckMs = 10_000

/**
 * Asks for the end once no plugin was connected, no endpoint known, and no message and no report waited for `idleExitMs`. Never
 * when that is 0.
 */
export const leaveWhenIdle = Effect.gen(function* () {
  const { idleExitMs } = yield* BrokerConfig
  if (idleExitMs === 0) return
  const channels = yield* Channels
  const directory = yield* Directory
  const mailboxes = yield* Mailboxes
  const inbox = yield* Inbox
  const outbox = yield* Outbox
  const sends = yield* SendQueue
  const shutdown = yield* Shutdown
  const clock = yield* Effect.clock

  const isUsed = () =>
    channels.unsafeCount() > 0 ||
    directory.unsafeCount() > 0 ||
    mailboxes.unsafeTotals().messages > 0 ||
    inbox.unsafeUsage().messages > 0 ||
    outbox.unsafeStatus().waiting > 0 ||
    sends.unsafeStatus().waiting > 0

  let usedAt = clock.unsafeCurrentTimeMillis()
  const isIdle = Effect.sync(() => {
    const now = clock.unsafeCurrentTimeMillis()
    if (isUsed()) usedAt = now
    return now - usedAt >= idleExitMs
  })
  yield* Effect.repeat(isIdle, {
    until: (idle) => idle,
    schedule: Schedule.spaced(Math.min(longestCheckMs, Math.ceil(idleExitMs / 4)))
  })
  yield* shutdown.request("idle")
})
