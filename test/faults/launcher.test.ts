import { cpSync, existsSync, readFileSync, statSync } from "node:fs"
import { createServer, type Server, type Socket } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { holderOf } from "../../src/layers/machine/fileLock.js"
import { eventually, type RunningBroker, startBroker, startPlugin } from "../kit/broker.js"
import { sharedResource } from "../kit/endToEnd.js"
import {
  allFoundOne,
  callers,
  type Ground,
  launchGround,
  lockOfAnother,
  lockOfTheDead,
  olderProgram,
  processes,
  programThat,
  put,
  readJson
} from "../kit/launching.js"

/** The design says five seconds; this machine may be loaded with other tests. */
const longestMs = 20_000

const killed = sharedResource(Effect.tap(startBroker(), (broker) => broker.end("SIGKILL")))

/** A broker that was killed, and all it left: put there as if it had run on this ground. */
const crashed = (ground: Ground) =>
  Effect.tap(killed, ({ userData }) => Effect.sync(() => cpSync(userData, ground.userData, { recursive: true })))

/** Listens on a port; all it hears. It answers every request with a success. */
const foreignListener = (port: number): Effect.Effect<() => string, never, Scope.Scope> => {
  let heard = ""
  const body = '{"ok":true,"proof":"00","version":"runtime-broker/99.0.0"}'
  const onConnection = (socket: Socket) => {
    socket.on("error", () => undefined)
    socket.on("data", (chunk) => {
      heard += chunk
      socket.end(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`)
    })
  }
  return Effect.acquireRelease(
    Effect.async<Server>((resume) => {
      const server = createServer(onConnection)
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  ).pipe(Effect.as(() => heard))
}

const isThere = (pid: number) =>
  Effect.map(
    Effect.promise(() => holderOf(pid, "")),
    ({ startedAs }) => startedAs !== null && startedAs !== "ended"
  )

/** Many callers at once: one broker is started for all of them, in time. */
const storm = (ground: Ground, from: string) =>
  Effect.gen(function* () {
    const { file, starts } = yield* programThat(ground, "")
    const results = yield* ground.storm({ brokerEntry: file })
    const found = allFoundOne(ground, results)
    assert.deepStrictEqual(starts(), [found.pid], "and no other was started")
    assert.lengthOf(results, processes * callers)
    const slowest = Math.max(...results.map(({ ms }) => ms))
    console.log(
      `from ${from}: ${results.length} callers in ${processes} processes, the slowest ${Math.round(slowest)} ms`
    )
    assert.isBelow(slowest, longestMs)
    return found
  })

describe("many callers in many processes find one broker, from", { timeout: 60_000 }, () => {
  it.scopedLive("G1, G6: nothing", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const { bearerToken, discoveryFile, ipcUrl, pid, version } = yield* storm(ground, "nothing")
      assert.deepInclude(readJson(ground, "discovery.json"), { pid, ipcUrl, bearerToken })
      assert.strictEqual(discoveryFile, join(ground.directory, "discovery.json"))
      assert.match(version!, /^runtime-broker\/\d/)
      const health = yield* Effect.promise(() =>
        fetch(`${ipcUrl}/health`, { headers: { authorization: `Bearer ${bearerToken}` } })
      )
      assert.strictEqual(health.status, 200)
      assert.strictEqual(statSync(join(ground.directory, "launch.log")).mode & 0o777, 0o600)
      const later = yield* ground.call(1)
      assert.deepInclude(later[0]!.found, { pid, spawned: false })
    })
  )

  it.scopedLive("G3: stale locks, of a crash while the broker was started and while it ran", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      yield* crashed(ground)
      const lock = yield* lockOfTheDead
      yield* put(ground, "discovery.json.lock", lock)
      yield* put(ground, `discovery.json.lock.${lock.pid}.${lock.mark}`, lock)
      yield* put(ground, "starting.json", { process: lock, at: Date.now(), key: "" })
      yield* storm(ground, "stale locks")
    })
  )

  it.scopedLive("G2: torn locks, and all else torn, too", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      yield* crashed(ground)
      for (const name of ["broker.lock", "discovery.json", "operator.json"]) {
        const text = readFileSync(join(ground.directory, name), "utf8")
        yield* put(ground, name, text.slice(0, text.length / 2))
      }
      yield* put(ground, "discovery.json.lock", "")
      yield* put(ground, "starting.json", "{")
      yield* storm(ground, "torn locks")
    })
  )

  it.scopedLive("G4, E12: process ids of the dead that others have now; these are left alone", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const dead = yield* crashed(ground)
      const { bystander, lock } = yield* lockOfAnother
      for (const name of ["broker.lock", "discovery.json.lock"]) yield* put(ground, name, lock)
      yield* put(ground, "starting.json", { process: lock, at: Date.now(), key: "" })
      yield* put(ground, "discovery.json", { ...readJson(ground, "discovery.json"), pid: bystander.pid })
      const { pid } = yield* storm(ground, "reused process ids")
      assert.notInclude([bystander.pid, dead.pid], pid)
      assert.isTrue(yield* isThere(bystander.pid!))
    })
  )

  it.scopedLive("E8: a foreign listener on the recorded port, which never sees a token", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const dead = yield* crashed(ground)
      const heard = yield* foreignListener(dead.port)
      const { ipcUrl } = yield* storm(ground, "a foreign listener")
      assert.notStrictEqual(ipcUrl, dead.url)
      assert.include(heard(), "GET /v1/proof?nonce=")
      for (const secret of [dead.token, dead.operatorToken, "uthorization"]) assert.notInclude(heard(), secret)
    })
  )

  it.scopedLive("E12: an older broker, which tells its plugins, leaves by itself and keeps what it holds", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const older = yield* startBroker({ userData: ground.userData, program: yield* olderProgram })
      const plugin = yield* startPlugin(older, { capabilities: ["drain_notice_v1", "endpoint_resume_v1"] })
      yield* plugin.open
      const id = yield* plugin.register()
      yield* plugin.call("POST", "/v1/send", { endpoint_id: id, to: "local:agent", content: "kept" })
      const { bearerToken, ipcUrl, version } = yield* storm(ground, "an older broker")
      assert.strictEqual((yield* older.exited).code, 0)
      assert.notStrictEqual(version, "runtime-broker/0.0.9")
      assert.deepInclude(plugin.frames.at(-1), { event: "broker_draining" })
      assert.strictEqual(plugin.closed()?.code, 1001)
      const headers = { authorization: `Bearer ${bearerToken}` }
      const inbox = yield* Effect.promise(async () => (await fetch(`${ipcUrl}/v1/undispatched`, { headers })).json())
      assert.strictEqual((inbox as any).items[0].content, "kept")
    })
  )

  it.scopedLive("E12: a broker that is stopped, which is surely the one of its lock", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const stopped = yield* startBroker({ userData: ground.userData })
      stopped.process.kill("SIGSTOP")
      const { pid } = yield* storm(ground, "a stopped broker")
      assert.notStrictEqual(pid, stopped.pid)
      assert.strictEqual((yield* stopped.exited).signal, "SIGKILL")
    })
  )
})

describe.concurrent("a broker that does not answer", { timeout: 60_000 }, () => {
  it.scopedLive("E12: is left alone when its lock does not say when it was started", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const stopped: RunningBroker = yield* startBroker({ userData: ground.userData })
      const lock = readJson(ground, "broker.lock")
      stopped.process.kill("SIGSTOP")
      yield* put(ground, "broker.lock", { ...lock, startedAs: null })
      const [unknown] = yield* ground.call(1)
      assert.strictEqual(unknown!.error?.code, "broker_not_usable")
      assert.include(unknown!.error!.message, String(stopped.pid))
      yield* put(ground, "broker.lock", { ...lock, bootId: null })
      assert.strictEqual((yield* ground.call(1))[0]!.error?.code, "broker_not_usable")
      assert.deepStrictEqual(ground.brokers(), [stopped.pid])
      stopped.process.kill("SIGCONT")
      assert.deepInclude((yield* ground.call(1))[0]!.found, { pid: stopped.pid, spawned: false })
    })
  )

  it.scopedLive("and goes on in time is used", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const broker = yield* startBroker({ userData: ground.userData })
      const calling = yield* Effect.fork(ground.call(2))
      broker.process.kill("SIGSTOP")
      yield* Effect.sleep("300 millis")
      broker.process.kill("SIGCONT")
      for (const { found } of yield* calling) assert.deepInclude(found, { pid: broker.pid, spawned: false })
    })
  )
})

describe.concurrent("a broker that leaves", { timeout: 60_000 }, () => {
  it.scopedLive("G10: is not found any more, and waited for: the next one starts when it has ended", () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const broker = yield* startBroker({ userData: ground.userData })
      // A plugin that does not answer holds it up.
      const plugin = yield* startPlugin(broker)
      const socket = yield* plugin.open
      socket.pause()
      yield* broker.operator("POST", "/v1/operator/stop")
      yield* eventually(
        Effect.sync(() => existsSync(join(ground.directory, "discovery.json"))),
        (found) => !found
      )
      assert.isTrue(yield* isThere(broker.pid))
      const { file, starts } = yield* programThat(ground, "")
      const [{ found }] = (yield* ground.call(1, { brokerEntry: file })) as [any]
      assert.strictEqual((yield* broker.exited).code, 0)
      assert.notStrictEqual(found.pid, broker.pid)
      assert.deepStrictEqual(starts(), [found.pid], "none was started in vain")
    })
  )

  it.scopedLive("D22: because nobody used it; the next caller starts another", () =>
    Effect.gen(function* () {
      const env = { MASONS_BROKER_IDLE_EXIT_MS: "400" }
      const ground = yield* launchGround({ env })
      const [first] = yield* ground.call(1)
      yield* eventually(Effect.sync(ground.brokers), (pids) => pids.length === 0, 15_000)
      assert.isFalse(existsSync(join(ground.directory, "discovery.json")))
      assert.include(readFileSync(join(ground.directory, "launch.log"), "utf8"), '"reason":"idle"')
      const [second] = yield* ground.call(1)
      assert.isTrue(second!.found!.spawned)
      assert.notStrictEqual(second!.found!.pid, first!.found!.pid)
    })
  )
})
