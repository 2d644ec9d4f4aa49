import { spawn } from "node:child_process"
import { once } from "node:events"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as LivenessProcess from "../../src/layers/LivenessProcess.js"
import { Liveness } from "../../src/services/Liveness.js"

const child = Effect.acquireRelease(
  Effect.promise(async () => {
    const child = spawn("sleep", ["1000"], { stdio: "ignore" })
    await once(child, "spawn")
    return { pid: child.pid!, child }
  }),
  ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
)
const check = (name: string, test: (liveness: Liveness["Type"]) => Effect.Effect<void, never, Scope.Scope>) =>
  it.scopedLive(name, () => Effect.flatMap(Liveness, test).pipe(Effect.provide(LivenessProcess.layer)))

describe("a process", () => {
  check("is alive while it runs, and dead once it ended", (liveness) =>
    Effect.gen(function* () {
      const { child: running, pid } = yield* child
      const start = yield* liveness.startOf(pid)
      assert.isTrue(liveness.unsafeIsAlive(pid, start))
      assert.isTrue(liveness.unsafeIsAlive(pid, undefined))
      const exited = once(running, "exit")
      running.kill("SIGKILL")
      yield* Effect.promise(() => exited)
      assert.isFalse(liveness.unsafeIsAlive(pid, start))
      assert.isFalse(liveness.unsafeIsAlive(pid, undefined))
      assert.isUndefined(yield* liveness.startOf(pid))
    })
  )
  check("is dead when another one has its id, which the start time tells", (liveness) =>
    Effect.gen(function* () {
      const start = yield* liveness.startOf(process.pid)
      assert.isTrue(liveness.unsafeIsAlive(process.pid, start))
      // Elsewhere the start is not read here: it costs too much.
      if (process.platform === "linux") assert.isFalse(liveness.unsafeIsAlive(process.pid, `${Number(start) - 1}`))
    })
  )
  check("that the broker does not own is alive", (liveness) =>
    Effect.sync(() => assert.isTrue(liveness.unsafeIsAlive(1, undefined)))
  )
  check("is not what is no process id", (liveness) =>
    Effect.sync(() => {
      for (const pid of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        assert.isFalse(liveness.unsafeIsAlive(pid, undefined))
      }
    })
  )
  check("starts at a time that stays the same and differs from another's", (liveness) =>
    Effect.gen(function* () {
      const { pid } = yield* child
      const start = yield* liveness.startOf(pid)
      assert.strictEqual(yield* liveness.startOf(pid), start)
      if (process.platform === "linux") assert.notStrictEqual(start, yield* liveness.startOf(process.pid))
    })
  )
})
