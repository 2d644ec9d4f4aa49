import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { bootId, processExists, quickStartOf, startOf } from "../../../src/layers/machine/processes.js"

const child = Effect.acquireRelease(
  Effect.promise(async () => {
    const child = spawn("sleep", ["1000"], { stdio: "ignore" })
    await once(child, "spawn")
    return child
  }),
  (child) => Effect.sync(() => child.kill("SIGKILL"))
)
const kill = (child: ChildProcess) =>
  Effect.promise(async () => {
    const exited = once(child, "exit")
    child.kill("SIGKILL")
    await exited
  })
const onLinux = process.platform === "linux"

describe("does a process exist?", () => {
  it("this one does", () => assert.isTrue(processExists(process.pid)))
  it("one of another user does, whether or not it may be signalled", () => assert.isTrue(processExists(1)))
  it("what is no process id names none", () => {
    for (const pid of [0, -1, -process.pid, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
      assert.isFalse(processExists(pid), String(pid))
    }
  })
  it.scopedLive("a child does until it has ended and its parent has looked", () =>
    Effect.gen(function* () {
      const running = yield* child
      assert.isTrue(processExists(running.pid!))
      yield* kill(running)
      assert.isFalse(processExists(running.pid!))
    })
  )
})

describe("when did a process start?", () => {
  it("the same answer each time it is asked, quick or slow", async () => {
    const start = await startOf(process.pid)
    assert.strictEqual(await startOf(process.pid), start)
    if (onLinux) {
      assert.match(start!, /^\d+$/)
      assert.strictEqual(quickStartOf(process.pid), start)
    }
  })
  it("of a process that is not there nothing is known", async () => {
    assert.isUndefined(quickStartOf(2 ** 30))
    assert.isUndefined(await startOf(2 ** 30))
  })
  it.skipIf(!onLinux)("a command name with blanks and brackets does not lead astray", () => {
    const title = process.title
    const before = quickStartOf(process.pid)
    process.title = "a) S 1 ("
    const after = quickStartOf(process.pid)
    process.title = title
    assert.strictEqual(after, before)
  })
  const until = (holds: () => boolean) =>
    Effect.promise(async (signal) => {
      while (!signal.aborted && !holds()) await new Promise(setImmediate)
    }).pipe(Effect.timeout("5 seconds"), Effect.orDie)
  // A shell that is replaced by a program that never looks after the child it inherits.
  const parentWithChild = Effect.acquireRelease(
    Effect.promise(async () => {
      const parent = spawn("sh", ["-c", "sleep 1000 & echo $!; exec sleep 1000"], {
        stdio: ["ignore", "pipe", "ignore"]
      })
      const [output] = await once(parent.stdout, "data")
      return { parent, pid: Number(String(output)) }
    }),
    ({ parent }) => Effect.sync(() => parent.kill("SIGKILL"))
  )
  it.skipIf(!onLinux)("a zombie has ended, though its id is still taken", () =>
    Effect.gen(function* () {
      const { parent, pid } = yield* parentWithChild
      yield* until(() => readFileSync(`/proc/${parent.pid}/comm`, "utf8") === "sleep\n")
      process.kill(pid, "SIGKILL")
      yield* until(() => quickStartOf(pid) === "ended")
      assert.isTrue(processExists(pid))
    }).pipe(Effect.scoped, Effect.runPromise)
  )
})

it("this boot has one id", async () => {
  const id = await bootId()
  assert.strictEqual(await bootId(), id)
  if (onLinux) assert.match(id!, /^[0-9a-f-]{36}$/)
})
