import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { layer } from "../../src/layers/DirectoryMemory.js"
import { Directory, type Endpoint } from "../../src/services/Directory.js"

const endpoint = (key: number, agent: string, aliases: ReadonlyArray<string> = []) =>
  ({ key, id: `ep_${key}`, aliases, agent }) as unknown as Endpoint

describe("the directory", () => {
  it.effect(
    "finds an endpoint by its key, its id and its aliases until it is removed, and knows then that it ended",
    () =>
      Effect.gen(function* () {
        const directory = yield* Directory
        const one = endpoint(1, "alice", ["earlier"])
        directory.unsafePut(one)
        directory.unsafePut(endpoint(2, "bob"))
        assert.deepStrictEqual([directory.unsafeGet("ep_1"), directory.unsafeGet("earlier")], [one, one])
        assert.strictEqual(directory.unsafeByKey(one.key), one)
        assert.deepStrictEqual(
          Array.from(directory.unsafeAll(), ({ id }) => id as string),
          ["ep_1", "ep_2"]
        )
        assert.isFalse(directory.unsafeHasEnded("ep_1"))
        directory.unsafeRemove(one)
        assert.strictEqual(directory.unsafeCount(), 1)
        assert.deepStrictEqual([directory.unsafeGet("ep_1"), directory.unsafeGet("earlier")], [undefined, undefined])
        assert.isTrue(directory.unsafeHasEnded("ep_1") && directory.unsafeHasEnded("earlier"))
      }).pipe(Effect.provide(layer))
  )

  it.effect("knows every agent that has an endpoint, and of those that had one the last 10,000", () =>
    Effect.gen(function* () {
      const directory = yield* Directory
      const stays = endpoint(1, "stays")
      directory.unsafePut(stays)
      // What changed of it is made known; another one of the agent ends.
      directory.unsafePut(stays)
      directory.unsafePut(endpoint(2, "stays"))
      directory.unsafeRemove(endpoint(2, "stays"))
      for (let n = 0; n <= 10_000; n++) {
        directory.unsafePut(endpoint(3 + n, `agent ${n}`))
        directory.unsafeRemove(endpoint(3 + n, `agent ${n}`))
      }
      const known = ["stays", "agent 0", "agent 1", "agent 10000", "nobody"].map(directory.unsafeKnowsAgent)
      assert.deepStrictEqual(known, [true, false, true, true, false])
      directory.unsafeRemove(stays)
      assert.isTrue(directory.unsafeKnowsAgent("stays"))
    }).pipe(Effect.provide(layer))
  )
})
