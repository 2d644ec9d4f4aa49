/** A store whose process is killed at any moment holds all it said was durable, in order and whole. */
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Places from "../../src/layers/lmdb/places.js"
import { setAsideFile } from "../../src/layers/lmdb/salvage.js"
import * as Tools from "../../src/layers/lmdb/tools.js"
import { ordered } from "../../src/services/model/StoreKey.js"
import { Store, Transaction, table } from "../../src/services/Store.js"
import { StoreReport } from "../../src/services/StoreReport.js"
import { dist, eventually } from "../kit/broker.js"
import { ownDirectory } from "../kit/ground.js"
import { bundled, Child, promised, randomFrom, storeAt, storeDirectory, times } from "../kit/lmdbStore.js"
import { works } from "../kit/preload.js"

const kills = times("STORE_KILLS", 5)
const kept = 400
const hasPipes = works("mkfifo", ["--version"])

it.scopedLive(
  `nothing durable is lost by ${kills} kills, some of them while the store is opened`,
  () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const random = randomFrom(times("STORE_SEED", 6))
      const program = yield* promised(() => bundled("test/kit/storeChild.ts"))
      let durable = 0
      let opened = 0
      for (let kill = 0; kill < kills; kill++) {
        const child = new Child(process.execPath, [program, "commit", base])
        const isEarly = kill % 5 === 4
        if (!isEarly) {
          const first = yield* promised(() => child.line(0))
          assert.match(first ?? child.stderr, /^from \d+$/)
          assert.isAtLeast(Number(first!.slice(5)), durable)
          opened++
        }
        // By what it has done, not by the clock: on a busy machine it might have done nothing yet.
        if (isEarly) yield* Effect.sleep(50 + random() * 250)
        else yield* promised(() => child.line(10 + Math.floor(random() * 60)))
        yield* promised(() => child.kill())
        for (const line of child.lines) if (/^\d+$/.test(line)) durable = Number(line)
      }
      assert.strictEqual(opened, kills - Math.floor(kills / 5))
      assert.isAbove(durable, kills * 5)

      yield* Effect.gen(function* () {
        const store = yield* Store
        const { salvaged, setAside } = (yield* StoreReport).opened
        assert.deepStrictEqual([setAside, salvaged?.missing ?? 0, salvaged?.problems ?? []], [{}, 0, []])
        const latest = store.unsafeGet(table<number>("latest", 1), "latest")!
        assert.isAtLeast(latest, durable)
        const first = Math.max(1, latest - kept + 1)
        const steps = store.unsafeRange(table<{ readonly n: number }>("steps", 1), { from: "", until: "~" })
        assert.deepStrictEqual(
          steps.map(([key, { n }]) => [key, n]),
          Array.from({ length: latest - first + 1 }, (_, at) => [ordered(first + at), first + at])
        )
      }).pipe(Effect.provide(storeAt(base)))
    }),
  kills * 4_000
)

describe("a copy of a store whose process was killed", { timeout: 80_000 }, () => {
  const mail = table<number>("mail", 1)
  const filled = (base: string) =>
    Effect.flatMap(Store, (store) => {
      const transaction = new Transaction()
      for (let n = 0; n < 100; n++) transaction.put(mail, ordered(n), n)
      return store.commit(transaction)
    }).pipe(Effect.provide(storeAt(base)))
  const count = (base: string) =>
    Effect.map(Store, (store) => store.unsafeRange(mail, { from: "", until: "~" }).length).pipe(
      Effect.provide(storeAt(base))
    )
  /** Kills a salvage between its first and its last write: what was set aside comes last, and never comes. */
  const killed = (from: string, to: string) =>
    Effect.gen(function* () {
      const endless = setAsideFile(from)
      execFileSync("mkfifo", ["-m", "600", endless])
      const child = new Child(process.execPath, [dist("programs/storeSalvage.js"), from, to])
      const begun = Effect.sync(() => readdirSync(path.dirname(to)).some((name) => name.startsWith(path.basename(to))))
      yield* eventually(begun, Boolean, 30_000)
      yield* promised(() => child.kill())
      rmSync(endless)
    })

  it.scopedLive.runIf(hasPipes)("is not there, and nothing is left of it after the next one", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const [from, to] = [storeDirectory(base), path.join(base, "copies", "store")]
      mkdirSync(path.dirname(to), { mode: 0o700 })
      yield* filled(base)
      yield* killed(from, to)
      assert.isFalse(existsSync(to))
      const copied = yield* Tools.salvage(from, to)
      assert.deepInclude(copied, { records: 101, missing: 0 })
      assert.deepStrictEqual(readdirSync(path.dirname(to)), ["store"])
    })
  )

  it.scopedLive.runIf(hasPipes)("is not taken for the store that is gone, nor for its replacement", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* filled(base)
      const from = `${storeDirectory(base)}.damaged-1`
      renameSync(storeDirectory(base), from)
      yield* killed(from, storeDirectory(base))
      yield* killed(from, Places.replacement(storeDirectory(base)))
      assert.strictEqual(yield* count(base), 0)
      assert.deepStrictEqual(readdirSync(path.dirname(from)).sort(), ["store", "store.damaged-1"])
    })
  )
})
