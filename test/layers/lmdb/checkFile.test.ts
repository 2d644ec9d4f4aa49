import { readFileSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFile } from "../../../src/layers/lmdb/checkFile.js"
import { PageFlag } from "../../../src/layers/lmdb/PageFile.js"
import { Store, Transaction, table } from "../../../src/services/Store.js"
import { ownDirectory } from "../../kit/ground.js"
import { storeAt, storeFile } from "../../kit/lmdbStore.js"

const things = table<string>("things", 1)
const count = 500

/** A store that has free pages. */
const filled = Effect.gen(function* () {
  const store = yield* Store
  for (let round = 0; round < 3; round++) {
    const transaction = new Transaction()
    for (let n = 0; n < count; n++) transaction.put(things, `k${n}`, `${round} ${"x".repeat(100)}`)
    yield* store.commit(transaction)
  }
})

const wholeIn = (file: string) => {
  const whole = new Set<string>()
  const reading = readFile(file, { onNode: (node) => void (node.isWhole && whole.add(node.key)) })
  reading.file.close()
  return { whole, problems: reading.problems }
}

/** The pages of records that the latest commit leads to. */
const leavesOf = (file: string) => {
  const { file: pages, seen } = readFile(file, { onNode: () => undefined })
  const isLeaf = (number: number) => seen[number] === 1 && pages.page(number)!.readUInt16LE(18) === PageFlag.Leaf
  const leaves = [...seen.keys()].filter(isLeaf)
  pages.close()
  return { leaves, metas: pages.metas, pageSize: pages.pageSize }
}

/** Appended in the order of their keys: the last node of a page lies before all others. Then the last ones are deleted. */
const appended = Effect.gen(function* () {
  const store = yield* Store
  for (let n = 0; n < 160; n++) {
    const transaction = new Transaction()
    const key = `k${String(n).padStart(4, "0")}`
    transaction.put(things, key, "x".repeat(n % 10 === 9 ? 9_000 : (n * 37) % 300))
    yield* store.commit(transaction)
  }
  for (const n of [159, 158, 157]) {
    const transaction = new Transaction()
    transaction.delete(things, `k0${n}`)
    yield* store.commit(transaction)
  }
})

describe("a file", () => {
  it.scopedLive(
    "with a page whose head names too few or too many of its records loses none, and brings none back",
    () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        yield* appended.pipe(Effect.provide(storeAt(base)))
        const file = storeFile(base)
        const sound = readFileSync(file)
        const { whole: all, problems } = wholeIn(file)
        assert.deepStrictEqual([all.size, problems], [157 + 1, []])
        const { leaves, pageSize } = leavesOf(file)
        assert.isAbove(leaves.length, 5)
        for (const leaf of leaves) {
          for (const field of [20, 22]) {
            for (let bit = 0; bit < 16; bit++) {
              const bytes = Buffer.from(sound)
              const at = leaf * pageSize + field
              bytes.writeUInt16LE(bytes.readUInt16LE(at) ^ (1 << bit), at)
              writeFileSync(file, bytes)
              const { problems, whole } = wholeIn(file)
              const where = `page ${leaf}, ${field === 20 ? "lower" : "upper"}, bit ${bit}`
              assert.deepStrictEqual(whole, all, `${where}: ${problems}`)
              assert.isNotEmpty(problems, where)
            }
          }
        }
      })
  )

  it.scopedLive("whose list of free pages leads to pages of records loses none of these", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* filled.pipe(Effect.provide(storeAt(base)))
      const file = storeFile(base)
      const sound = readFileSync(file)
      // And the record of the store itself.
      const { whole: all, problems } = wholeIn(file)
      assert.deepStrictEqual([all.size, problems], [count + 1, []])

      const { leaves: found, metas, pageSize } = leavesOf(file)
      const [, ...leaves] = found
      const latest = metas[1]!.txn > metas[0]!.txn ? 1 : 0
      assert.isAbove(leaves.length, 10)
      for (const leaf of leaves) {
        const bytes = Buffer.from(sound)
        // The root of the free pages, as a meta page names it.
        bytes.writeBigUInt64LE(BigInt(leaf), latest * pageSize + 88)
        writeFileSync(file, bytes)
        const { problems, whole } = wholeIn(file)
        assert.deepStrictEqual(whole, all, `page ${leaf}: ${problems}`)
        if (!bytes.equals(sound)) assert.isNotEmpty(problems, `page ${leaf}`)
      }
    })
  )
})
