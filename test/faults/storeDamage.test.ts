/** Flipped bits and cut-off files: within two starts every readable record is served and the others are reported. */
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { encode, fullKey } from "../../src/layers/lmdb/record.js"
import * as Tools from "../../src/layers/lmdb/tools.js"
import { Store, Transaction, table } from "../../src/services/Store.js"
import type { StoreFindings } from "../../src/services/StoreReport.js"
import { dist } from "../kit/broker.js"
import { ownDirectory } from "../kit/ground.js"
import { promised, randomFrom, storeAt, storeDirectory, storeFile, times } from "../kit/lmdbStore.js"
import { starter } from "../kit/storeStarter.js"

const flips = times("STORE_FLIPS", 100)
const cuts = times("STORE_CUTS", 32)
const tables = ["mail", "inbox", "outbox"]
type Records = ReadonlyArray<ReadonlyArray<readonly [string, unknown]>>

/** A store with a past: many small commits, some large values, much deleted and replaced. Gives what it holds. */
const makeStore = (base: string): Effect.Effect<Records, unknown> =>
  Effect.gen(function* () {
    const store = yield* Store
    const random = randomFrom(1)
    const change = (count: number, isPut: (n: number) => boolean) => {
      const transaction = new Transaction()
      for (let at = 0; at < count; at++) {
        const of = table<unknown>(tables[Math.floor(random() ** 2 * 3)]!, 1)
        const n = Math.floor(random() * 400)
        const key = `endpoint/${String(n).padStart(6, "0")}`
        const length = random() < 0.03 ? 4_000 + random() * 20_000 : random() * 700
        if (isPut(n)) transaction.put(of, key, { n, text: String.fromCharCode(97 + (n % 26)).repeat(length) })
        else transaction.delete(of, key)
      }
      return store.commit(transaction)
    }
    for (let round = 0; round < 120; round++) yield* change(12, (n) => n % 3 !== round % 3)
    return tables.map((name) => store.unsafeRange(table<unknown>(name, 1), { from: "", until: "~" }))
  }).pipe(Effect.provide(storeAt(base)))

interface Started {
  readonly served: Records
  readonly opened: StoreFindings
}

const sum = (counts: { readonly [table: string]: number }) => Object.values(counts).reduce((a, b) => a + b, 0)

/** Served is what was there, or reported; nothing else is served. Gives the keys that are not. */
const lostOf = (records: Records, { opened, served }: Started, context: string): ReadonlyArray<string> => {
  const lost: Array<string> = []
  for (const [at, expected] of records.entries()) {
    const found = new Map(served[at])
    for (const [key, value] of expected) {
      if (!found.has(key)) lost.push(fullKey(tables[at]!, key))
      // Both have their fields in the order they were written in; where the texts differ, the reason is looked for.
      else if (JSON.stringify(found.get(key)) !== JSON.stringify(value))
        assert.deepStrictEqual(found.get(key), value, `${context}: ${JSON.stringify(opened)}`)
      found.delete(key)
    }
    assert.deepStrictEqual([...found.keys()], [], `${context}: deleted records are back`)
  }
  const reported =
    sum(opened.setAside) + (opened.salvaged?.missing ?? (opened.salvaged === undefined ? 0 : lost.length))
  assert.isAtLeast(reported, lost.length, `${context}: ${JSON.stringify(opened)}`)
  return lost
}

const place = (directory: string, name: string, bytes: Buffer) => {
  const base = path.join(directory, name)
  mkdirSync(storeDirectory(base), { recursive: true, mode: 0o700 })
  writeFileSync(storeFile(base), bytes, { mode: 0o600 })
  return base
}

describe("a damaged store", () => {
  it.scopedLive(
    `of which a bit is flipped, ${flips} times: at most what lay on it is missing, and reported`,
    () =>
      Effect.gen(function* () {
        const directory = yield* ownDirectory
        const records = yield* makeStore(path.join(directory, "sound"))
        const sound = readFileSync(storeFile(path.join(directory, "sound")))
        const random = randomFrom(times("STORE_SEED", 6))
        const started = yield* starter<Started>("start")
        const counts = { nothing: 0, setAside: 0, salvaged: 0, lost: 0 }
        for (let flip = 0; flip < flips; flip++) {
          const bytes = Buffer.from(sound)
          // Every second hits what leads to the records: a meta page, or the head of a page.
          const page = Math.floor(random() * (flip % 4 === 1 ? 2 : bytes.length / 4_096))
          const within = flip % 2 === 1 ? random() * (page < 2 ? 168 : 64) : random() * 4_096
          const at = page * 4_096 + Math.floor(within)
          bytes[at] = bytes[at]! ^ (1 << Math.floor(random() * 8))
          const base = place(directory, `flip-${flip}`, bytes)
          const result = yield* promised(() => started.start(base))
          const lost = lostOf(records, result, `bit in byte ${at}`)
          assert.isAtMost(lost.length, 1, `bit in byte ${at}: ${JSON.stringify(result.opened)}`)
          counts.lost += lost.length
          if (result.opened.salvaged !== undefined) counts.salvaged++
          else if (sum(result.opened.setAside) > 0) counts.setAside++
          else counts.nothing++
          rmSync(base, { recursive: true })
        }
        if (process.env.SOAK) console.log({ ...counts, deaths: started.deaths })
        assert.isAbove(counts.salvaged, flips / 20)
      }),
    flips * 500 + 20_000
  )

  it.scopedLive(
    `that is cut off, ${cuts} times: what lies before the cut is served, the rest is reported`,
    () =>
      Effect.gen(function* () {
        const directory = yield* ownDirectory
        const source = path.join(directory, "sound")
        const records = yield* makeStore(source)
        // In a fresh copy nothing is left of old versions.
        yield* Tools.compact(storeDirectory(source))
        const sound = readFileSync(storeFile(source))
        const ends = new Map<string, number>()
        for (const [at, rows] of records.entries()) {
          for (const [key, value] of rows) {
            const full = fullKey(tables[at]!, key)
            const bytes = encode(full, 1, value)
            // A large value lies on pages of its own, behind or before its key's.
            ends.set(full, Math.max(lastPageEnd(sound, bytes), lastPageEnd(sound, Buffer.from(full))))
          }
        }
        const random = randomFrom(times("STORE_SEED", 6))
        const started = yield* starter<Started>("start")
        let served = 0
        for (let cut = 0; cut < cuts; cut++) {
          const length = cut === 0 ? 0 : Math.floor(random() * sound.length)
          const base = place(directory, `cut-${cut}`, sound.subarray(0, length))
          const result = yield* promised(() => started.start(base))
          const lost = new Set(lostOf(records, result, `cut at ${length}`))
          assert.isDefined(result.opened.salvaged)
          assert.isTrue(existsSync(result.opened.salvaged!.keptAs!))
          for (const [full, end] of ends) {
            if (end <= length) assert.isFalse(lost.has(full), `cut at ${length}: ${full} before ${end}`)
          }
          served += ends.size - lost.size
          rmSync(base, { recursive: true })
        }
        if (process.env.SOAK) console.log({ served, of: ends.size * cuts, deaths: started.deaths })
        assert.isAbove(served, 0)
      }),
    cuts * 500 + 20_000
  )

  it.scopedLive("is copied by a process of its own where the program for it is there", () =>
    Effect.gen(function* () {
      const directory = yield* ownDirectory
      const records = yield* makeStore(path.join(directory, "sound"))
      const base = path.join(directory, "cut")
      mkdirSync(storeDirectory(base), { recursive: true, mode: 0o700 })
      copyFileSync(storeFile(path.join(directory, "sound")), storeFile(base))
      writeFileSync(`${storeDirectory(base)}.opening`, "")
      const salvageProgram = dist("programs/storeSalvage.js")
      const served = yield* Effect.map(Store, (store) =>
        tables.map((name) => store.unsafeRange(table<unknown>(name, 1), { from: "", until: "~" }))
      ).pipe(Effect.provide(storeAt(base, { salvageProgram })))
      assert.deepStrictEqual(served, records)
    })
  )
})

/** Where the last page ends on which the text is: pages that were split still have it as well. */
const lastPageEnd = (file: Buffer, text: Buffer) => {
  const at = file.lastIndexOf(text)
  assert.isAtLeast(at, 0)
  return Math.ceil((at + text.length) / 4_096) * 4_096
}
