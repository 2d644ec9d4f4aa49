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
  return { whole: whole.size, problems: reading.problems }
}

describe("a file", () => {
  it.scopedLive("whose list of free pages leads to pages of records loses none of these", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* filled.pipe(Effect.provide(storeAt(base)))
      const file = storeFile(base)
      const sound = readFileSync(file)
      // And the record of the store itself.
      assert.deepStrictEqual(wholeIn(file), { whole: count + 1, problems: [] })

      const { file: pages, seen } = readFile(file, { onNode: () => undefined })
      const [, ...leaves] = [...seen.keys()].filter(
        (number) => seen[number] === 1 && pages.page(number)!.readUInt16LE(18) === PageFlag.Leaf
      )
      const { pageSize } = pages
      const latest = pages.metas[1]!.txn > pages.metas[0]!.txn ? 1 : 0
      pages.close()
      assert.isAbove(leaves.length, 10)
      for (const leaf of leaves) {
        const bytes = Buffer.from(sound)
        // The root of the free pages, as a meta page names it.
        bytes.writeBigUInt64LE(BigInt(leaf), latest * pageSize + 88)
        writeFileSync(file, bytes)
        const { problems, whole } = wholeIn(file)
        assert.strictEqual(whole, count + 1, `page ${leaf}: ${problems}`)
        if (!bytes.equals(sound)) assert.isNotEmpty(problems, `page ${leaf}`)
      }
    })
  )
})
