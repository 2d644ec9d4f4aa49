import { readdirSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { environmentOf, runProgram, temporaryDirectory } from "../kit/broker.js"

describe("scripts/demo.mjs", () => {
  it.scopedLive("ends with 0, tells its four scenes in order, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const environment = { ...environmentOf(directory, {}), TMPDIR: directory }
      const { code, stderr, stdout } = yield* runProgram("../scripts/demo.mjs", [], environment)
      assert.deepStrictEqual([code, stderr], [0, ""])
      const scenes = [
        /^runtime-broker\/\S+ listens on http:\/\/127\.0\.0\.1:\d+ \(process \d+\)$/m,
        /^A question and its answer$/m,
        /^ +bob +← from local:alice: "What is six times seven\?"$/m,
        /^ +alice +← from local:bob: "Forty-two\."$/m,
        /^bob loses its channel while mail arrives$/m,
        /3 messages waited$/m,
        /^ +bob +← from local:alice: "first"\n +bob +← from local:alice: "second"\n +bob +← from local:alice: "third"$/m,
        /^A message for nobody in particular$/m,
        /GET \/v1\/undispatched +1 message, unaddressed: /,
        /^ +bob +← from local:alice: "Is anybody free to review my change\?"$/m,
        /^Everybody leaves$/m,
        /^ +broker +left with code 0$/m
      ]
      let from = 0
      for (const scene of scenes) {
        const at = stdout.slice(from).search(scene)
        assert.isAtLeast(at, 0, `${scene} is not in:\n${stdout.slice(from)}`)
        from += at
      }
      assert.deepStrictEqual(readdirSync(directory), [])
    })
  )
})
