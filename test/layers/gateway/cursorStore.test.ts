import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { openCursorStore } from "../../../src/layers/gateway/cursorStore.js"
import { Store } from "../../../src/services/Store.js"
import { FakeStore } from "../../kit/FakeStore.js"
import { KeptLog, turns } from "../../kit/ground.js"
import { names } from "../../kit/steps.js"

const cursor = { sequence: 3, beyond: [[5, 6]] } as const
const layerOf = (fake: FakeStore) => fake.layer.pipe(Layer.provide(new KeptLog().layer))

it.scoped("the last so many ids come back in order, a page more at most, whatever the portions they came in", () => {
  const fake = new FakeStore()
  const limit = 1_000
  return Effect.gen(function* () {
    const store = yield* Store
    const given = names("m", 5_000)
    const open = () => openCursorStore(store, "", limit)
    let kept = open()
    assert.deepStrictEqual([kept.cursor, kept.ids()], [{ sequence: 0, beyond: [] }, []])
    let written = 0
    for (let at = 0; at < given.length; ) {
      const portion = 1 + ((at * 7) % 700)
      kept.unsafeSave(cursor, given.slice(at, at + portion), () => written++)
      yield* turns
      at += portion
      const expected = given.slice(0, at)
      const back = open()
      const ids = back.ids()
      assert.isAtLeast(ids.length, Math.min(limit, expected.length))
      assert.isBelow(ids.length, limit + 256)
      assert.deepStrictEqual(ids, expected.slice(-ids.length))
      assert.deepStrictEqual(back.cursor, cursor)
      // Every other portion is written by a broker that was started again, and has not asked for the ids before.
      if (portion % 2 === 0) kept = open()
    }
    assert.isAbove(written, 5)
    assert.isAtMost(fake.recordsOf("gateway_delivered").length, 6)
  }).pipe(Effect.provide(layerOf(fake)))
})

it.scoped("each runtime session has its own, whatever it is called", () =>
  Effect.gen(function* () {
    const store = yield* Store
    const sessions = ["", "agent", "a/b", "ü ".repeat(100)]
    for (const [index, session] of sessions.entries()) {
      openCursorStore(store, session, 10).unsafeSave(
        { sequence: index + 1, beyond: [] },
        [`m${index}`],
        () => undefined
      )
    }
    yield* turns
    for (const [index, session] of sessions.entries()) {
      const { cursor, ids } = openCursorStore(store, session, 10)
      assert.deepStrictEqual([cursor.sequence, ids()], [index + 1, [`m${index}`]], session)
    }
  }).pipe(Effect.provide(layerOf(new FakeStore())))
)
