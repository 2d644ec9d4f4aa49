import * as fs from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Redacted, type Scope } from "effect"
import * as DiscoveryFile from "../../src/layers/DiscoveryFile.js"
import { Discovery } from "../../src/services/Discovery.js"
import type { Paths } from "../../src/services/Paths.js"
import { eventually } from "../kit/broker.js"
import {
  complaintOf,
  configWith,
  KeptLog,
  modeOf,
  ownDirectory,
  pathsLayer,
  pathsUnder,
  setMode
} from "../kit/ground.js"

const bearer = "b".repeat(43)
const published = {
  url: "http://127.0.0.1:4711",
  bearerToken: Redacted.make(bearer),
  operatorToken: Redacted.make("o".repeat(43))
}

interface Broker {
  readonly discovery: Discovery["Type"]
  readonly paths: Paths["Type"]
  readonly log: KeptLog
}
/** A broker's discovery over files below `base`. */
const brokerAt = (base: string): Effect.Effect<Broker, never, Scope.Scope> => {
  const log = new KeptLog()
  const layer = DiscoveryFile.layer.pipe(
    Layer.provide([configWith({ discoveryCheckMs: 20 }), pathsLayer(base), log.layer])
  )
  return Effect.map(Layer.build(layer), (built) => ({
    discovery: Context.get(built, Discovery),
    paths: pathsUnder(base),
    log
  }))
}
const check = (behaviour: string, test: (broker: Broker, base: string) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.scopedLive(behaviour, () =>
    Effect.flatMap(ownDirectory, (base) => Effect.flatMap(brokerAt(base), (broker) => test(broker, base)))
  )
const read = (file: string) => JSON.parse(fs.readFileSync(file, "utf8"))

describe("publishing", () => {
  check("tells plugins what they need, and operators their token", ({ discovery, paths }) =>
    Effect.gen(function* () {
      const before = Date.now()
      yield* discovery.publish(published)
      const { startedAt, ...record } = read(paths.discoveryFile)
      assert.deepStrictEqual(record, { version: 1, pid: process.pid, ipcUrl: published.url, bearerToken: bearer })
      assert.strictEqual(new Date(startedAt).toISOString(), startedAt)
      assert.isAtLeast(Date.parse(startedAt), before)
      assert.deepStrictEqual(read(paths.operatorFile), { version: 1, operatorToken: "o".repeat(43) })
    })
  )
  check("writes files for this user only, in a directory for this user only", ({ discovery, paths }) =>
    Effect.gen(function* () {
      fs.mkdirSync(paths.directory, { recursive: true })
      setMode(paths.directory, 0o755)
      yield* discovery.publish(published)
      assert.strictEqual(modeOf(paths.directory), "700")
      assert.strictEqual(modeOf(paths.discoveryFile), "600")
      assert.strictEqual(modeOf(paths.operatorFile), "600")
      assert.deepStrictEqual(fs.readdirSync(paths.directory).sort(), ["discovery.json", "operator.json"])
    })
  )
  check("that is interrupted leaves nothing that is not withdrawn", ({ discovery, paths }) =>
    Effect.gen(function* () {
      for (let turns = 0; turns < 8; turns++) {
        const publishing = yield* Effect.fork(discovery.publish(published))
        for (let turn = 0; turn < turns; turn++) yield* Effect.promise(() => new Promise<void>(setImmediate))
        yield* Fiber.interrupt(publishing)
        yield* discovery.withdraw
        assert.deepStrictEqual(fs.existsSync(paths.directory) ? fs.readdirSync(paths.directory) : [], [])
      }
    })
  )
  check("replaces what others left: a torn file, a foreign one, a symbolic link", ({ discovery, paths }, base) =>
    Effect.gen(function* () {
      fs.mkdirSync(paths.directory, { recursive: true })
      fs.writeFileSync(`${base}/precious`, "precious")
      fs.symlinkSync(`${base}/precious`, paths.operatorFile)
      fs.writeFileSync(paths.discoveryFile, '{"version":1,"pid":')
      yield* discovery.publish(published)
      assert.strictEqual(read(paths.discoveryFile).bearerToken, bearer)
      assert.strictEqual(fs.readFileSync(`${base}/precious`, "utf8"), "precious")
    })
  )
  check("logs where, and no token", ({ discovery, log, paths }) =>
    Effect.gen(function* () {
      yield* discovery.publish(published)
      assert.deepStrictEqual(log.events, ["discovery_written"])
      assert.include(JSON.stringify(log.lines), paths.discoveryFile)
      assert.notInclude(JSON.stringify(log.lines), bearer)
    })
  )
  check("that cannot write says which file, and leaves no discovery file", ({ discovery, paths }) =>
    Effect.gen(function* () {
      fs.mkdirSync(`${paths.discoveryFile}/inside`, { recursive: true })
      const message = yield* complaintOf(discovery.publish(published))
      assert.include(message, paths.discoveryFile)
      assert.notInclude(message, bearer)
    })
  )
})

describe("what was published", () => {
  const restored = ({ log }: Broker) =>
    eventually(
      Effect.sync(() => log.events),
      (events) => events.includes("discovery_restored")
    )

  for (const [what, spoil] of [
    ["removed", ({ discoveryFile }) => fs.rmSync(discoveryFile)],
    ["torn", ({ discoveryFile }) => fs.writeFileSync(discoveryFile, '{"version":1,"pid":')],
    ["opened to others", ({ discoveryFile }) => setMode(discoveryFile, 0o644)],
    ["removed in part", ({ operatorFile }) => fs.rmSync(operatorFile)],
    ["removed with its directory", ({ directory }) => fs.rmSync(directory, { recursive: true })]
  ] satisfies ReadonlyArray<readonly [string, (paths: Paths["Type"]) => void]>) {
    check(`and is ${what} is there again soon, as it was`, (broker) =>
      Effect.gen(function* () {
        const { discovery, paths } = broker
        yield* discovery.publish(published)
        const before = read(paths.discoveryFile)
        spoil(paths)
        yield* restored(broker)
        assert.deepStrictEqual(read(paths.discoveryFile), before)
        assert.deepStrictEqual(read(paths.operatorFile), { version: 1, operatorToken: "o".repeat(43) })
        yield* discovery.withdraw
        yield* Effect.sleep(100)
        assert.deepStrictEqual(fs.readdirSync(paths.directory), [], "what is withdrawn stays so")
      })
    )
  }
  check("and tells of another broker by now is left as it is", ({ discovery, log, paths }) =>
    Effect.gen(function* () {
      yield* discovery.publish(published)
      const other = { ...read(paths.discoveryFile), pid: 1 }
      fs.writeFileSync(paths.discoveryFile, JSON.stringify(other))
      fs.rmSync(paths.operatorFile)
      yield* Effect.sleep(100)
      assert.deepStrictEqual(read(paths.discoveryFile), other)
      assert.deepStrictEqual(log.events, ["discovery_written"])
    })
  )
  check("and cannot be written again is told in the log once, and that it is there again", (broker) =>
    Effect.gen(function* () {
      const { discovery, log, paths } = broker
      yield* discovery.publish(published)
      fs.rmSync(paths.directory, { recursive: true })
      fs.writeFileSync(paths.directory, "a file")
      yield* eventually(
        Effect.sync(() => log.events),
        (events) => events.includes("discovery_not_restored")
      )
      yield* Effect.sleep(100)
      fs.rmSync(paths.directory)
      yield* restored(broker)
      assert.deepStrictEqual(log.events, ["discovery_written", "discovery_not_restored", "discovery_restored"])
      assert.strictEqual(read(paths.discoveryFile).bearerToken, bearer)
    })
  )
})

describe("withdrawing", () => {
  check("removes both files", ({ discovery, paths }) =>
    Effect.gen(function* () {
      yield* discovery.publish(published)
      yield* discovery.withdraw
      assert.deepStrictEqual(fs.readdirSync(paths.directory), [])
    })
  )
  check("before anything was published does nothing, nor does a second time", ({ discovery, paths }, base) =>
    Effect.gen(function* () {
      const other = yield* brokerAt(base)
      yield* other.discovery.publish(published)
      yield* discovery.withdraw
      assert.isTrue(fs.existsSync(paths.discoveryFile))
      yield* other.discovery.withdraw
      yield* discovery.publish({ ...published, url: "http://127.0.0.1:4712" })
      yield* other.discovery.withdraw
      assert.isTrue(fs.existsSync(paths.discoveryFile))
    })
  )
  for (const [what, change] of [
    ["process", { pid: 1 }],
    ["address", { ipcUrl: "http://127.0.0.1:1" }],
    ["token", { bearerToken: "another" }]
  ] as const) {
    check(`leaves the files of a broker with another ${what}`, ({ discovery, log, paths }) =>
      Effect.gen(function* () {
        yield* discovery.publish(published)
        fs.writeFileSync(paths.discoveryFile, JSON.stringify({ ...read(paths.discoveryFile), ...change }))
        yield* discovery.withdraw
        assert.deepInclude(read(paths.discoveryFile), change)
        assert.isTrue(fs.existsSync(paths.operatorFile))
        assert.deepStrictEqual(log.events, ["discovery_written"])
      })
    )
  }
  check("leaves a file it does not understand, and survives one that is gone", ({ discovery, paths }) =>
    Effect.gen(function* () {
      yield* discovery.publish(published)
      fs.writeFileSync(paths.discoveryFile, "{")
      yield* discovery.withdraw
      assert.strictEqual(fs.readFileSync(paths.discoveryFile, "utf8"), "{")
      yield* discovery.publish(published)
      fs.rmSync(paths.discoveryFile)
      yield* discovery.withdraw
    })
  )
  check("that fails is logged and no failure: leaving goes on", ({ discovery, log, paths }) =>
    Effect.gen(function* () {
      yield* discovery.publish(published)
      setMode(paths.discoveryFile, 0o644)
      yield* discovery.withdraw
      assert.deepStrictEqual(log.events, ["discovery_written", "discovery_not_removed"])
    })
  )
})

it("what is no record, or a torn one, is none", () => {
  const record = { version: 1, pid: 1, startedAt: "t", ipcUrl: "u", bearerToken: "b" }
  assert.strictEqual(DiscoveryFile.parseDiscovery(JSON.stringify({ ...record, more: 1 }))._tag, "Some")
  const whole = JSON.stringify(record)
  const wrong = [undefined, "", "null", "7", "[]", "{}", whole.slice(0, -1), JSON.stringify({ ...record, version: 2 })]
  for (const text of wrong) assert.strictEqual(DiscoveryFile.parseDiscovery(text)._tag, "None", text)
  assert.strictEqual(DiscoveryFile.parseDiscovery(JSON.stringify({ ...record, pid: "1" }))._tag, "None")
  assert.strictEqual(DiscoveryFile.parseOperator('{"version":1,"operatorToken":"o"}')._tag, "Some")
  assert.strictEqual(DiscoveryFile.parseOperator('{"version":1}')._tag, "None")
})
