import { chmodSync, existsSync, renameSync, symlinkSync, writeFileSync } from "node:fs"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { type AddressInfo, createServer as createSocketServer } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type Scope } from "effect"
import { holderOf } from "../../../src/layers/machine/fileLock.js"
import { isHalted } from "../../../src/layers/machine/processes.js"
import { findOrLaunch, findOrLaunchWithin, usualTimes } from "../../../src/programs/client/launch.js"
import type { BrokerLaunchError, LaunchErrorCode } from "../../../src/programs/client/launchErrors.js"
import type { DiscoverOptions } from "../../../src/programs/client/launchOptions.js"
import { dist, eventually, startBroker } from "../../kit/broker.js"
import { sharedResource } from "../../kit/endToEnd.js"
import { type Ground, launchGround, programThat, put, readJson } from "../../kit/launching.js"
import { idleProcess } from "../../kit/startedProcess.js"

const entry = dist("programs/broker.js")

const find = (ground: Ground, more: Partial<DiscoverOptions> = {}) =>
  Effect.promise(() => findOrLaunch({ ...ground.options, brokerEntry: entry, ...more }))

/** Why it was not found; that it was is the failure here. */
const complaint = (ground: Ground, more: Partial<DiscoverOptions> = {}) =>
  Effect.promise(() =>
    findOrLaunch({ ...ground.options, brokerEntry: entry, ...more }).then(
      ({ pid }) => assert.fail(`a broker was found, process ${pid}`),
      (error: BrokerLaunchError) => error
    )
  )

const says = ({ code, message }: BrokerLaunchError, expected: LaunchErrorCode, ...words: ReadonlyArray<string>) => {
  assert.strictEqual(code, expected, message)
  for (const word of words) assert.include(message, word)
}

describe.concurrent("a slow start", { timeout: 60_000 }, () => {
  it.scopedLive("G5: given up by one caller is not repeated by the next, who waits for it", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const { file, starts } = yield* programThat(ground, "await new Promise((go) => setTimeout(go, 1500))")
      const impatient = yield* complaint(ground, { brokerEntry: file, timeoutMs: 500 })
      says(impatient, "broker_start_timeout", "500 ms")
      assert.isTrue(impatient.retryable)
      const others = yield* Effect.all([find(ground), find(ground, { brokerEntry: file })], { concurrency: 2 })
      const pid = starts()[0]!
      for (const found of others) assert.deepInclude(found, { pid, spawned: false })
      assert.lengthOf(starts(), 1)
    })
  )

  it.scopedLive("is told with what the broker said so far", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const { file } = yield* programThat(
        ground,
        'console.error("moving house"); await new Promise(() => setInterval(() => 0, 1e6))'
      )
      const { message, output } = yield* complaint(ground, { brokerEntry: file, timeoutMs: 1_500 })
      assert.include(message, "moving house")
      assert.strictEqual(output, "moving house")
    })
  )

  it.scopedLive("goes on when its caller gives up, with the reason of the signal", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const { file, starts } = yield* programThat(ground, "await new Promise((go) => setTimeout(go, 500))")
      const controller = new AbortController()
      const calling = yield* Effect.fork(complaint(ground, { brokerEntry: file, signal: controller.signal }))
      yield* eventually(
        Effect.sync(() => existsSync(join(ground.directory, "starting.json"))),
        (isThere) => isThere,
        15_000
      )
      controller.abort(new Error("the session is over"))
      assert.strictEqual((yield* Fiber.join(calling)).message, "the session is over")
      const found = yield* find(ground)
      assert.deepStrictEqual([found.pid], starts())
    })
  )
})

describe.concurrent("a broker that is busy", { timeout: 60_000 }, () => {
  /** A broker that from now on answers nothing for so long. */
  const busyFor = (ground: Ground, ms: number) =>
    Effect.gen(function* () {
      const wait = `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${ms})`
      const does = `process.on("SIGUSR2", () => ${wait})`
      const { file, starts } = yield* programThat(ground, does)
      const { pid } = yield* find(ground, { brokerEntry: file })
      process.kill(pid, "SIGUSR2")
      return { file, pid, starts }
    })

  it.scopedLive("and does not answer for a while is waited for", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const { file, pid, starts } = yield* busyFor(ground, 2_500)
      assert.deepInclude(yield* find(ground, { brokerEntry: file }), { pid, spawned: false })
      assert.deepStrictEqual(starts(), [pid])
    })
  )

  it.scopedLive("and takes longer for each answer than it is given at first is found", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const does = `
        const { Server } = await import("node:http")
        const { emit } = Server.prototype
        Server.prototype.emit = function (event, ...rest) {
          if (event !== "request") return emit.call(this, event, ...rest)
          setTimeout(() => emit.call(this, event, ...rest), ${usualTimes.probe * 1.3})
          return true
        }`
      const { file, starts } = yield* programThat(ground, does)
      const { pid } = yield* find(ground, { brokerEntry: file })
      assert.deepStrictEqual(starts(), [pid])
    })
  )

  it.scopedLive("for ever is replaced, and not before", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const { file, pid } = yield* busyFor(ground, 600_000)
      const options = { ...ground.options, brokerEntry: file }
      const began = Date.now()
      const found = yield* Effect.promise(() => findOrLaunchWithin(options, { ...usualTimes, silent: 2_500 }))
      assert.isAtLeast(Date.now() - began, 2_500)
      assert.isTrue(found.spawned)
      assert.notStrictEqual(found.pid, pid)
      assert.deepStrictEqual(ground.brokers(), [found.pid])
    })
  )
})

describe.concurrent("a start that fails", { timeout: 60_000 }, () => {
  it.scopedLive("G7: is told to all who wait, once tried, with the exit code and the broker's own words", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround({ runtimeToken: "rk_secret" })
      const { file, starts } = yield* programThat(ground, "")
      const complaints = yield* Effect.all(
        Array.from({ length: 5 }, () => complaint(ground, { brokerEntry: file, env: { HOME: ground.userData } })),
        { concurrency: "unbounded" }
      )
      for (const error of complaints) {
        says(error, "broker_start_failed", "code 1", "credentials", "--connector loopback")
        assert.strictEqual(error.exitCode, 1)
        assert.include(error.output, "credentials")
        assert.notInclude(error.message, "rk_secret")
      }
      assert.lengthOf(starts(), 1)
      says(yield* complaint(ground, { brokerEntry: file }), "broker_start_failed", "code 1")
      assert.lengthOf(starts(), 2, "who comes later tries again")
    })
  )

  it.scopedLive("G11: leaves no process, no lock and no discovery file", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const port = yield* Effect.acquireRelease(
        Effect.async<{ readonly number: number; readonly close: () => void }>((resume) => {
          const server = createSocketServer().listen(0, "127.0.0.1", () =>
            resume(Effect.succeed({ number: (server.address() as AddressInfo).port, close: () => server.close() }))
          )
        }),
        ({ close }) => Effect.sync(close)
      )
      const error = yield* complaint(ground, { env: { MASONS_BROKER_PORT: String(port.number) } })
      says(error, "broker_start_failed", `Port ${port.number}`)
      assert.deepStrictEqual(ground.brokers(), [])
      for (const name of ["discovery.json", "discovery.json.lock", "broker.lock"]) {
        assert.isFalse(existsSync(join(ground.directory, name)), name)
      }
    })
  )

  it.scopedLive("because there is nothing to start says what is missing", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      says(yield* complaint(ground, { brokerEntry: "/nowhere/broker.js" }), "broker_start_failed", "/nowhere/broker.js")
      says(yield* complaint(ground, { nodeBinary: "/nowhere/node" }), "broker_start_failed", "/nowhere/node", "ENOENT")
    })
  )

  it.scopedLive("because it was killed says by which signal", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const { file } = yield* programThat(ground, 'process.kill(process.pid, "SIGKILL")')
      says(yield* complaint(ground, { brokerEntry: file }), "broker_start_failed", "SIGKILL")
    })
  )

  it.scopedLive("and ends without a fault time after time is not tried for ever", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const { file, starts } = yield* programThat(ground, 'console.log("no wish to work"); process.exit(0)')
      says(yield* complaint(ground, { brokerEntry: file }), "broker_start_failed", "3 times", "no wish to work")
      assert.lengthOf(starts(), 3)
    })
  )

  it.scopedLive("of a broker with another identity says so, and where that one is", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround({ runtimeToken: "rk_asked" })
      const file = join(ground.userData, "credentials.json")
      const account = { connectorUrl: "ws://127.0.0.1:9/gateway", token: "rk_other", apiHost: "http://127.0.0.1:9" }
      writeFileSync(file, JSON.stringify({ accounts: { default: account } }), { mode: 0o600 })
      const error = yield* complaint(ground, { env: { MASONS_BROKER_CREDENTIALS_FILE: file } })
      says(error, "broker_start_failed", "discovery.json", "another token")
      assert.notInclude(error.message, "rk_")
    })
  )
})

describe("a broker that runs", { timeout: 60_000 }, () => {
  // What a test does to its files it undoes.
  const shared = sharedResource(
    Effect.gen(function* () {
      const ground = yield* launchGround()
      return { ground, broker: yield* startBroker({ userData: ground.userData }) }
    })
  )

  it.scopedLive("is found without being started, and only found where none is to be started", () =>
    Effect.gen(function* () {
      const nowhere = yield* launchGround()
      const none = yield* complaint(nowhere, { launch: false })
      says(none, "broker_not_found", join(nowhere.directory, "discovery.json"))
      assert.isFalse(existsSync(nowhere.directory))
      const { broker, ground } = yield* shared
      for (const launch of [true, false]) {
        const found = yield* find(ground, { launch })
        assert.deepInclude(found, { pid: broker.pid, ipcUrl: broker.url, bearerToken: broker.token, spawned: false })
      }
    })
  )

  it.scopedLive("S5: by a discovery file that others may read, or a link, is not believed", () =>
    Effect.gen(function* () {
      const { ground } = yield* shared
      const file = join(ground.directory, "discovery.json")
      chmodSync(file, 0o644)
      says(yield* complaint(ground), "broker_not_usable", file, "chmod 600")
      chmodSync(file, 0o600)
      renameSync(file, `${file}.elsewhere`)
      symlinkSync(`${file}.elsewhere`, file)
      says(yield* complaint(ground), "broker_not_usable", file, "symbolic link")
      renameSync(`${file}.elsewhere`, file)
    })
  )

  it.scopedLive("is of the account and token that are asked for; these must be given", () =>
    Effect.gen(function* () {
      const { broker, ground } = yield* shared
      const none = yield* complaint(ground, { accountId: "other", launch: false })
      says(none, "broker_not_found")
      says(yield* complaint(ground, { runtimeToken: "", launch: false }), "broker_not_usable", '"runtimeToken"')
      says(yield* complaint(ground, { accountId: "", launch: false }), "broker_not_usable", '"accountId"')
      const other = yield* find(ground, { accountId: "other" })
      assert.notStrictEqual(other.pid, broker.pid)
    })
  )
})

describe.concurrent("another launcher", { timeout: 60_000 }, () => {
  it.scopedLive("that has the lock, of this package or the published one, is waited for", () =>
    Effect.gen(function* () {
      const published = { version: 1, pid: process.pid, startedAt: new Date().toISOString() }
      for (const lock of [yield* Effect.promise(() => holderOf(process.pid, "abc")), published]) {
        const ground = yield* launchGround()
        yield* put(ground, "discovery.json.lock", lock)
        const error = yield* complaint(ground, { timeoutMs: 700 })
        says(error, "broker_start_timeout", "discovery.json.lock", `process ${process.pid}`)
        assert.deepStrictEqual(ground.brokers(), [])
        assert.deepStrictEqual(readJson(ground, "discovery.json.lock"), lock)
      }
      const ground = yield* launchGround()
      yield* put(ground, "discovery.json.lock", { ...published, startedAt: "2026-01-01T00:00:00.000Z" })
      assert.isTrue((yield* find(ground)).spawned, "a published launcher would have given up long ago")
    })
  )
})

describe.concurrent("a command that works on the broker's files", { timeout: 60_000 }, () => {
  it.scopedLive("is waited for and named, and not killed, although it is halted", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const { ended, pid } = yield* idleProcess
      const lock = { ...(yield* Effect.promise(() => holderOf(pid, "abc"))), purpose: "store compact" }
      yield* put(ground, "broker.lock", lock)
      process.kill(pid, "SIGSTOP")
      const options = { ...ground.options, brokerEntry: entry, timeoutMs: 700 }
      const launching = findOrLaunchWithin(options, { ...usualTimes, poll: 10, halted: 1 })
      const error = yield* Effect.promise(() =>
        launching.then(
          ({ pid }) => assert.fail(`a broker was found, process ${pid}`),
          (error: BrokerLaunchError) => error
        )
      )
      says(error, "broker_start_timeout", "`runtime-broker store compact`", `process ${pid}`)
      assert.deepStrictEqual(ground.brokers(), [])
      assert.isTrue(yield* Effect.promise(() => isHalted(pid)))
      process.kill(pid, "SIGKILL")
      yield* ended
      assert.isTrue((yield* find(ground)).spawned)
    })
  )
})

describe.concurrent("S13: a broker that cannot prove to know the token", { timeout: 60_000 }, () => {
  /** Answers as published daemons do: nothing without the token. */
  const published = (ground: Ground, status: number): Effect.Effect<() => boolean, never, Scope.Scope> =>
    Effect.gen(function* () {
      let sawToken = false
      const answer = ({ headers, url }: IncomingMessage, response: ServerResponse) => {
        const isKnown = headers.authorization === "Bearer secret"
        if (headers.authorization !== undefined) sawToken = true
        const isHealth = isKnown && url === "/health"
        response.writeHead(isHealth ? 200 : status, { "content-type": "application/json" })
        response.end(JSON.stringify(isHealth ? { ok: true, version: "0.0.36" } : { error: "unauthorized" }))
      }
      const server = yield* Effect.acquireRelease(
        Effect.async<ReturnType<typeof createServer>>((resume) => {
          const server = createServer(answer)
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const ipcUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      const startedAt = new Date().toISOString()
      yield* put(ground, "discovery.json", { version: 1, pid: process.pid, startedAt, ipcUrl, bearerToken: "secret" })
      return () => sawToken
    })

  for (const status of [401, 404]) {
    it.scopedLive(`is used only by who accepts that (it answers ${status}), and never replaced`, () =>
      Effect.gen(function* () {
        const ground = yield* launchGround()
        const sawToken = yield* published(ground, status)
        says(yield* complaint(ground), "broker_not_usable", `process ${process.pid}`, "acceptUnproven")
        assert.isFalse(sawToken())
        const found = yield* find(ground, { acceptUnproven: true })
        assert.deepInclude(found, { pid: process.pid, bearerToken: "secret", version: "0.0.36", spawned: false })
        assert.deepStrictEqual(ground.brokers(), [])
      })
    )
  }

  it.scopedLive("and whose process is gone is none", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const sawToken = yield* published(ground, 401)
      yield* put(ground, "discovery.json", { ...readJson(ground, "discovery.json"), pid: 2 ** 30 })
      assert.isTrue((yield* find(ground)).spawned)
      assert.isFalse(sawToken())
    })
  )
})
