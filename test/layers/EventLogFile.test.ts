import * as fs from "node:fs"
import { readFile } from "node:fs/promises"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import * as EventLogFile from "../../src/layers/EventLogFile.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { EventLog } from "../../src/services/EventLog.js"
import { configWith, modeOf, ownDirectory, pathsLayer, pathsUnder, setMode } from "../kit/ground.js"

/** What node tells of an exception nobody caught goes through here. */
const emitter: NodeJS.EventEmitter = process

const layerAt = (base: string, settings: Partial<Settings>) =>
  EventLogFile.layer.pipe(Layer.provide([configWith(settings), pathsLayer(base)]))

/** Opens the log, logs, and waits until everything is written: that is when its scope has ended. */
const logged = (
  base: string,
  settings: Partial<Settings>,
  log: (log: EventLog["Type"]) => Effect.Effect<void> | void
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const service = Context.get(yield* Layer.buildWithScope(layerAt(base, settings), scope), EventLog)
    yield* Effect.suspend(() => log(service) ?? Effect.void).pipe(Effect.ensuring(Scope.close(scope, Exit.void)))
    return service
  })
const names = (base: string) => fs.readdirSync(pathsUnder(base).logDirectory).sort()
const linesOf = (file: string): ReadonlyArray<Record<string, unknown>> =>
  fs
    .readFileSync(file, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line))
const lines = (base: string) => linesOf(pathsUnder(base).logFile)
const numbered = (base: string, n: number) => pathsUnder(base).logFile.replace(/\.log$/, `.${n}.log`)

describe("a line of the log", () => {
  it.scopedLive("is one JSON object with time, level, process, name and fields", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const before = Date.now()
      yield* logged(base, {}, (log) => {
        log.unsafeLog("warn", "event_name", { endpoint_id: "ep\n31", count: 3, ok: true, none: null, list: [1] })
        log.unsafeLog("info", "bare")
      })
      const [first, second] = lines(base)
      const { ts, ...rest } = first!
      assert.deepStrictEqual(rest, {
        level: "warn",
        pid: process.pid,
        msg: "event_name",
        endpoint_id: "ep\n31",
        count: 3,
        ok: true,
        none: null,
        list: [1]
      })
      assert.strictEqual(new Date(ts as string).toISOString(), ts)
      assert.isAtLeast(Date.parse(ts as string), before)
      assert.deepInclude(second, { level: "info", msg: "bare" })
    })
  )
  it.scopedLive("is the last one of a process that ends of an exception, behind all that was logged before", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* logged(base, { logLevel: "warn" }, (log) => {
        log.unsafeLog("warn", "before")
        emitter.emit("uncaughtExceptionMonitor", new Error("a fault"), "uncaughtException")
        // Nothing is written in the background before this.
        assert.deepStrictEqual(
          lines(base).map(({ msg, origin }) => [msg, origin]),
          [
            ["before", undefined],
            ["broker_fatal_exit", "uncaughtException"]
          ]
        )
        assert.match(String(lines(base)[1]!.reason), /^Error: a fault\n +at /)
      })
      assert.strictEqual(lines(base).length, 2)
      assert.strictEqual(modeOf(pathsUnder(base).logFile), "600")
      emitter.emit("uncaughtExceptionMonitor", new Error("later"), "uncaughtException")
      assert.strictEqual(lines(base).length, 2, "a log that is closed hears of nothing")
    })
  )

  it.scopedLive("D9: follows the one logged before it, however many there are at once", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const log = yield* logged(base, {}, (log) => {
        for (let n = 0; n < 5_000; n++) log.unsafeLog("info", "tick", { n })
      })
      assert.deepStrictEqual(
        lines(base).map(({ n }) => n),
        Array.from({ length: 5_000 }, (_, n) => n)
      )
      assert.strictEqual(log.unsafeDropped(), 0)
    })
  )
  it.scopedLive("is written when it is at least as severe as the setting says", () =>
    Effect.gen(function* () {
      const levels = ["debug", "info", "warn", "error"] as const
      for (const [index, logLevel] of levels.entries()) {
        const base = yield* ownDirectory
        yield* logged(base, { logLevel }, (log) => {
          for (const level of levels) log.unsafeLog(level, level)
        })
        assert.deepStrictEqual(
          lines(base).map(({ msg }) => msg),
          levels.slice(index)
        )
      }
    })
  )
  it.scopedLive("that cannot be put into JSON is dropped and counted; logging it does not throw", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const circular: Record<string, unknown> = {}
      circular.self = circular
      const log = yield* logged(base, {}, (log) => {
        log.unsafeLog("info", "before")
        log.unsafeLog("info", "circular", { circular })
        log.unsafeLog("info", "big", { values: [1n] })
        log.unsafeLog("info", "after")
      })
      assert.deepStrictEqual(
        lines(base).map(({ msg }) => msg),
        ["before", "after"]
      )
      assert.strictEqual(log.unsafeDropped(), 2)
    })
  )
  it.scopedLive("keeps its own time, level, process and name, whatever the fields are called", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* logged(base, {}, (log) => log.unsafeLog("error", "name", { ts: "x", level: "x", pid: 1, msg: "x" }))
      assert.deepInclude(lines(base)[0], { level: "error", pid: process.pid, msg: "name" })
    })
  )
})

describe("the log file", () => {
  it.scopedLive("and its directory are for this user only, an older file that was open included", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* logged(base, {}, (log) => log.unsafeLog("info", "one"))
      const { logDirectory, logFile } = pathsUnder(base)
      assert.strictEqual(modeOf(logDirectory), "700")
      assert.strictEqual(modeOf(logFile), "600")
      setMode(logFile, 0o644)
      yield* logged(base, {}, (log) => log.unsafeLog("info", "two"))
      assert.strictEqual(modeOf(logFile), "600")
      assert.deepStrictEqual(
        lines(base).map(({ msg }) => msg),
        ["one", "two"]
      )
    })
  )
  it.scopedLive("is not made while nothing is logged", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* logged(base, { logLevel: "warn" }, (log) => log.unsafeLog("info", "too little"))
      assert.isFalse(fs.existsSync(pathsUnder(base).logFile))
    })
  )
  /** Waits until the file, which may come and go meanwhile, holds the text. */
  const untilWritten = (file: string, text: string) =>
    Effect.promise(async (signal) => {
      const isThere = async () => (await readFile(file, "utf8").catch(() => "")).includes(text)
      while (!signal.aborted && !(await isThere())) await new Promise(setImmediate)
    }).pipe(Effect.timeout("5 seconds"), Effect.orDie)

  it.scopedLive("D9: is rotated at its size, the newest first, and so many are kept", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const { logFile } = pathsUnder(base)
      const log = (n: number) => (service: EventLog["Type"]) =>
        service.unsafeLog("info", `line_${n}`, { pad: "x".repeat(100) })
      yield* logged(base, { logBytes: 100, logFiles: 3 }, (service) =>
        Effect.gen(function* () {
          for (let n = 1; n <= 5; n++) {
            log(n)(service)
            yield* untilWritten(numbered(base, 1), `line_${n}`)
          }
        })
      )
      assert.isFalse(fs.existsSync(logFile), "it is full: the next line begins a new one")
      assert.deepStrictEqual(
        names(base),
        [numbered(base, 1), numbered(base, 2)].map((file) => path.basename(file))
      )
      assert.deepStrictEqual(
        [1, 2].map((n) => linesOf(numbered(base, n)).map(({ msg }) => msg)),
        [["line_5"], ["line_4"]]
      )
      assert.strictEqual(modeOf(numbered(base, 1)), "600")
      yield* logged(base, { logBytes: 10_000, logFiles: 3 }, log(6))
      assert.strictEqual(names(base).length, 3)
    })
  )
  it.scopedLive("is not rotated 1 byte below its size", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const { logFile } = pathsUnder(base)
      yield* logged(base, {}, (log) => log.unsafeLog("info", "line"))
      const size = fs.statSync(logFile).size
      yield* logged(base, { logBytes: 2 * size + 1 }, (log) => log.unsafeLog("info", "line"))
      assert.strictEqual(fs.statSync(logFile).size, 2 * size)
      yield* logged(base, { logBytes: 3 * size }, (log) => log.unsafeLog("info", "line"))
      assert.isFalse(fs.existsSync(logFile))
      assert.strictEqual(linesOf(numbered(base, 1)).length, 3)
    })
  )
  it.scopedLive("starts over at its size when only one is kept", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* logged(base, { logBytes: 10, logFiles: 1 }, (log) => log.unsafeLog("info", "one"))
      yield* logged(base, { logBytes: 10_000, logFiles: 1 }, (log) => log.unsafeLog("info", "two"))
      assert.deepStrictEqual(
        lines(base).map(({ msg }) => msg),
        ["two"]
      )
      assert.strictEqual(names(base).length, 1)
    })
  )
  it.scopedLive("that cannot be written costs its lines, which are counted, and nothing else", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const { logDirectory } = pathsUnder(base)
      fs.writeFileSync(logDirectory, "a file is in the way")
      const log = yield* logged(base, {}, (log) => {
        for (let n = 0; n < 3; n++) log.unsafeLog("error", "lost")
      })
      assert.strictEqual(log.unsafeDropped(), 3)
    })
  )
  it.scopedLive("is written again once it can be", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const { logDirectory, logFile } = pathsUnder(base)
      fs.writeFileSync(logDirectory, "a file is in the way")
      yield* logged(base, {}, (log) =>
        Effect.gen(function* () {
          log.unsafeLog("error", "lost")
          while (log.unsafeDropped() === 0) yield* Effect.promise(() => new Promise(setImmediate))
          fs.rmSync(logDirectory)
          log.unsafeLog("info", "found")
          yield* untilWritten(logFile, "found")
          assert.strictEqual(log.unsafeDropped(), 1)
        })
      )
    })
  )
  it.scopedLive("D9: has room for 10,000 waiting lines; those beyond are dropped and counted", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const log = yield* logged(base, {}, (log) => {
        for (let n = 0; n < 10_005; n++) log.unsafeLog("info", "tick")
      })
      assert.strictEqual(lines(base).length, 10_000)
      assert.strictEqual(log.unsafeDropped(), 5)
    })
  )
})

it.scopedLive(
  "D9: old logs of processes that are gone are removed at the start; young, living and other files stay",
  () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const { logDirectory } = pathsUnder(base)
      const [gone, week] = [2 ** 22 + 7, 7 * 24 * 3_600_000]
      fs.mkdirSync(logDirectory)
      const leave = (name: string, ageMs: number) => {
        const file = path.join(logDirectory, name)
        fs.writeFileSync(file, "")
        fs.utimesSync(file, new Date(), new Date(Date.now() - ageMs))
      }
      leave(`broker-${gone}.log`, week + 60_000)
      leave(`broker-${gone}.1.log`, week + 60_000)
      leave(`broker-${gone}.2.log`, week - 60_000)
      leave("broker-1.log", week + 60_000)
      leave("broker-x.log", week + 60_000)
      leave("notes.log", week + 60_000)
      const kept = [`broker-${gone}.2.log`, "broker-1.log", "broker-x.log", "notes.log"].sort()
      yield* logged(base, { logLevel: "error" }, () =>
        Effect.gen(function* () {
          while (names(base).length > kept.length) yield* Effect.promise(() => new Promise(setImmediate))
        }).pipe(Effect.timeout("5 seconds"), Effect.orDie)
      )
      assert.deepStrictEqual(names(base), kept)
    })
)

it.scopedLive("what Effect itself logs goes to the same file, with its annotations and cause", () =>
  Effect.gen(function* () {
    const base = yield* ownDirectory
    const layer = EventLogFile.effectLogger.pipe(Layer.provideMerge(layerAt(base, { logLevel: "debug" })))
    yield* Effect.gen(function* () {
      yield* Effect.logInfo("hello", "world")
      yield* Effect.logWarning("careful").pipe(Effect.annotateLogs("endpoint_id", "ep_31"))
      yield* Effect.logFatal("the end")
    }).pipe(Effect.provide(layer), Effect.scoped)
    const [info, warn, fatal] = lines(base)
    assert.deepInclude(info, { level: "info", msg: "hello world" })
    assert.deepInclude(warn, { level: "warn", msg: "careful", endpoint_id: "ep_31" })
    assert.deepInclude(fatal, { level: "error", msg: "the end" })
  })
)
