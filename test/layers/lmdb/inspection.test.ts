import { readFileSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import type { Inspection, Verification } from "../../../src/services/ipc/StoreGroup.js"
import { Store, Transaction, table } from "../../../src/services/Store.js"
import { StoreInspection } from "../../../src/services/StoreInspection.js"
import { complaintOf, ownDirectory, turns } from "../../kit/ground.js"
import { randomFrom, storeAt, storeDirectory, storeFile } from "../../kit/lmdbStore.js"

const mail = table<{ readonly n: number; readonly text: string }>("mail", 1)
const inbox = table<unknown>("inbox", 1)
const keyOf = (n: number) => String(n).padStart(6, "0")
const put = (from: number, until: number, length = 20) =>
  Effect.flatMap(Store, (store) => {
    const transaction = new Transaction()
    for (let n = from; n < until; n++) transaction.put(mail, keyOf(n), { n, text: "ü".repeat(length) })
    return store.commit(transaction)
  })
const inspection = Effect.flatMap(StoreInspection, ({ inspect }) => inspect)
const verification = Effect.flatMap(StoreInspection, ({ verify }) => verify)
const lines = Stream.unwrap(Effect.flatMap(StoreInspection, (service) => service.lines))
const exported = Stream.mkString(lines).pipe(
  Effect.map((text) =>
    text === ""
      ? []
      : text
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line))
  )
)

/** Changes a byte of what is written, behind the engine's back. */
const damage = (base: string, text: string) => {
  const bytes = readFileSync(storeFile(base))
  const at = bytes.lastIndexOf(text)
  assert.isAbove(at, 0)
  bytes[at] = bytes[at]! ^ 1
  writeFileSync(storeFile(base), bytes)
}

describe("a running store", () => {
  it.scopedLive("is inspected: records, bytes and versions by table, room in the file", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        yield* put(0, 1_200)
        yield* Effect.flatMap(Store, (store) => {
          const transaction = new Transaction()
          transaction.put(inbox, "a", {})
          return store.commit(transaction)
        })
        const found: Inspection = yield* inspection
        assert.deepInclude(found, {
          directory: storeDirectory(base),
          records: 1_201,
          damaged: {},
          damaged_copies: []
        })
        assert.deepStrictEqual(Object.keys(found.tables), ["inbox", "mail"])
        assert.deepInclude(found.tables.mail, { records: 1_200, versions: { 1: 1_200 } })
        assert.isAbove(found.tables.mail!.bytes, 1_200 * 40)
        assert.isAbove(found.file_bytes, found.free_bytes)
        assert.notProperty(found, "set_aside_file")
      }).pipe(Effect.provide(storeAt(base)))
    })
  )

  it.scopedLive("is verified: a record that is not as it was written is found", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        yield* put(0, 3)
        const sound: Verification = yield* verification
        const expected = { directory: storeDirectory(base), checked: "records" as const, problems: [] }
        assert.deepStrictEqual(sound, { ...expected, sound: true, records: 3, damaged: {} })
        damage(base, '{"n":1,')
        assert.deepStrictEqual(yield* verification, { ...expected, sound: false, records: 2, damaged: { mail: 1 } })
        assert.deepInclude(yield* inspection, { records: 2, damaged: { mail: 1 } })
        assert.deepStrictEqual(
          (yield* exported).map(({ key }) => key),
          [keyOf(0), keyOf(2)]
        )
      }).pipe(Effect.provide(storeAt(base)))
    })
  )

  it.scopedLive("is exported: every record as a line, in key order", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* exported, [])
        yield* put(0, 1_100)
        const all = yield* exported
        assert.deepStrictEqual(
          all.map(({ key }) => key),
          Array.from({ length: 1_100 }, (_, n) => keyOf(n))
        )
        assert.deepStrictEqual(all[7], {
          table: "mail",
          key: keyOf(7),
          version: 1,
          value: { n: 7, text: "ü".repeat(20) }
        })
      }).pipe(Effect.provide(storeAt(base)))
    })
  )

  it.scopedLive("goes on writing during an export, which is of the moment it began", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        yield* put(0, 2_000)
        let parts = 0
        const keys: Array<string> = []
        yield* Stream.runForEach(lines, (part) =>
          Effect.gen(function* () {
            for (const line of part.trimEnd().split("\n")) if (line !== "") keys.push(JSON.parse(line).key)
            if (parts++ > 0) return
            yield* put(2_000, 4_000)
            yield* Effect.flatMap(Store, (store) => {
              const transaction = new Transaction()
              for (let n = 1_000; n < 2_000; n++) transaction.delete(mail, keyOf(n))
              return store.commit(transaction)
            })
          })
        )
        assert.isAbove(parts, 2)
        assert.deepStrictEqual(
          keys,
          Array.from({ length: 2_000 }, (_, n) => keyOf(n))
        )
        assert.strictEqual((yield* Store).unsafeRange(mail, { until: "~" }).length, 3_000)
        assert.strictEqual((yield* exported).length, 3_000)
      }).pipe(Effect.provide(storeAt(base)))
    })
  )

  it.scopedLive("an export during which too much is changed breaks off: what it keeps has an end", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        yield* put(0, 3_000)
        let isFirst = true
        const changing = Stream.runForEach(lines, () => {
          const change = isFirst ? put(2_000, 3_000, 30) : Effect.void
          isFirst = false
          return change
        })
        assert.match(yield* complaintOf(changing), /cannot be read: too much of it was changed meanwhile\.$/)
        assert.strictEqual((yield* exported).length, 3_000)
      }).pipe(Effect.provide(storeAt(base, { snapshotBytes: 50_000 })))
    })
  )

  it.scopedLive("exports a commit that is under way whole or not at all", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        const store = yield* Store
        const all = (n: number) => {
          const transaction = new Transaction()
          for (let key = 0; key < 2_000; key++) transaction.put(mail, keyOf(key), { n, text: "" })
          return transaction
        }
        yield* store.commit(all(0))
        for (let round = 1; round <= 10; round++) {
          store.unsafeCommit(all(round))
          // Sooner or later within the time a commit takes.
          for (let turn = 0; turn < round % 5; turn++) yield* turns
          const numbers = new Set((yield* exported).map(({ value }) => value.n))
          assert.strictEqual(numbers.size, 1, JSON.stringify([...numbers]))
          yield* store.flush
        }
      }).pipe(Effect.provide(storeAt(base)))
    })
  )

  it.scopedLive("exports what was there, whatever is changed between its parts", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        const store = yield* Store
        const random = randomFrom(7)
        const change = Effect.suspend(() => {
          const transaction = new Transaction()
          for (let n = 0; n < 300; n++) {
            const key = keyOf(Math.floor(random() * 4_000))
            if (random() < 0.5) transaction.delete(mail, key)
            else transaction.put(mail, key, { n: Math.floor(random() * 1e6), text: "x".repeat(random() * 3_000) })
          }
          return store.commit(transaction)
        })
        yield* Effect.repeatN(change, 20)
        const there = store.unsafeRange(mail, { until: "~" }).map(([key, value]) => ({ key, value }))
        let parts = 0
        const seen: Array<unknown> = []
        yield* Stream.runForEach(lines, (part) => {
          parts++
          for (const line of part.split("\n")) {
            if (line === "") continue
            const { key, value } = JSON.parse(line)
            seen.push({ key, value })
          }
          return Effect.repeatN(change, 2)
        })
        assert.isAbove(parts, 5)
        assert.deepStrictEqual(seen, there)
        assert.notDeepEqual(
          store.unsafeRange(mail, { until: "~" }).map(([key, value]) => ({ key, value })),
          there
        )
      }).pipe(Effect.provide(storeAt(base)))
    })
  )

  it.scopedLive("that closes ends an export, and closes", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const reading = yield* Effect.gen(function* () {
        yield* put(0, 3_000)
        const begun = yield* Effect.makeLatch()
        const closed = yield* Effect.makeLatch()
        const reading = yield* Effect.forkDaemon(
          complaintOf(Stream.runForEach(lines, () => Effect.zipRight(begun.open, closed.await)))
        )
        yield* begun.await
        return { reading, closed }
      }).pipe(Effect.provide(storeAt(base)))
      yield* reading.closed.open
      assert.include(yield* reading.reading, "the store was closed meanwhile")
      assert.strictEqual((yield* exported.pipe(Effect.provide(storeAt(base)))).length, 3_000)
    })
  )
})
