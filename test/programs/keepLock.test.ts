import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, TestClock } from "effect"
import * as ShutdownDefault from "../../src/layers/ShutdownDefault.js"
import { keepLock } from "../../src/programs/keepLock.js"
import { AlreadyRunning, InstanceLock, LockError, ToolAtWork } from "../../src/services/InstanceLock.js"
import { Shutdown } from "../../src/services/Shutdown.js"
import { configWith, KeptLog } from "../kit/ground.js"

const discoveryCheckMs = 1_000
const lockFile = "/somewhere/broker.lock"
const held = Effect.succeed(false)
const restored = Effect.succeed(true)
const unwritable = new LockError({ message: "The disk is full." })
const lost = new AlreadyRunning({ pid: 4711, lockFile })

/** What the log has, and why the broker is to leave, after looks at the lock that found this. */
const found = (...looks: ReadonlyArray<InstanceLock["Type"]["renew"]>) => {
  const log = new KeptLog()
  let looked = 0
  const lock = Layer.succeed(InstanceLock, { lockFile, renew: Effect.suspend(() => looks[looked++] ?? held) })
  return Effect.gen(function* () {
    yield* Effect.forkScoped(keepLock)
    yield* TestClock.adjust(discoveryCheckMs * (looks.length + 2))
    return { events: log.events, reason: (yield* Shutdown).unsafeReason(), looked }
  }).pipe(Effect.provide([ShutdownDefault.layer, lock, log.layer, configWith({ discoveryCheckMs })]))
}

describe("a broker that looks after its lock", () => {
  it.scoped("says nothing as long as it has it", () =>
    Effect.gen(function* () {
      const { events, looked, reason } = yield* found(held, held)
      assert.deepStrictEqual([events, reason], [[], undefined])
      assert.isAtLeast(looked, 3)
    })
  )
  it.scoped("says each time that it had to take it again", () =>
    Effect.gen(function* () {
      const { events, reason } = yield* found(restored, held, restored)
      assert.deepStrictEqual([events, reason], [["lock_restored", "lock_restored"], undefined])
    })
  )
  it.scoped("says once that it cannot, goes on, and says when it can", () =>
    Effect.gen(function* () {
      const { events, reason } = yield* found(unwritable, unwritable, restored, unwritable)
      assert.deepStrictEqual(events, ["lock_not_restored", "lock_restored", "lock_not_restored"])
      assert.isUndefined(reason)
    })
  )
  it.scoped("makes place for another one, or a command, that has it, and looks no further", () =>
    Effect.gen(function* () {
      for (const other of [lost, new ToolAtWork({ pid: 4711, lockFile, purpose: "store compact" })]) {
        const { events, looked, reason } = yield* found(held, other, other)
        assert.deepStrictEqual([events, looked, reason], [["lock_lost"], 2, "restart"])
      }
    })
  )
})
