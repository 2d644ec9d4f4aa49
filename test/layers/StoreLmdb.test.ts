import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, type Scope } from "effect"
import { readFile } from "../../src/layers/lmdb/checkFile.js"
import { openEngine } from "../../src/layers/lmdb/engine.js"
import { storeFormat } from "../../src/layers/lmdb/migrations.js"
import { encode, fullKey } from "../../src/layers/lmdb/record.js"
import { formatKey } from "../../src/layers/lmdb/scan.js"
import * as Tools from "../../src/layers/lmdb/tools.js"
import { storeContract } from "../../src/services/contracts/StoreContract.js"
import { Store, Transaction, table } from "../../src/services/Store.js"
import { type StoreError, StoreReport } from "../../src/services/StoreReport.js"
import { eventually } from "../kit/broker.js"
import { complaintOf, KeptLog, modeOf, ownDirectory } from "../kit/ground.js"
import { roomy, storeAt, storeDirectory, storeFile } from "../kit/lmdbStore.js"

storeContract("StoreLmdb", Layer.unwrapScoped(Effect.map(ownDirectory, (base) => storeAt(base))), {
  reopened: Effect.map(ownDirectory, (base) => storeAt(base)),
  cramped: Effect.map(ownDirectory, (base) => storeAt(base, {}, { freeDiskBytes: Number.MAX_SAFE_INTEGER }))
})

const mail = table<{ readonly n: number; readonly text: string }>("mail", 1)
const all = { from: "", until: "~" }
const keyOf = (n: number) => String(n).padStart(6, "0")

const filled = (count: number, length = 300) =>
  Effect.flatMap(Store, (store) => {
    const transaction = new Transaction()
    for (let n = 0; n < count; n++) transaction.put(mail, keyOf(n), { n, text: "m".repeat(length) })
    return store.commit(transaction)
  })
const emptied = (from: number, until: number) =>
  Effect.flatMap(Store, (store) => {
    const transaction = new Transaction()
    for (let n = from; n < until; n++) transaction.delete(mail, keyOf(n))
    return store.commit(transaction)
  })
const keys = Effect.map(Store, (store) => store.unsafeRange(mail, all).map(([key]) => key))
const findings = Effect.map(StoreReport, ({ opened }) => opened)

describe("StoreLmdb: its files", () => {
  it.scopedLive("are for this user only, and nothing else is left beside them", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* filled(10).pipe(Effect.provide(storeAt(base)))
      assert.strictEqual(modeOf(storeDirectory(base)), "700")
      for (const name of readdirSync(storeDirectory(base))) {
        assert.strictEqual(modeOf(path.join(storeDirectory(base), name)), "600", name)
      }
      assert.deepStrictEqual(readdirSync(path.dirname(storeDirectory(base))), ["store"])
    })
  )
  it.scopedLive("nothing is durable that is written to a file which was taken away, until it is put back", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const directory = storeDirectory(base)
      yield* Effect.gen(function* () {
        const store = yield* Store
        yield* filled(3)
        renameSync(directory, `${directory}.away`)
        const written = yield* Effect.fork(filled(5))
        yield* eventually(Effect.sync(store.unsafeHealth), ({ _tag }) => _tag === "Failing")
        const health = store.unsafeHealth()
        assert.include(health._tag === "Failing" && health.reason, `${storeFile(base)} failed: the file was removed`)
        // Another file in its place is not it.
        cpSync(`${directory}.away`, directory, { recursive: true })
        yield* Effect.sleep(100)
        assert.isNull(written.unsafePoll())
        assert.lengthOf(yield* keys, 3)
        rmSync(directory, { recursive: true })
        renameSync(`${directory}.away`, directory)
        yield* Fiber.join(written)
        assert.strictEqual(store.unsafeHealth()._tag, "Healthy")
      }).pipe(Effect.provide(storeAt(base, {}, { ...roomy, backoffMaxMs: 100 })))
      assert.lengthOf(yield* Effect.provide(keys, storeAt(base)), 5)
    })
  )
  it.scopedLive("a start that begins has its marker, one that ended has none", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const marker = `${storeDirectory(base)}.opening`
      const seen: Array<boolean> = []
      const migrations = [
        {
          table: "mail",
          from: 1,
          to: 2,
          migrate: (value: unknown) => {
            seen.push(existsSync(marker))
            return value
          }
        }
      ]
      yield* filled(1).pipe(Effect.provide(storeAt(base)))
      assert.isFalse(existsSync(marker))
      yield* findings.pipe(Effect.provide(storeAt(base, { migrations })))
      assert.deepStrictEqual([seen, existsSync(marker)], [[true], false])
    })
  )
})

describe("StoreLmdb: versions", () => {
  const migrations = [
    { table: "mail", from: 1, to: 2, migrate: (value: unknown) => ({ ...(value as object), two: true }) },
    {
      table: "mail",
      from: 2,
      to: 3,
      migrate: (value: unknown, key: string) => (key === keyOf(1) ? undefined : { ...(value as object), three: key })
    }
  ]
  it.scopedLive("records of older versions are led on, step by step, before anything is served", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* filled(3, 1).pipe(Effect.provide(storeAt(base)))
      const served = Effect.gen(function* () {
        const store = yield* Store
        return [store.unsafeRange(table<unknown>("mail", 3), all), (yield* findings).migrated] as const
      })
      const expected = [0, 2].map((n) => [keyOf(n), { n, text: "m", two: true, three: keyOf(n) }] as const)
      assert.deepStrictEqual(yield* served.pipe(Effect.provide(storeAt(base, { migrations }))), [expected, 3])
      assert.deepStrictEqual(yield* served.pipe(Effect.provide(storeAt(base, { migrations }))), [expected, 0])
    })
  )
  it.scopedLive("a migration that fails leaves the store as it was", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* filled(3, 1).pipe(Effect.provide(storeAt(base)))
      const faulty = [
        {
          table: "mail",
          from: 1,
          to: 2,
          migrate: (value: unknown, key: string) => {
            if (key === keyOf(2)) throw new Error("a fault")
            return value
          }
        }
      ]
      const complaint = yield* complaintOf(findings.pipe(Effect.provide(storeAt(base, { migrations: faulty }))))
      assert.include(complaint, "a fault")
      assert.strictEqual((yield* keys.pipe(Effect.provide(storeAt(base)))).length, 3)
    })
  )
  it.scopedLive("a store from before the first release is refused with a sentence, and left as it is", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* filled(3).pipe(Effect.provide(storeAt(base)))
      const engine = openEngine(storeDirectory(base))
      engine.putSync(formatKey, encode(formatKey, 1, { format: 1 }))
      yield* Effect.promise(() => engine.close())
      const before = readFileSync(storeFile(base))
      const complaint = yield* complaintOf(findings.pipe(Effect.provide(storeAt(base))))
      assert.match(complaint, /has format 1, from before the first release.*move it away\.$/)
      assert.isTrue(before.equals(readFileSync(storeFile(base))))
    })
  )
  const inboxKey = fullKey("inbox", "a")
  const newer: ReadonlyArray<readonly [string, string, Buffer, RegExp]> = [
    ["table", inboxKey, encode(inboxKey, 7, {}), /\(version 7 of table inbox, of which this version knows 1\)/],
    [
      "format",
      formatKey,
      encode(formatKey, 1, { format: storeFormat + 1 }),
      /\(format 3, of which this version knows 2\)/
    ]
  ]
  for (const [what, key, bytes, why] of newer) {
    const madeNewer = (base: string) =>
      Effect.gen(function* () {
        yield* filled(300).pipe(Effect.provide(storeAt(base)))
        const engine = openEngine(storeDirectory(base))
        engine.putSync(key, bytes)
        yield* Effect.promise(() => engine.close())
      })
    /** By the start and by every tool, with one sentence, and nothing is written. */
    const isRefused = (base: string) =>
      Effect.gen(function* () {
        const before = readFileSync(storeFile(base))
        const complaint = yield* complaintOf(findings.pipe(Effect.provide(storeAt(base))))
        assert.match(complaint, /written by a newer version of the broker .*; start that version\.$/)
        assert.match(complaint, why)
        const directory = storeDirectory(base)
        const lines: Array<string> = []
        const tools: ReadonlyArray<Effect.Effect<unknown, StoreError>> = [
          Tools.inspect(directory),
          Tools.compact(directory),
          Tools.exportLines(directory, (line) => lines.push(line)),
          Tools.heldMessages(directory),
          Tools.salvage(directory, path.join(base, "copy"))
        ]
        for (const tool of tools) assert.strictEqual(yield* complaintOf(tool), complaint)
        assert.deepStrictEqual(lines, [])
        const { isSound, problems } = yield* Tools.verify(directory)
        assert.deepStrictEqual([isSound, problems], [false, [complaint]])
        assert.isTrue(before.equals(readFileSync(storeFile(base))))
        assert.deepStrictEqual([readdirSync(base), readdirSync(path.dirname(directory))], [["identity"], ["store"]])
      })
    it.scopedLive(`a store of a newer version, by its ${what}, is refused with a sentence, and left as it is`, () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        yield* madeNewer(base)
        yield* isRefused(base)
      })
    )
    it.scopedLive(`also where only its copy says so, the index being lost, by its ${what}`, () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        yield* madeNewer(base)
        const { file, meta } = readFile(storeFile(base), { onNode: () => undefined })
        file.close()
        const before = readFileSync(storeFile(base))
        const root = meta!.main.root * file.pageSize
        writeFileSync(storeFile(base), before.fill(0xff, root, root + 16))
        const complaint = yield* complaintOf(findings.pipe(Effect.provide(storeAt(base))))
        assert.match(complaint, why)
        const salvaged = Tools.salvage(storeDirectory(base), path.join(base, "copy"))
        assert.strictEqual(yield* complaintOf(salvaged), complaint)
        assert.isTrue(before.equals(readFileSync(storeFile(base))))
        assert.deepStrictEqual(
          [readdirSync(base), readdirSync(path.dirname(storeDirectory(base)))],
          [["identity"], ["store"]]
        )
      })
    )
  }
  it.scopedLive("a format that was damaged is written anew, so that the next one is still told from it", () =>
    Effect.gen(function* () {
      const format = (directory: string) => Effect.map(Tools.inspect(directory), ({ format }) => format)
      const base = yield* ownDirectory
      const directory = storeDirectory(base)
      yield* filled(3).pipe(Effect.provide(storeAt(base)))
      const spoil = () => {
        const bytes = readFileSync(storeFile(base))
        for (let at = bytes.indexOf('{"format":'); at >= 0; at = bytes.indexOf('{"format":', at + 1))
          bytes[at + 3]! ^= 1
        writeFileSync(storeFile(base), bytes)
      }
      spoil()
      assert.isUndefined(yield* format(directory))
      const copy = path.join(base, "copy")
      assert.deepInclude(yield* Tools.salvage(directory, copy), { records: 3, setAside: { store: 1 }, missing: 0 })
      assert.strictEqual(yield* format(copy), storeFormat)
      assert.deepInclude(yield* findings.pipe(Effect.provide(storeAt(base))), { records: 3, setAside: { store: 1 } })
      assert.strictEqual(yield* format(directory), storeFormat)
      // By a start that copies it, too.
      spoil()
      writeFileSync(`${directory}.opening`, "")
      assert.deepInclude(yield* findings.pipe(Effect.provide(storeAt(base))), { records: 3, setAside: { store: 1 } })
      assert.strictEqual(yield* format(directory), storeFormat)
      // And where an earlier version left none.
      const engine = openEngine(directory)
      engine.removeSync(formatKey)
      yield* Effect.promise(() => engine.close())
      yield* findings.pipe(Effect.provide(storeAt(base)))
      assert.strictEqual(yield* format(directory), storeFormat)
    })
  )
})

describe("StoreLmdb: room", () => {
  it.scopedLive(
    "below the limit of free disk it is full, with figures, and writes on; healthy when space returns",
    () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        const log = new KeptLog()
        let free = 300
        const options = { freeDisk: () => Promise.resolve(free * 2 ** 20), freeDiskMs: 5 }
        const settings = { freeDiskBytes: 256 * 2 ** 20 }
        yield* Effect.gen(function* () {
          const store = yield* Store
          const until = (tag: string) =>
            Effect.sleep("2 millis").pipe(Effect.repeat({ until: () => store.unsafeHealth()._tag === tag }))
          assert.strictEqual(store.unsafeHealth()._tag, "Healthy")
          free = 255
          yield* until("Full")
          const health = store.unsafeHealth()
          assert.match(
            health._tag === "Full" ? health.reason : "",
            /has 255 MiB free.*needs 256 MiB .setting freeDiskBytes/
          )
          yield* filled(1)
          assert.deepStrictEqual(yield* keys, [keyOf(0)])
          free = 256
          yield* until("Healthy")
        }).pipe(Effect.provide(storeAt(base, options, settings, log)))
        assert.deepStrictEqual(log.events, ["store_full", "store_has_room"])
      })
  )
  it.scopedLive("what the store takes between two looks at the disk counts", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const options = { freeDisk: () => Promise.resolve(260 * 2 ** 20), freeDiskMs: 60_000 }
      yield* Effect.gen(function* () {
        const store = yield* Store
        yield* filled(1)
        assert.strictEqual(store.unsafeHealth()._tag, "Healthy")
        yield* filled(100, 100_000)
        assert.strictEqual(store.unsafeHealth()._tag, "Full")
      }).pipe(Effect.provide(storeAt(base, options, { freeDiskBytes: 256 * 2 ** 20 })))
    })
  )
  it.scopedLive("much that waits together is written in parts, each transaction whole", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        const store = yield* Store
        const seen: Array<number> = []
        for (let n = 0; n < 10; n++) {
          const transaction = new Transaction()
          for (const half of [2 * n, 2 * n + 1]) transaction.put(mail, keyOf(half), { n, text: "m".repeat(2 ** 20) })
          transaction.onDurable(() => seen.push(store.unsafeCount(mail, all)))
          store.unsafeCommit(transaction)
        }
        yield* store.flush
        // As much as 8 MiB hold.
        assert.deepStrictEqual(seen, [6, 6, 6, 12, 12, 12, 18, 18, 18, 20])
      }).pipe(Effect.provide(storeAt(base)))
    })
  )
  it.scopedLive("a file that is mostly free is made smaller at the start, and by command", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.zipRight(filled(4_000), emptied(500, 4_000)).pipe(Effect.provide(storeAt(base)))
      const before = statSync(storeFile(base)).size
      const opened = findings.pipe(Effect.provide(storeAt(base, { compactAboveBytes: 2 ** 20 })))
      const { compacted } = yield* opened
      assert.strictEqual(compacted?.before, before)
      assert.isBelow(statSync(storeFile(base)).size, before / 4)
      assert.strictEqual((yield* keys.pipe(Effect.provide(storeAt(base)))).length, 500)
      assert.isUndefined((yield* opened).compacted)

      yield* emptied(50, 500).pipe(Effect.provide(storeAt(base)))
      const { after } = yield* Tools.compact(storeDirectory(base))
      assert.strictEqual(after, statSync(storeFile(base)).size)
      assert.isBelow(after, compacted!.after / 4)
      assert.strictEqual((yield* keys.pipe(Effect.provide(storeAt(base)))).length, 50)
      assert.strictEqual(modeOf(storeFile(base)), "600")
    })
  )
})

describe("StoreLmdb: damage", () => {
  const flip = (base: string, text: string) => {
    const bytes = readFileSync(storeFile(base))
    const at = bytes.lastIndexOf(text)
    assert.isAbove(at, 0)
    bytes[at] = bytes[at]! ^ 1
    writeFileSync(storeFile(base), bytes)
  }
  it.scopedLive("a record that fails its checksum is set aside and reported, the others are served", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const log = new KeptLog()
      yield* filled(3).pipe(Effect.provide(storeAt(base)))
      flip(base, '{"n":1,')
      const opened = Effect.zip(keys, findings)
      const [served, report] = yield* opened.pipe(Effect.provide(storeAt(base, {}, { freeDiskBytes: 0 }, log)))
      assert.deepStrictEqual(served, [keyOf(0), keyOf(2)])
      assert.deepInclude(report, { records: 2, setAside: { mail: 1 }, salvaged: undefined })
      const line = JSON.parse(readFileSync(report.setAsideFile!, "utf8"))
      assert.deepInclude(line, { table: "mail", key: keyOf(1) })
      assert.include(Buffer.from(line.bytes, "base64").toString(), "mmmm")
      assert.deepStrictEqual(log.events, ["store_records_set_aside"])
      const [again, later] = yield* opened.pipe(Effect.provide(storeAt(base)))
      assert.deepStrictEqual([again, later.setAside], [[keyOf(0), keyOf(2)], {}])
    })
  )
  it.scopedLive(
    "a record that fails its checksum is set aside and reported where the start would make the file smaller",
    () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        yield* Effect.zipRight(filled(4_000), emptied(500, 4_000)).pipe(Effect.provide(storeAt(base)))
        flip(base, '{"n":1,')
        const opened = findings.pipe(Effect.provide(storeAt(base, { compactAboveBytes: 2 ** 20 })))
        const first = yield* opened
        assert.deepInclude(first, { records: 499, setAside: { mail: 1 }, compacted: undefined })
        const line = readFileSync(first.setAsideFile!, "utf8")
        assert.deepInclude(JSON.parse(line), { table: "mail", key: keyOf(1) })
        const second = yield* opened
        assert.isDefined(second.compacted)
        assert.deepInclude(second, { records: 499, setAside: {} })
        assert.strictEqual(readFileSync(second.setAsideFile!, "utf8"), line)
      })
  )
  const replacements: ReadonlyArray<readonly [string, (base: string) => Effect.Effect<unknown, unknown, Scope.Scope>]> =
    [
      ["the command", (base) => Tools.compact(storeDirectory(base))],
      [
        "a start that finds it mostly free",
        (base) => findings.pipe(Effect.provide(storeAt(base, { compactAboveBytes: 1 })))
      ],
      [
        "a start after one that died",
        (base) => {
          writeFileSync(`${storeDirectory(base)}.opening`, "")
          return findings.pipe(Effect.provide(storeAt(base)))
        }
      ]
    ]
  for (const [by, replaced] of replacements) {
    it.scopedLive(`what was set aside is kept when the store is written anew by ${by}`, () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        yield* Effect.zipRight(filled(1_000), emptied(100, 1_000)).pipe(Effect.provide(storeAt(base)))
        flip(base, '{"n":1,')
        const { setAsideFile } = yield* findings.pipe(Effect.provide(storeAt(base)))
        const [line, before] = [readFileSync(setAsideFile!, "utf8"), statSync(storeFile(base)).ino]
        yield* replaced(base)
        assert.notStrictEqual(statSync(storeFile(base)).ino, before)
        assert.strictEqual(readFileSync(setAsideFile!, "utf8"), line)
        assert.strictEqual(modeOf(setAsideFile!), "600")
        // What fails its checksum later joins it.
        flip(base, '{"n":2,')
        writeFileSync(`${storeDirectory(base)}.opening`, "")
        assert.deepStrictEqual((yield* findings.pipe(Effect.provide(storeAt(base)))).setAside, { mail: 1 })
        const kept = readFileSync(setAsideFile!, "utf8").trim().split("\n")
        assert.deepStrictEqual(
          kept.map((text) => JSON.parse(text).key),
          [keyOf(1), keyOf(2)]
        )
      })
    )
  }
  it.scopedLive("after a start that died the store is copied; nothing missing, nothing kept", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* filled(3).pipe(Effect.provide(storeAt(base)))
      writeFileSync(`${storeDirectory(base)}.opening`, "")
      const [served, { damagedCopies, salvaged }] = yield* Effect.zip(keys, findings).pipe(
        Effect.provide(storeAt(base))
      )
      assert.strictEqual(served.length, 3)
      assert.deepInclude(salvaged!, { missing: 0, problems: [], keptAs: undefined })
      assert.include(salvaged!.reason, "ended the process")
      assert.deepStrictEqual(damagedCopies, [])
      assert.isUndefined((yield* findings.pipe(Effect.provide(storeAt(base)))).salvaged)
    })
  )
  it.scopedLive("a record damaged while the broker runs is left out and counted", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        yield* filled(3)
        flip(base, '{"n":1,')
        const store = yield* Store
        assert.isUndefined(store.unsafeGet(mail, keyOf(1)))
        assert.deepStrictEqual(yield* keys, [keyOf(0), keyOf(2)])
        assert.strictEqual((yield* StoreReport).unsafeDamaged(), 2)
      }).pipe(Effect.provide(storeAt(base)))
    })
  )
})

describe("StoreLmdb: tools", () => {
  it.scopedLive("inspect, verify, export and salvage say and give what is there", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const directory = storeDirectory(base)
      yield* filled(5, 10).pipe(Effect.provide(storeAt(base)))
      const inspected = yield* Tools.inspect(directory)
      assert.deepInclude(inspected, { format: storeFormat, records: 5, damagedCopies: [] })
      assert.deepInclude(inspected.tables.mail, { records: 5, versions: { 1: 5 } })
      assert.deepStrictEqual(yield* Tools.verify(directory), { isSound: true, records: 5, damaged: {}, problems: [] })
      const lines: Array<string> = []
      const exported = yield* Tools.exportLines(directory, (line) => lines.push(line))
      assert.deepStrictEqual([exported, lines.length], [{ records: 5, damaged: 0, problems: [] }, 5])
      assert.deepStrictEqual(JSON.parse(lines[2]!), {
        table: "mail",
        key: keyOf(2),
        version: 1,
        value: { n: 2, text: "mmmmmmmmmm" }
      })
      const copy = path.join(base, "copy")
      assert.deepInclude(yield* Tools.salvage(directory, copy), { records: 6, missing: 0 })
      assert.isTrue((yield* Tools.verify(copy)).isSound)
      assert.match(yield* complaintOf(Tools.verify(path.join(base, "none"))), /there is no store/)
    })
  )
})

describe("StoreLmdb: where its messages are", () => {
  it.scopedLive("is counted by owner; mail of nobody is named", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.gen(function* () {
        const store = yield* Store
        const transaction = new Transaction()
        const put = (name: string, key: string) => transaction.put(table<unknown>(name, 1), key, {})
        for (const key of ["1/1", "1/2", "2/1", "3/1"]) put("mail", key)
        put("endpoints", "1")
        put("mail_moves", "2")
        // Keys of other tables are no owners.
        put("inbox", "3")
        for (const key of ["1", "2"]) put("dead_letters", key)
        yield* store.commit(transaction)
      }).pipe(Effect.provide(storeAt(base)))
      const { mail, ...counted } = yield* Tools.heldMessages(storeDirectory(base))
      assert.deepStrictEqual(
        [...mail],
        [
          ["1", 2],
          ["2", 1],
          ["3", 1]
        ]
      )
      assert.deepStrictEqual(counted, { inbox: 1, deadLetters: 2, ownerless: ["3"] })
    })
  )
})
