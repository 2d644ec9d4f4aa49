import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { makeDriver } from "../../../src/layers/lmdb/driver.js"
import { type Engine, openEngine } from "../../../src/layers/lmdb/engine.js"
import { Room } from "../../../src/layers/lmdb/room.js"
import { Transaction, table } from "../../../src/services/Store.js"
import { ownDirectory } from "../../kit/ground.js"
import { promised } from "../../kit/lmdbStore.js"

const things = table<number>("things", 1)
const put = (key: string) => {
  const transaction = new Transaction()
  transaction.put(things, key, 1)
  return [transaction]
}

/** The engine as it is once one of its meta pages could not be written: it writes no more. */
const broken = (engine: Engine, isBroken: () => boolean): Engine =>
  new Proxy(engine, {
    get: (target, name) => {
      if (isBroken() && name === "batch") return () => Promise.reject(new Error("input/output error"))
      if (isBroken() && name === "transactionSync") {
        return () => {
          throw new Error("the engine writes no more")
        }
      }
      const value = target[name as keyof Engine]
      return typeof value === "function" ? value.bind(target) : value
    }
  })

it.scopedLive("an engine that is opened again is asked nothing meanwhile, and all is there afterwards", () =>
  Effect.gen(function* () {
    const directory = yield* ownDirectory
    let isBroken = false
    const driver = makeDriver(
      broken(openEngine(directory), () => isBroken),
      {
        directory,
        room: new Room(directory, 0, Date.now),
        migrations: [],
        snapshotBytes: 1_000_000,
        summaries: new Map(),
        onDamaged: () => assert.fail("nothing is damaged")
      }
    )
    yield* Effect.addFinalizer(() => Effect.promise(driver.close))
    yield* promised(() => driver.write(put("a")))
    isBroken = true
    const failed = yield* Effect.either(Effect.tryPromise(() => driver.write(put("b"))))
    assert.strictEqual(failed._tag, "Left")
    const answers = new Set<unknown>()
    const ask = (times: number) => {
      try {
        answers.add(driver.get(things, "a"))
      } catch (error) {
        answers.add((error as Error).message.replace(/^.*data\.mdb /, ""))
      }
      if (times > 0) queueMicrotask(() => ask(times - 1))
    }
    ask(200)
    yield* promised(() => driver.write(put("b")))
    // The engine's own timer throws where it was asked while it was closed.
    yield* Effect.sleep(20)
    assert.deepStrictEqual(answers, new Set([1, "could not be read: it is being opened again after a failed write"]))
    assert.deepStrictEqual([driver.get(things, "a"), driver.get(things, "b")], [1, 1])
  })
)
