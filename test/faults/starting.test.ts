import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { leave } from "../../src/programs/leave.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Directory } from "../../src/services/Directory.js"
import { Discovery } from "../../src/services/Discovery.js"
import { PlatformApi } from "../../src/services/PlatformApi.js"
import { environmentOf, eventually, runProgram, startBroker, temporaryDirectory } from "../kit/broker.js"
import { core, type LogLine, settle } from "../kit/core.js"
import { startSession, untilState } from "../kit/endToEnd.js"
import { FakePlatform } from "../kit/FakePlatform.js"
import { pass, quiet, session } from "../kit/steps.js"

const runBroker = (userData: string) => runProgram("programs/broker.js", [], environmentOf(userData, {}))

const identityOf = (userData: string) =>
  join(userData, "runtime-broker", "default", createHash("sha256").update("loopback").digest("hex").slice(0, 16))

const locksIn = (directory: string) => readdirSync(directory).filter((name) => name.startsWith("broker.lock"))

describe.concurrent("L2: one broker for one identity", { timeout: 40_000 }, () => {
  it.scopedLive("whose process is stopped is not replaced: the next starter says so and ends with 0", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const { id, plugin } = yield* startSession(broker)
      yield* Effect.sync(() => process.kill(broker.pid, "SIGSTOP"))
      const second = yield* runBroker(broker.userData)
      assert.deepStrictEqual([second.code, second.stdout], [0, ""])
      assert.match(second.stderr, new RegExp(`^.*already running.*${broker.pid}.*\\n$`))
      assert.strictEqual(JSON.parse(readFileSync(join(broker.directory, "discovery.json"), "utf8")).pid, broker.pid)
      yield* Effect.sync(() => process.kill(broker.pid, "SIGCONT"))
      yield* untilState(broker, id, "active")
      assert.isUndefined(plugin.closed())
    })
  )

  it.scopedLive(
    "many starters at once over what a crash left behind: one runs and can be found, the others name it",
    () =>
      Effect.gen(function* () {
        const crashed = yield* startBroker()
        const { directory, userData } = crashed
        yield* crashed.end("SIGKILL")
        const lock = join(directory, "broker.lock")
        const left = readFileSync(lock, "utf8")
        // A lock that is torn, half a replacement of it, and where it is to be found somebody else.
        rmSync(lock)
        writeFileSync(lock, left.slice(0, left.length / 2), { mode: 0o600 })
        writeFileSync(`${lock}.${createHash("sha256").update("x").digest("hex").slice(0, 12)}`, left, { mode: 0o600 })
        const foreign = { version: 1, pid: process.pid, startedAt: "", ipcUrl: crashed.url, bearerToken: "foreign" }
        writeFileSync(join(directory, "discovery.json"), JSON.stringify(foreign))

        const fibers = yield* Effect.all(Array.from({ length: 6 }, () => Effect.fork(runBroker(userData))))
        const running = Effect.sync(() => fibers.filter((fiber) => fiber.unsafePoll() === null).length)
        yield* eventually(running, (count) => count === 1, 30_000)
        const discovered = Effect.sync(() => JSON.parse(readFileSync(join(directory, "discovery.json"), "utf8")))
        const { bearerToken, ipcUrl, pid } = yield* eventually(
          discovered,
          ({ bearerToken }) => bearerToken !== "foreign"
        )
        assert.strictEqual(JSON.parse(readFileSync(lock, "utf8")).pid, pid)
        const headers = { authorization: `Bearer ${bearerToken}` }
        const health = yield* Effect.promise(() => fetch(`${ipcUrl}/health`, { headers }))
        assert.strictEqual(health.status, 200)
        process.kill(pid, "SIGTERM")
        const exits = yield* Effect.all(fibers.map((fiber) => Fiber.join(fiber)))
        assert.deepStrictEqual(
          exits.map(({ code }) => code),
          exits.map(() => 0)
        )
        for (const { stderr } of exits.filter(({ stdout }) => stdout === "")) assert.include(stderr, String(pid))
        assert.deepStrictEqual(locksIn(directory), [])
        assert.isFalse(existsSync(join(directory, "discovery.json")))
      })
  )

  it.scopedLive("starters that are killed while they start leave nothing that stops the next", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const directory = identityOf(userData)
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      const somethingOf = (name: string) =>
        Effect.sync(() => readdirSync(directory).some((file) => file.includes(name)))
      for (const name of ["broker.lock.", "broker.lock", "operator.json", "discovery.json"]) {
        const starter = yield* Effect.fork(runBroker(userData))
        yield* eventually(somethingOf(name), (isThere) => isThere, 15_000)
        yield* Fiber.interrupt(starter)
      }
      const next = yield* startBroker({ userData })
      assert.strictEqual(JSON.parse(readFileSync(join(directory, "broker.lock"), "utf8")).pid, next.pid)
      const { send, address, plugin } = yield* startSession(next)
      yield* send(address, "served")
      assert.strictEqual((yield* plugin.take(1))[0]!.content, "served")
      assert.strictEqual((yield* next.end("SIGTERM")).code, 0)
      assert.deepStrictEqual(locksIn(directory), [])
    })
  )
})

describe("L3: leaving", () => {
  const world = (platform: FakePlatform, log: Array<LogLine> = [], settings: Partial<Settings> = {}) => {
    const happened: Array<string> = []
    const hanging = Layer.effect(
      PlatformApi,
      Effect.map(PlatformApi, (api) => ({
        ...api,
        unregister: (id: string) =>
          Effect.zipRight(
            Effect.sync(() => happened.push(`unregister ${id}`)),
            Effect.never
          )
      }))
    ).pipe(Layer.provide(platform.layer))
    const discovery = Layer.succeed(Discovery, {
      publish: () => Effect.void,
      withdraw: Effect.sync(() => void happened.push("withdrawn"))
    } as unknown as Discovery["Type"])
    const layer = Layer.merge(
      core({ log, settings: { ...quiet, ...settings }, variants: { platform: hanging } }),
      discovery
    )
    return { happened, layer }
  }

  it.scoped("D3: a platform that hangs holds it for leavePlatformMs, and every endpoint was tried", () => {
    const platform = new FakePlatform()
    const log: Array<LogLine> = []
    const { happened, layer } = world(platform, log)
    return Effect.gen(function* () {
      const plugins = [yield* session(11), yield* session(12), yield* session(13)]
      yield* settle
      platform.onPost = () => Effect.never
      for (const { socket } of plugins) {
        socket.close = (code, reason) => {
          happened.push(`closed ${code}`)
          socket.closedWith = { code, reason }
          socket.end(code)
        }
      }
      const leaving = yield* Effect.fork(leave("signal"))
      yield* settle
      assert.deepStrictEqual(happened, ["withdrawn", "closed 1001", "closed 1001", "closed 1001"])
      yield* pass(1_000)
      const tried = plugins.map(({ endpointId }) => `unregister ${endpointId}`)
      assert.sameMembers(happened.slice(4), tried)
      yield* pass(999)
      assert.isNull(leaving.unsafePoll())
      yield* pass(1)
      assert.isNotNull(leaving.unsafePoll())
      assert.isAbove(Number(log.find(({ event }) => event === "shutdown_end")!.fields.reports_waiting), 0)
      const directory = yield* Directory
      assert.deepStrictEqual(
        plugins.map(({ endpointId }) => directory.unsafeGet(endpointId)!.state._tag),
        ["Reconnecting", "Reconnecting", "Reconnecting"],
        "they wait for the next broker"
      )
    }).pipe(Effect.provide(layer))
  })

  it.scoped("D1, D3: plugins that do not answer and a platform that hangs: within leaveMs all the same", () => {
    const platform = new FakePlatform()
    const { layer } = world(platform)
    return Effect.gen(function* () {
      const plugins = [yield* session(11), yield* session(12)]
      platform.onPost = () => Effect.never
      for (const { socket } of plugins) socket.close = () => undefined
      const leaving = yield* Effect.fork(leave("operator"))
      yield* pass(999)
      for (const { socket } of plugins) assert.isFalse(socket.isTerminated)
      yield* pass(1)
      for (const { socket } of plugins) assert.isTrue(socket.isTerminated, "cut after a fifth of leaveMs")
      yield* pass(1_000)
      yield* pass(1_000)
      assert.isNotNull(leaving.unsafePoll())
    }).pipe(Effect.provide(layer))
  })

  it.scoped("D3: a platform that hung and listens again in time is told everything", () => {
    const platform = new FakePlatform()
    const log: Array<LogLine> = []
    const { layer } = world(platform, log)
    return Effect.gen(function* () {
      const { endpointId } = yield* session(11)
      yield* settle
      const gate = Effect.unsafeMakeLatch(false)
      platform.onPost = () => gate.await
      yield* Effect.fork(leave("signal"))
      yield* pass(500)
      yield* gate.open
      yield* pass(2_000)
      assert.include(platform.statesOf(endpointId).at(-1), "reconnecting")
      assert.strictEqual(log.find(({ event }) => event === "shutdown_end")!.fields.reports_waiting, 0)
    }).pipe(Effect.provide(layer))
  })
})
