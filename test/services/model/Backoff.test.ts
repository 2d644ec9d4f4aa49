import { assert, describe, it } from "@effect/vitest"
import { Chunk, Duration, Effect, FastCheck as fc, Random, Schedule } from "effect"
import { backoff, delay } from "../../../src/services/model/Backoff.js"

const settings = { base: 500, cap: 30_000 }

describe("the wait before a retry", () => {
  it("doubles from the base to the cap, at most", () => {
    const longest = [0, 1, 2, 3, 4, 5, 6, 7].map((attempt) => delay(settings, attempt, 1))
    assert.deepStrictEqual(longest, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
  })
  it("is never shorter than three quarters of that", () => {
    assert.strictEqual(delay(settings, 0, 0), 375)
    assert.strictEqual(delay(settings, 60, 0), 22_500)
  })
  it.prop(
    "is min(cap, base × 2ⁿ) × something from 0.75 to 1, for any number of attempts",
    [
      fc.record({ base: fc.integer({ min: 1, max: 1e6 }), cap: fc.integer({ min: 1, max: 1e9 }) }),
      fc.nat(100_000),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
    ],
    ([given, attempt, random]) => {
      const full = Math.min(given.cap, given.base * 2 ** attempt)
      const wait = delay(given, attempt, random)
      assert.isTrue(wait >= full * 0.75 && wait <= full, `${wait} of ${full}`)
    }
  )
})

describe("the same as a schedule", () => {
  const waits = (lived: ReadonlyArray<number>) =>
    Schedule.run(Schedule.delays(backoff(settings, "60 seconds")), 0, lived).pipe(
      Effect.map(Chunk.toReadonlyArray),
      Effect.map((all) => all.map(Duration.toMillis)),
      Effect.withRandom(Random.make("seed"))
    )
  const isAbout = (wait: number, full: number) => assert.isTrue(wait >= full * 0.75 && wait <= full, `${wait}, ${full}`)

  it.effect("doubles to the cap while runs are short, and never ends", () =>
    Effect.gen(function* () {
      const all = yield* waits(new Array(40).fill(100))
      assert.strictEqual(all.length, 40)
      for (const [attempt, wait] of all.entries()) isAbout(wait, Math.min(30_000, 500 * 2 ** attempt))
    })
  )
  it.effect("starts afresh after a run that was healthy for the time given, not 1 ms less", () =>
    Effect.gen(function* () {
      const [, , third] = yield* waits([0, 0, 59_999])
      isAbout(third!, 2_000)
      const all = yield* waits([0, 0, 60_000, 0])
      isAbout(all[2]!, 500)
      isAbout(all[3]!, 1_000)
    })
  )
})
