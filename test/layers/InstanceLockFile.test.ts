import * as fs from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Either, Exit, Fiber, Layer, Option, Scope } from "effect"
import * as InstanceLockFile from "../../src/layers/InstanceLockFile.js"
import * as machine from "../../src/layers/machine/processes.js"
import { InstanceLock } from "../../src/services/InstanceLock.js"
import { eventually } from "../kit/broker.js"
import { modeOf, ownDirectory, pathsLayer, pathsUnder } from "../kit/ground.js"

/** Processes as the test says: by pid when they started; all others are dead. This process runs. */
const processes = (running: Record<number, string> = {}) => {
  const starts: Record<number, string> = { [process.pid]: "started now", ...running }
  return {
    isAlive: (pid: number, start: string | undefined) =>
      starts[pid] !== undefined && (start === undefined || start === starts[pid]),
    startOf: async (pid: number) => starts[pid]
  }
}
const bootId = Effect.promise(machine.bootId)
const living = 4711
const dead = 4712

const lockLayer = (base: string, running?: Record<number, string>, use: InstanceLockFile.LockUse = {}) =>
  Layer.provide(InstanceLockFile.layerAmong(processes(running), use), pathsLayer(base))

/** Starts; the lock is held until the test ends. */
const start = (base: string, running?: Record<number, string>, use?: InstanceLockFile.LockUse) =>
  Effect.either(Effect.map(Layer.build(lockLayer(base, running, use)), () => "holds the lock" as const))

const holder = (given: object = {}) =>
  Effect.map(bootId, (boot) =>
    JSON.stringify({ version: 1, pid: living, startedAs: "then", bootId: boot ?? null, mark: "abc", ...given })
  )
/** Writes a lock as another broker would have left it. */
const leave = (base: string, text: string, name = "broker.lock") =>
  Effect.sync(() => {
    const { directory } = pathsUnder(base)
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
    fs.writeFileSync(path.join(directory, name), text, { mode: 0o600 })
  })
const files = (base: string) => fs.readdirSync(pathsUnder(base).directory).sort()
const holderOf = (base: string) =>
  Effect.map(InstanceLockFile.readHolder(pathsUnder(base).lockFile), Option.getOrUndefined)
const isOurs = (base: string) => Effect.map(holderOf(base), (found) => assert.strictEqual(found?.pid, process.pid))
const holds = Either.right("holds the lock" as const)
const refusal = (base: string, running?: Record<number, string>, use?: InstanceLockFile.LockUse) =>
  Effect.map(start(base, running, use), (result) =>
    Either.isLeft(result) ? result.left : assert.fail("it holds the lock")
  )

describe("the lock", () => {
  it.scopedLive("names its holder: process, its start, and this boot; for this user only", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      assert.deepStrictEqual(yield* start(base), holds)
      assert.deepInclude(yield* holderOf(base), {
        version: 1,
        pid: process.pid,
        startedAs: "started now",
        bootId: (yield* bootId) ?? null
      })
      assert.strictEqual(modeOf(pathsUnder(base).lockFile), "600")
      assert.strictEqual(modeOf(pathsUnder(base).directory), "700")
    })
  )
  it.scopedLive("says where it is", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const { lockFile } = yield* Effect.provide(InstanceLock, lockLayer(base))
      assert.strictEqual(lockFile, pathsUnder(base).lockFile)
    })
  )
  it.scopedLive("is gone, with all that belonged to it, when its scope ends", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.scoped(start(base))
      assert.deepStrictEqual(files(base), [])
      assert.deepStrictEqual(yield* start(base), holds)
    })
  )
  it.scopedLive("of a living holder is refused with its process id, and left alone", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const text = yield* holder()
      yield* leave(base, text)
      const refused = yield* refusal(base, { [living]: "then" })
      assert.deepInclude(refused, { _tag: "AlreadyRunning", pid: living })
      assert.strictEqual(fs.readFileSync(pathsUnder(base).lockFile, "utf8"), text)
      assert.deepStrictEqual(files(base), ["broker.lock"])
    })
  )
  it.scopedLive("of a living holder whose start or boot is not known is refused, too", () =>
    Effect.gen(function* () {
      for (const unknown of [{ startedAs: null }, { bootId: null }, { startedAs: null, bootId: null }]) {
        const base = yield* ownDirectory
        yield* leave(base, yield* holder(unknown))
        assert.strictEqual((yield* refusal(base, { [living]: "then" }))._tag, "AlreadyRunning")
      }
    })
  )
  it.scopedLive("that cannot be taken for another reason says why", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      fs.writeFileSync(pathsUnder(base).directory, "a file")
      const refused = yield* refusal(base)
      assert.strictEqual(refused._tag, "LockError")
      assert.include(refused.message, pathsUnder(base).lockFile)
      const other = yield* ownDirectory
      fs.mkdirSync(pathsUnder(other).lockFile, { recursive: true })
      assert.strictEqual((yield* refusal(other))._tag, "LockError")
    })
  )
})

describe("the lock of a command", () => {
  const compact = { purpose: "store compact" }
  it.scopedLive("says which; that of a broker does not", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* Effect.scoped(
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* start(base, {}, compact), holds)
          assert.deepInclude(yield* holderOf(base), { pid: process.pid, ...compact })
        })
      )
      assert.deepStrictEqual(yield* start(base), holds)
      assert.notProperty(yield* holderOf(base), "purpose")
    })
  )
  it.scopedLive("is refused by its name, to a broker and to the next command", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* leave(base, yield* holder(compact))
      for (const use of [{}, { waitMs: 1 }, { purpose: "store verify" }]) {
        const refused = yield* refusal(base, { [living]: "then" }, use)
        assert.deepInclude(refused, { _tag: "ToolAtWork", pid: living, purpose: "store compact" })
        assert.match(
          refused.message,
          /^`runtime-broker store compact` is at work .*process 4711 .*try again when it is done\.$/
        )
      }
    })
  )
  it.scopedLive("is waited for by a broker that may wait, and no longer than it is there", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const tool = yield* Scope.make()
      assert.deepStrictEqual(yield* Scope.extend(start(base, {}, compact), tool), holds)
      const waiting = yield* Effect.fork(start(base, {}, { waitMs: 60_000 }))
      // The lock, and what each of the two links it from.
      yield* eventually(
        Effect.sync(() => files(base)),
        ({ length }) => length === 3
      )
      assert.isNull(waiting.unsafePoll())
      yield* Scope.close(tool, Exit.void)
      assert.deepStrictEqual(yield* Fiber.join(waiting), holds)
    })
  )
  it.scopedLive("is nothing a broker waits for when it is another broker's", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* leave(base, yield* holder())
      const refused = yield* refusal(base, { [living]: "then" }, { waitMs: 600_000 })
      assert.strictEqual(refused._tag, "AlreadyRunning")
    })
  )
})

describe("a lock is taken over", () => {
  const stale: ReadonlyArray<readonly [string, object]> = [
    ["of a process that is gone", { pid: dead }],
    ["of a process whose id another one has now", { startedAs: "long ago" }],
    ["of another boot, even when its process id and start are in use again", { bootId: "another boot" }]
  ]
  for (const [what, given] of stale) {
    it.scopedLive(what, () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        yield* leave(base, yield* holder(given))
        assert.deepStrictEqual(yield* start(base, { [living]: "then" }), holds)
        yield* isOurs(base)
      })
    )
  }
  it.scopedLive("that is torn, empty or something else", () =>
    Effect.gen(function* () {
      for (const text of ["", "{", (yield* holder()).slice(0, 40), "[]", '{"version":2,"pid":4711}', "4711\n"]) {
        const base = yield* ownDirectory
        yield* leave(base, text)
        assert.deepStrictEqual(yield* start(base, { [living]: "then" }), holds, text)
        yield* isOurs(base)
      }
    })
  )
  it.scopedLive("and nothing of the old one stays: the lock ends like any other", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* leave(base, yield* holder({ pid: dead }))
      yield* Effect.scoped(start(base))
      assert.deepStrictEqual(files(base), [])
    })
  )
  it.scopedLive("also when whoever was about to take it over died doing so", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* leave(base, yield* holder({ pid: dead }))
      const starter = yield* Scope.make()
      yield* Scope.extend(start(base), starter)
      const { mark } = (yield* holderOf(base))!
      yield* Scope.close(starter, Exit.void)
      // What is left of two starters who were killed: their own files, and the right to replace.
      yield* leave(base, yield* holder({ pid: dead }))
      yield* leave(base, yield* holder({ pid: dead, mark }), `broker.lock.${dead}.${mark}`)
      yield* leave(base, yield* holder({ pid: dead, mark }), `broker.lock.${dead}.${mark}.new`)
      assert.deepStrictEqual(yield* start(base), holds)
      assert.deepStrictEqual(
        files(base).filter((name) => name.includes(String(dead))),
        []
      )
    })
  )
})

describe("a lock that is held", () => {
  const renewed = (base: string, spoil: (directory: string) => void) =>
    Effect.gen(function* () {
      const { renew } = Context.get(yield* Layer.build(lockLayer(base, { [living]: "then" })), InstanceLock)
      assert.isFalse(yield* renew)
      spoil(pathsUnder(base).directory)
      return yield* Effect.either(renew)
    })

  for (const [what, spoil] of [
    ["removed", (directory) => fs.rmSync(path.join(directory, "broker.lock"))],
    ["torn", (directory) => fs.writeFileSync(path.join(directory, "broker.lock"), "{")],
    ["removed with all that belongs to it", (directory) => fs.rmSync(directory, { recursive: true })]
  ] satisfies ReadonlyArray<readonly [string, (directory: string) => void]>) {
    it.scopedLive(`and is ${what} is taken again, and ends like any other`, () =>
      Effect.gen(function* () {
        const base = yield* ownDirectory
        yield* Effect.scoped(
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* renewed(base, spoil), Either.right(true))
            yield* isOurs(base)
          })
        )
        assert.deepStrictEqual(files(base), [])
      })
    )
  }
  it.scopedLive("and taken by another broker meanwhile is that one's", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const text = yield* holder()
      const found = yield* renewed(base, (directory) => fs.writeFileSync(path.join(directory, "broker.lock"), text))
      assert.deepInclude(Either.getOrThrow(Either.flip(found)), { _tag: "AlreadyRunning", pid: living })
      assert.strictEqual(fs.readFileSync(pathsUnder(base).lockFile, "utf8"), text)
    })
  )
})

describe("files of starters that were killed", () => {
  it.scopedLive("are removed; those of starters at work, and other files, are not", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      yield* leave(base, yield* holder({ pid: dead }), `broker.lock.${dead}.abc`)
      yield* leave(base, yield* holder({ pid: dead }), "broker.lock.0123456789ab")
      yield* leave(base, yield* holder(), `broker.lock.${living}.abc`)
      yield* leave(base, yield* holder({ pid: dead }), "discovery.json")
      yield* start(base, { [living]: "then" })
      const left = files(base).filter((name) => !name.startsWith(`broker.lock.${process.pid}.`))
      assert.deepStrictEqual(left, ["broker.lock", `broker.lock.${living}.abc`, "discovery.json"])
    })
  )
  it.scopedLive("are removed although one among them cannot be read", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      for (const name of ["broker.lock.0", "broker.lock.z"]) yield* leave(base, yield* holder({ pid: dead }), name)
      fs.mkdirSync(path.join(pathsUnder(base).directory, "broker.lock.5"))
      yield* start(base)
      const left = files(base).filter((name) => !name.startsWith(`broker.lock.${process.pid}.`))
      assert.deepStrictEqual(left, ["broker.lock", "broker.lock.5"])
    })
  )

  it.scopedLive("are removed by the process in their name when they are torn", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const torn = (pid: number) => `broker.lock.${pid}.53cc780699b7.tmp.${pid}.3f92fa90`
      for (const pid of [dead, process.pid]) yield* leave(base, "{", torn(pid))
      yield* start(base)
      assert.include(files(base), torn(process.pid), "its writer is at work")
      assert.notInclude(files(base), torn(dead))
    })
  )
})

describe("of many that start at once exactly one holds the lock, and the others learn who", () => {
  /** So many starters, all at once; each that gets the lock keeps it until all have their answer. */
  const race = (base: string, starters: number) =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      return yield* Effect.forEach(
        Array.from({ length: starters }),
        () => Effect.zipRight(Deferred.await(go), start(base)),
        { concurrency: "unbounded" }
      ).pipe(Effect.zipLeft(Deferred.succeed(go, undefined), { concurrent: true }))
    })
  const cases: ReadonlyArray<readonly [string, Effect.Effect<string | undefined>]> = [
    ["with no lock there", Effect.succeed(undefined)],
    ["with the lock of a dead process there", holder({ pid: dead })],
    ["with a torn lock there", Effect.succeed("{")]
  ]
  for (const [what, text] of cases) {
    it.scopedLive(what, () =>
      Effect.gen(function* () {
        for (let round = 0; round < 3; round++) {
          const base = yield* ownDirectory
          const before = yield* text
          if (before !== undefined) yield* leave(base, before)
          const results = yield* race(base, 12)
          assert.strictEqual(results.filter(Either.isRight).length, 1)
          for (const result of results.filter(Either.isLeft)) {
            assert.deepInclude(result.left, { _tag: "AlreadyRunning", pid: process.pid })
          }
          yield* isOurs(base)
        }
      })
    )
  }
  it.scopedLive("and when it ends the next one gets it, time after time", () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      for (let round = 0; round < 10; round++) {
        const results = yield* Effect.scoped(race(base, 4))
        assert.strictEqual(results.filter(Either.isRight).length, 1)
      }
      assert.deepStrictEqual(files(base), [])
    })
  )
})

it.scopedLive("a start that is called off while it takes the lock leaves none", () =>
  Effect.gen(function* () {
    const base = yield* ownDirectory
    yield* leave(base, yield* holder({ pid: dead }))
    const isAsked = yield* Deferred.make<void>()
    const asked = {
      ...processes(),
      // A few steps later the lock is taken.
      isAlive: () => {
        Deferred.unsafeDone(isAsked, Effect.void)
        return false
      }
    }
    const layer = Layer.provide(InstanceLockFile.layerAmong(asked), pathsLayer(base))
    const starter = yield* Effect.fork(Effect.scoped(Layer.build(layer)))
    yield* Deferred.await(isAsked)
    yield* Fiber.interrupt(starter)
    assert.deepStrictEqual(files(base), [])
  })
)

it.scopedLive("a lock that others replaced is not removed at the end", () =>
  Effect.gen(function* () {
    const base = yield* ownDirectory
    const text = yield* holder()
    yield* Effect.scoped(
      Effect.zipRight(
        start(base),
        Effect.sync(() => fs.rmSync(pathsUnder(base).lockFile)).pipe(Effect.zipRight(leave(base, text)))
      )
    )
    assert.strictEqual(fs.readFileSync(pathsUnder(base).lockFile, "utf8"), text)
  })
)

it.scopedLive(
  "a symbolic link that leads nowhere in the lock's place is refused; it does not keep the broker busy",
  () =>
    Effect.gen(function* () {
      const base = yield* ownDirectory
      const { directory, lockFile } = pathsUnder(base)
      fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
      fs.symlinkSync(path.join(base, "nowhere"), lockFile)
      const result = yield* start(base).pipe(
        Effect.disconnect,
        Effect.timeoutOption("2 seconds"),
        // Ends the search that may still go on.
        Effect.ensuring(Effect.sync(() => fs.rmSync(lockFile, { force: true })))
      )
      const answer = Option.getOrElse(result, () => assert.fail("no answer within two seconds"))
      const refused = Option.getOrElse(Either.getLeft(answer), () => assert.fail("it holds the lock"))
      assert.include(refused.message, lockFile)
      assert.include(refused.message, "symbolic link")
    })
)
