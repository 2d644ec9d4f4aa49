/**
 * Power cuts: the disk keeps what was synced and an arbitrary part of the rest. Whatever the store had called durable is there
 * when it is opened again, within two starts.
 */
import { rmSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { StoreFindings } from "../../src/services/StoreReport.js"
import { sharedResource } from "../kit/endToEnd.js"
import { ownDirectory } from "../kit/ground.js"
import { bundled, Child, promised, randomFrom, times } from "../kit/lmdbStore.js"
import { Replay, readLog } from "../kit/powerCut.js"
import { canPreload, compiled, unlessPreloadable } from "../kit/preload.js"
import { starter } from "../kit/storeStarter.js"

const cuts = times("POWER_CUTS", 100)
const seed = times("POWER_SEED", Math.floor(Math.random() * 2 ** 31))

interface Found {
  readonly latest: number
  readonly isWhole: boolean
  readonly opened: StoreFindings
}

/** Lines of the child that say how far it got. */
const durableIn = (said: string) => Number(said.match(/^\d+$/gm)?.at(-1) ?? 0)
const isNumber = (line: string) => /^\d+$/.test(line)

describe(`A14: a power cut${unlessPreloadable}`, () => {
  const recorder = canPreload ? sharedResource(compiled("scripts/powercut/recordDisk.c")) : Effect.succeed("")
  const kinds = [
    { command: "commit", steps: 1_200, what: "while a new store is made and written to" },
    { command: "compact", steps: 240, what: "while the store is opened, written to and made smaller" }
  ]
  for (const { command, steps, what } of kinds) {
    const count = Math.ceil(cuts / kinds.length)
    it.scopedLive.runIf(canPreload)(
      `${what}: nothing durable is lost by ${count} of them (POWER_SEED=${seed})`,
      () =>
        Effect.gen(function* () {
          const directory = yield* ownDirectory
          const base = path.join(directory, "recorded")
          const log = path.join(directory, "log")
          const program = yield* promised(() => bundled("test/kit/storeChild.ts"))
          const child = new Child(process.execPath, [program, command, base], {
            LD_PRELOAD: yield* recorder,
            POWERCUT_DIRECTORY: base,
            POWERCUT_LOG: log
          })
          yield* promised(() => child.find(0, (line) => isNumber(line) && Number(line) >= steps))
          yield* promised(() => child.kill())

          const records = readLog(log)
          const random = randomFrom(seed)
          // Many of them early, where the store is made.
          const at = Array.from({ length: count }, () => Math.floor(random() ** 2 * records.length)).sort(
            (a, b) => a - b
          )
          const replay = new Replay(base)
          const started = yield* starter<Found>("steps")
          const counts = { records: records.length, salvaged: 0, lastDurable: 0 }
          let done = 0
          for (const place of at) {
            while (done < place) replay.apply(records[done++]!)
            const left = path.join(directory, `cut-${place}`)
            replay.cut(left, random)
            const durable = durableIn(replay.said)
            const found = yield* promised(() => started.start(left))
            const context = `cut at ${place} of ${records.length}, ${durable} durable: ${JSON.stringify(found)}`
            assert.isAtLeast(found.latest, durable, context)
            assert.isTrue(found.isWhole, context)
            const { salvaged, setAside } = found.opened
            assert.deepStrictEqual([setAside, salvaged?.missing ?? 0], [{}, 0], context)
            if (salvaged !== undefined) counts.salvaged++
            counts.lastDurable = durable
            rmSync(left, { recursive: true })
          }
          if (process.env.SOAK) console.log(`POWER_SEED=${seed}`, what, { ...counts, deaths: started.deaths })
          assert.isAbove(counts.lastDurable, 0)
        }),
      60_000 + cuts * 300
    )
  }
})
