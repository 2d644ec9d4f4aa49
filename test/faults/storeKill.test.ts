/** A store whose process is killed at any moment holds all it said was durable, in order and whole. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { ordered } from "../../src/services/model/StoreKey.js"
import { Store, table } from "../../src/services/Store.js"
import { StoreReport } from "../../src/services/StoreReport.js"
import { ownDirectory } from "../kit/ground.js"
import { bundled, Child, promised, randomFrom, storeAt, times } from "../kit/lmdbStore.js"

const kills = times("STORE_KILLS", 5)
const kept = 400

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
        yield* Effect.sleep(isEarly ? 50 + random() * 250 : random() * 60)
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
