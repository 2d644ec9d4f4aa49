import { spawn } from "node:child_process"
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { openEngine } from "../../src/layers/lmdb/engine.js"
import { encode, fullKey } from "../../src/layers/lmdb/record.js"
import { Inspection, Verification } from "../../src/services/ipc/StoreGroup.js"
import {
  dist,
  type Exited,
  environmentOf,
  eventually,
  type RunningBroker,
  runProgram,
  startBroker,
  temporaryDirectory
} from "../kit/broker.js"
import { inboxOf, logged, sharedResource, startSession, usualBroker } from "../kit/endToEnd.js"
import { modeOf } from "../kit/ground.js"
import { cli, cliOf, here, hereOf, linesOf, stored } from "../kit/operatorCli.js"

/** Many processes are started, and others may load the machine. */
const patience = { timeout: 120_000 }

const inspected = Schema.decodeUnknownSync(Schema.parseJson(Inspection))
const verified = Schema.decodeUnknownSync(Schema.parseJson(Verification))
const fileOf = ({ directory }: { readonly directory: string }) => join(directory, "store/data.mdb")

/** Puts messages into the inbox. */
const fill = (broker: RunningBroker, ...contents: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { agent, send } = yield* startSession(broker)
    for (const content of contents) yield* send(`local:${agent}`, content)
    yield* inboxOf(broker, ...contents)
    yield* stored(broker)
  })

/** Changes the file of the store wherever it holds the text, which may be in pages that are not in use any more. */
const damage = (broker: { readonly directory: string }, text: string, change: (bytes: Buffer, at: number) => void) => {
  const bytes = readFileSync(fileOf(broker))
  const places: Array<number> = []
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1)) places.push(at)
  assert.isAbove(places.length, 0)
  for (const at of places) change(bytes, at)
  writeFileSync(fileOf(broker), bytes)
}
const flip = (bytes: Buffer, at: number) => {
  bytes[at] = bytes[at]! ^ 1
}
/** Nobody can read the page any more. */
const ruin = (bytes: Buffer, at: number) => {
  bytes.fill(0xff, at - (at % 4_096), at - (at % 4_096) + 16)
}

const done = ({ code, stderr, stdout }: Exited) => {
  assert.deepStrictEqual([code, stderr], [0, ""])
  return stdout
}
const failed = (ended: Exited, ...words: ReadonlyArray<string>) => {
  assert.strictEqual(ended.code, 1, ended.stdout)
  assert.lengthOf(linesOf(ended.stderr), 1)
  for (const word of words) assert.include(ended.stderr, word)
}

describe.concurrent("the store of a running broker", patience, () => {
  it.scopedLive("is inspected and verified", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      yield* fill(broker, "inspected")
      const found = inspected(done(yield* hereOf(broker, "store", "inspect", "--json")))
      assert.strictEqual(found.directory, join(broker.directory, "store"))
      assert.isAtLeast(found.tables.inbox!.records, 1)
      assert.isAbove(found.records, found.tables.inbox!.records)
      const words = done(yield* hereOf(broker, "store", "inspect"))
      for (const word of [found.directory, "inbox", "endpoints"]) assert.include(words, word)
      const { checked, sound } = verified(done(yield* cliOf(broker, "store", "verify", "--json")))
      assert.deepStrictEqual([checked, sound], ["records", true])
      assert.include(done(yield* hereOf(broker, "store", "verify")), "as they were written")
    })
  )

  it.scopedLive("is exported, to standard output or to a file for this user only", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      yield* fill(broker, "exported · ünï")
      /** What others leave in the same broker comes and goes. */
      const isAll = (text: string) => {
        const records = linesOf(text).map((line) => JSON.parse(line))
        const contents = records.filter(({ table }) => table === "inbox").map(({ value }) => value.message.content)
        assert.include(contents, "exported · ünï")
        assert.includeMembers(
          records.map(({ table }) => table),
          ["endpoints", "correlation_sent"]
        )
      }
      isAll(done(yield* cliOf(broker, "store", "export")))
      const file = join(yield* temporaryDirectory, "export.jsonl")
      assert.strictEqual(done(yield* hereOf(broker, "store", "export", "--output", file)), "")
      assert.strictEqual(modeOf(file), "600")
      const before = readFileSync(file, "utf8")
      isAll(before)
      failed(yield* hereOf(broker, "store", "export", "--output", file), file, "there already")
      assert.strictEqual(readFileSync(file, "utf8"), before)
    })
  )

  it.scopedLive("is not made smaller: a sentence says what to do", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const before = statSync(fileOf(broker)).ino
      failed(yield* hereOf(broker, "store", "compact"), `process ${broker.pid}`, "runtime-broker stop")
      const copy = join(yield* temporaryDirectory, "copy")
      const store = join(broker.directory, "store")
      failed(yield* here("store", "salvage", store, copy), `process ${broker.pid}`)
      assert.isFalse(existsSync(copy))
      assert.strictEqual(statSync(fileOf(broker)).ino, before)
    })
  )

  it.scopedLive("is neither salvaged nor salvaged to, by whichever name", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const other = yield* temporaryDirectory
      const store = join(broker.directory, "store")
      const [link, linked, kept, copy] = ["link", "linked", "kept", "copy"].map((name) => join(other, name))
      symlinkSync(store, link!)
      symlinkSync(broker.directory, linked!)
      mkdirSync(kept!)
      for (const from of [`${store}/.`, join(store, "..", "store"), link!, join(linked!, "store")]) {
        failed(yield* here("store", "salvage", from, copy!), `process ${broker.pid}`)
      }
      for (const to of [store, `${store}/.`, join(linked!, "store")]) {
        failed(yield* here("store", "salvage", kept!, to), `process ${broker.pid}`)
        failed(yield* here("store", "salvage", `${broker.directory}/store.damaged-1`, to), `process ${broker.pid}`)
      }
      assert.deepStrictEqual(readdirSync(other).sort(), ["kept", "link", "linked"])
    })
  )

  it.scopedLive("that is in memory is said to be", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { store: "memory" } })
      for (const command of ["inspect", "verify", "export"]) {
        failed(yield* hereOf(broker, "store", command), "in memory")
      }
      const file = join(yield* temporaryDirectory, "export.jsonl")
      failed(yield* hereOf(broker, "store", "export", "--output", file), "in memory")
      assert.isFalse(existsSync(file), "no half of an export is left")
      failed(yield* hereOf(broker, "store", "compact"), "no store")
    })
  )
})

describe.concurrent("the store where no broker runs", patience, () => {
  const left = sharedResource(
    Effect.gen(function* () {
      const broker = yield* startBroker()
      yield* fill(broker, "one", "two")
      yield* broker.end("SIGKILL")
      return broker
    })
  )
  /** A copy of what a broker left that held two messages and was killed. */
  const stopped = Effect.gen(function* () {
    const broker = yield* left
    const userData = yield* temporaryDirectory
    cpSync(broker.userData, userData, { recursive: true })
    return { userData, directory: broker.directory.replace(broker.userData, userData) }
  })

  it.scopedLive("is inspected, verified, exported and made smaller, and then served by the next broker", () =>
    Effect.gen(function* () {
      const broker = yield* stopped
      const { directory, userData } = broker
      const found = inspected(done(yield* hereOf({ directory }, "store", "inspect", "--json")))
      assert.strictEqual(found.tables.inbox!.records, 2)
      const verification = verified(done(yield* hereOf({ directory }, "store", "verify", "--json")))
      assert.deepInclude(verification, { checked: "file", sound: true, records: found.records })
      const lines = linesOf(done(yield* cli(userData, "store", "export"))).map((line) => JSON.parse(line))
      assert.lengthOf(lines, found.records)
      const contents = lines.filter(({ table }) => table === "inbox").map(({ value }) => value.message.content)
      assert.deepStrictEqual(contents, ["one", "two"])
      const { after, before } = JSON.parse(done(yield* cli(userData, "store", "compact", "--json")))
      assert.deepStrictEqual([found.file_bytes, statSync(fileOf(broker)).size], [before, after])
      assert.isBelow(after, before)
      const next = yield* startBroker({ userData })
      yield* inboxOf(next, "one", "two")
    })
  )

  it.scopedLive("that is damaged is said to be, and salvaged; the next broker warns of what it set aside", () =>
    Effect.gen(function* () {
      const broker = yield* stopped
      const { directory, userData } = broker
      damage(broker, '"content":"one"', flip)
      failed(yield* hereOf({ directory }, "store", "verify"), "not sound", "inbox: 1")
      assert.isFalse(verified((yield* hereOf({ directory }, "store", "verify", "--json")).stdout).sound)
      failed(yield* hereOf({ directory }, "store", "compact"), "salvage it first")
      const partly = yield* cli(userData, "store", "export")
      failed(partly, "1 record left out")
      assert.include(partly.stdout, '"two"')

      const copy = join(yield* temporaryDirectory, "copy")
      const words = done(yield* cli(userData, "store", "salvage", join(directory, "store"), copy))
      for (const word of ["inbox: 1", join(copy, "damaged.jsonl")]) assert.include(words, word)
      failed(yield* here("store", "salvage", join(directory, "store"), copy), "is there already")

      const next = yield* startBroker({ userData })
      yield* inboxOf(next, "two")
      const { store, warnings } = yield* next.status
      const file = join(directory, "store/damaged.jsonl")
      assert.deepStrictEqual(store, { healthy: true, findings: { set_aside: { inbox: 1 }, set_aside_file: file } })
      assert.isTrue(warnings.some((warning) => warning.includes("inbox: 1") && warning.includes(file)))
      yield* logged(next, "store_records_set_aside")
      const doctor = yield* hereOf(next, "doctor")
      assert.strictEqual(doctor.code, 0)
      assert.match(doctor.stdout, /^warning {2}broker .*inbox: 1/m)
      assert.include(done(yield* hereOf(next, "store", "inspect")), file)
    })
  )

  it.scopedLive("that was copied at the start is told of, with the copy that is kept, and that can be salvaged", () =>
    Effect.gen(function* () {
      const { directory, userData } = yield* stopped
      damage({ directory }, '"content":"one"', ruin)
      const next = yield* startBroker({ userData })
      const { store, warnings } = yield* next.status
      const kept = store.findings!.damaged_copies![0]!
      assert.strictEqual(store.findings!.salvaged!.kept_as, kept)
      assert.isAbove(store.findings!.salvaged!.problems.length, 0)
      assert.isTrue(warnings.some((warning) => warning.includes(kept)))
      yield* logged(next, "store_salvaged")
      assert.include(done(yield* hereOf(next, "store", "inspect")), `kept       ${kept}`)
      const copy = join(yield* temporaryDirectory, "copy")
      assert.include(done(yield* here("store", "salvage", kept, copy)), copy)
      assert.isTrue(existsSync(join(copy, "data.mdb")))
      yield* next.end("SIGTERM")
      const inspection = inspected(done(yield* hereOf({ directory }, "store", "inspect", "--json")))
      assert.deepStrictEqual(inspection.damaged_copies, [kept])
    })
  )

  it.scopedLive("is one of several: it must be named", () =>
    Effect.gen(function* () {
      const { directory, userData } = yield* stopped
      const other = join(directory, "..", "0123456789abcdef")
      cpSync(directory, other, { recursive: true })
      failed(yield* cli(userData, "store", "inspect"), directory, other, "--directory")
      done(yield* here("store", "inspect", "--directory", other))
    })
  )

  it.scopedLive(
    "keeps brokers and other commands from it while it is read; a start waits, a while, for it to be free",
    () =>
      Effect.gen(function* () {
        const { directory, userData } = yield* stopped
        // More than a pipe takes: the export waits for its reader.
        const engine = openEngine(join(directory, "store"))
        for (let n = 0; n < 20; n++) {
          const key = fullKey("ballast", String(n))
          engine.putSync(key, encode(key, 1, "x".repeat(100_000)))
        }
        yield* Effect.promise(() => engine.close())
        const environment = environmentOf(userData, {})
        const child = yield* Effect.acquireRelease(
          Effect.sync(() =>
            spawn(process.execPath, [dist("programs/cli.js"), "store", "export"], { env: environment })
          ),
          (child) => Effect.sync(() => child.kill("SIGKILL"))
        )
        const ended = new Promise<number | null>((resolve) => child.once("close", resolve))
        yield* Effect.async<void>((resume) => {
          child.stdout.once("readable", () => resume(Effect.void))
        })
        const holder = ["`runtime-broker store export`", `process ${child.pid}`]
        failed(yield* runProgram("programs/broker.js", [], environmentOf(userData, { lockWaitMs: 0 })), ...holder)
        for (const command of ["inspect", "compact"]) {
          const refused = yield* hereOf({ directory }, "store", command)
          failed(refused, ...holder)
          assert.notInclude(refused.stderr, "runtime-broker stop")
        }
        const doctor = yield* hereOf({ directory }, "doctor")
        assert.strictEqual(doctor.code, 1)
        assert.match(doctor.stdout, /^problem {2}lock .*runtime-broker store export/m)
        const starting = yield* Effect.fork(startBroker({ userData, settings: { lockWaitMs: 60_000 } }))
        const isWaiting = Effect.sync(() => readdirSync(directory).filter((name) => name.startsWith("broker.lock.")))
        yield* eventually(isWaiting, ({ length }) => length === 2, 30_000)
        let text = ""
        child.stdout.setEncoding("utf8").on("data", (part: string) => {
          text += part
        })
        assert.strictEqual(yield* Effect.promise(() => ended), 0)
        assert.lengthOf(
          linesOf(text).filter((line) => JSON.parse(line).table === "ballast"),
          20
        )
        yield* Fiber.join(starting)
      })
  )

  it.scopedLive.skipIf(process.getuid?.() === 0)("that cannot be read or made ends it with 1 and a sentence", () =>
    Effect.gen(function* () {
      const broker = yield* stopped
      const { directory, userData } = broker
      chmodSync(directory, 0o500)
      failed(yield* cli(userData, "store", "compact"), directory)
      chmodSync(directory, 0o700)
      chmodSync(fileOf(broker), 0)
      failed(yield* cli(userData, "store", "inspect"), directory)
    })
  )
})

describe.concurrent("store", patience, () => {
  it.scopedLive("ends with 1 and a sentence where there is none, and makes none", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const directory = join(userData, "runtime-broker", "default")
      failed(yield* cli(userData, "store", "inspect"), "no store", directory)
      for (const command of ["inspect", "verify", "compact", "export"]) {
        failed(yield* hereOf({ directory }, "store", command), "no store", directory)
      }
      failed(yield* here("store", "salvage", join(userData, "none"), join(userData, "copy")), "no store")
      assert.isFalse(existsSync(join(userData, "runtime-broker")))
    })
  )

  it.scopedLive("ends with 2 when it is used wrongly", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      mkdirSync(join(userData, "x"))
      const isWrongUsage = ({ code, stderr, stdout }: Exited, args: ReadonlyArray<string>) => {
        assert.deepStrictEqual([code, stdout], [2, ""], args.join(" "))
        assert.isAbove(stderr.trim().length, 10)
      }
      const wrong = ["salvage", "x"]
      isWrongUsage(yield* cli(userData, "store", ...wrong), wrong)
      const missing = [["salvage"], ["export", "--output"]]
      const unknown = [["nonsense"], ["inspect", "--nonsense"], ["verify", "--nonsense"], ["compact", "--nonsense"]]
      for (const args of [...missing, ...unknown]) {
        isWrongUsage(yield* here("store", ...args), args)
      }
    })
  )
})
