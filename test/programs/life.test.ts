import { createHash } from "node:crypto"
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { connect, createServer } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Exited, environmentOf, eventually, runProgram, startBroker, temporaryDirectory } from "../kit/broker.js"
import { refused, startSession } from "../kit/endToEnd.js"
import { head, rawRequest, upgradeHeaders } from "../kit/rawHttp.js"

/** Many processes are started, and others may load the machine. */
const patience = { timeout: 60_000 }

const runBroker = (userData: string, more: Record<string, string> = {}) =>
  runProgram("programs/broker.js", [], { ...environmentOf(userData, {}), ...more })

/** The directory of the account's identity on the loopback network. */
const identityOf = (userData: string, account = "default") =>
  join(userData, "runtime-broker", account, createHash("sha256").update("loopback").digest("hex").slice(0, 16))

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)

const filesBelow = (directory: string): ReadonlyArray<string> =>
  existsSync(directory) ? readdirSync(directory, { recursive: true }).map(String) : []

/** It could not start: one sentence that says each of `words`, and nothing that plugins could find. */
const failedToStart = ({ code, stderr, stdout }: Exited, userData: string, ...words: ReadonlyArray<string>) => {
  assert.strictEqual(code, 1, stderr)
  assert.strictEqual(stdout, "")
  assert.match(stderr, /^.+\n$/, "one sentence")
  for (const word of words) assert.include(stderr, word)
  const left = filesBelow(userData).filter((name) => /(discovery\.json|operator\.json|broker\.lock.*)$/.test(name))
  assert.deepStrictEqual(left, [])
}

describe.concurrent("L1: a start that cannot succeed", patience, () => {
  it.scopedLive("without a connector says that there are no credentials, and how to do without", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const { MASONS_BROKER_CONNECTOR: _, ...environment } = environmentOf(userData, {})
      const exited = yield* runProgram("programs/broker.js", [], environment)
      failedToStart(exited, userData, "credentials", "--connector loopback", '"default"')
    })
  )

  it.scopedLive("names the setting that is wrong, where it was set, and what it must be", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const wrong = { MASONS_BROKER_GRACE_MS: "ten minutes" }
      failedToStart(yield* runBroker(userData, wrong), userData, ...Object.entries(wrong)[0]!, "a whole number")
    })
  )

  it.scopedLive("names the configuration file that is wrong", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const file = join(userData, "mine.json")
      writeFileSync(file, '{"graceMilliseconds": 1}')
      failedToStart(yield* runBroker(userData, { MASONS_BROKER_CONFIG: file }), userData, file, "graceMilliseconds")
    })
  )

  it.scopedLive("names the directory it cannot use", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      writeFileSync(join(userData, "a file"), "")
      const inFile = join(userData, "a file", "data")
      failedToStart(yield* runBroker(inFile), userData, join(userData, "a file"))
    })
  )

  it.scopedLive("names the port that is taken", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const port = yield* Effect.acquireRelease(
        Effect.async<readonly [number, () => void]>((resume) => {
          const server = createServer().listen(0, "127.0.0.1", () =>
            resume(Effect.succeed([(server.address() as { port: number }).port, () => server.close()]))
          )
        }),
        ([, close]) => Effect.sync(close)
      )
      const exited = yield* runBroker(userData, { MASONS_BROKER_PORT: String(port[0]) })
      failedToStart(exited, userData, String(port[0]), "MASONS_BROKER_PORT")
    })
  )
})

describe.concurrent("discovery", patience, () => {
  it.scopedLive("S5: is a secret file in the identity's directory that says process, address and token", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const directory = identityOf(userData, "acme_co_x")
      mkdirSync(directory, { recursive: true, mode: 0o755 })
      chmodSync(directory, 0o755)
      const broker = yield* startBroker({ userData, settings: { accountId: "acme/co:x" } })
      assert.strictEqual(broker.directory, directory)
      const text = readFileSync(join(directory, "discovery.json"), "utf8")
      const { startedAt, ...discovery } = JSON.parse(text)
      assert.deepStrictEqual(discovery, {
        version: 1,
        pid: broker.pid,
        ipcUrl: `http://127.0.0.1:${broker.port}`,
        bearerToken: broker.token
      })
      assert.isBelow(Math.abs(Date.now() - Date.parse(startedAt)), 60_000)
      assert.strictEqual(text, `${JSON.stringify(JSON.parse(text), null, 2)}\n`)
      const operator = JSON.parse(readFileSync(join(directory, "operator.json"), "utf8"))
      assert.deepStrictEqual(operator, { version: 1, operatorToken: broker.operatorToken })
      assert.strictEqual(modeOf(directory), "700")
      for (const name of readdirSync(directory).filter((name) => statSync(join(directory, name)).isFile())) {
        assert.strictEqual(modeOf(join(directory, name)), "600", name)
      }
    })
  )

  it.scopedLive(
    "that is torn, foreign or open to others is replaced at the start; left alone when it is another's",
    () =>
      Effect.gen(function* () {
        const userData = yield* temporaryDirectory
        const directory = identityOf(userData)
        mkdirSync(directory, { recursive: true, mode: 0o700 })
        const file = join(directory, "discovery.json")
        const foreign = { version: 1, pid: process.pid, startedAt: "", ipcUrl: "http://127.0.0.1:9", bearerToken: "x" }
        const start = (text: string) =>
          Effect.gen(function* () {
            writeFileSync(file, text, { mode: 0o644 })
            chmodSync(file, 0o644)
            const broker = yield* startBroker({ userData })
            assert.strictEqual(JSON.parse(readFileSync(file, "utf8")).pid, broker.pid)
            assert.strictEqual(modeOf(file), "600")
            return broker
          })
        const first = yield* start('{"version":1,"pid":')
        const another = JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), bearerToken: "another" })
        writeFileSync(file, another)
        yield* first.end("SIGTERM")
        assert.strictEqual(readFileSync(file, "utf8"), another, "it is not the broker's own any more")
        const second = yield* start(JSON.stringify(foreign))
        assert.isTrue(existsSync(join(directory, "broker.lock")))
        assert.strictEqual((yield* second.end("SIGHUP")).code, 0, "as when its terminal is closed")
        const left = readdirSync(directory).filter((name) => name !== "store")
        assert.deepStrictEqual(left, [], "gone when it has left, with the operator's file and the lock")
      })
  )
})

describe.concurrent("L2: one broker for one identity", patience, () => {
  it.scopedLive("a second start says which process runs and ends with 0; the first goes on", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const before = readFileSync(join(broker.directory, "discovery.json"), "utf8")
      const second = yield* runBroker(broker.userData)
      assert.strictEqual(second.code, 0)
      assert.strictEqual(second.stdout, "")
      assert.match(second.stderr, new RegExp(`^.*already running.*${broker.pid}.*\\n$`))
      assert.strictEqual(readFileSync(join(broker.directory, "discovery.json"), "utf8"), before)
      assert.strictEqual((yield* broker.call("GET", "/health")).status, 200)
      const other = yield* startBroker({ userData: broker.userData, settings: { accountId: "other" } })
      assert.notStrictEqual(other.port, broker.port)
    })
  )

  it.scopedLive("of many that start at once one runs, and the others end with 0", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const run = Effect.fork(runBroker(userData))
      const fibers = yield* Effect.all(Array.from({ length: 4 }, () => run))
      const running = Effect.sync(() => fibers.filter((fiber) => fiber.unsafePoll() === null))
      const [winner] = yield* eventually(running, (fibers) => fibers.length === 1, 15_000)
      const file = join(identityOf(userData), "discovery.json")
      yield* eventually(
        Effect.sync(() => existsSync(file)),
        (isThere) => isThere
      )
      const { pid } = JSON.parse(readFileSync(file, "utf8"))
      process.kill(pid, "SIGTERM")
      const exits = yield* Effect.all(fibers)
      assert.deepStrictEqual(
        exits.map(({ code }) => code),
        [0, 0, 0, 0]
      )
      // It may be told to go before it could say that it is ready.
      assert.match((yield* winner!).stdout, /broker_leaving/)
      for (const { stderr } of exits.filter(({ stdout }) => stdout === "")) assert.include(stderr, String(pid))
    })
  )

  it.scopedLive("a lock that is removed while its broker runs is there again, and keeps the next from starting", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { discoveryCheckMs: 50 } })
      const lock = join(broker.directory, "broker.lock")
      rmSync(lock)
      yield* eventually(
        Effect.sync(() => existsSync(lock)),
        (isThere) => isThere
      )
      const second = yield* runBroker(broker.userData)
      assert.deepStrictEqual([second.code, second.stdout], [0, ""])
      assert.include(second.stderr, String(broker.pid))
      assert.include(readFileSync(broker.logFile, "utf8"), "lock_restored")
    })
  )

  it.scopedLive("a broker that finds another one's lock in the place of its own leaves, and leaves that one be", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { discoveryCheckMs: 50 } })
      const lock = join(broker.directory, "broker.lock")
      const other = JSON.stringify({ ...JSON.parse(readFileSync(lock, "utf8")), pid: process.pid, startedAs: null })
      writeFileSync(lock, other)
      const { code, stderr, stdout } = yield* broker.exited
      assert.deepStrictEqual([code, stderr], [0, ""])
      assert.include(stdout, '"reason":"restart"')
      assert.strictEqual(readFileSync(lock, "utf8"), other)
      assert.match(readFileSync(broker.logFile, "utf8"), new RegExp(`"lock_lost".*"holder":${process.pid}\\b`))
    })
  )

  it.scopedLive("a broker that was killed is followed by one with other tokens, which plugins find", () =>
    Effect.gen(function* () {
      const first = yield* startBroker()
      const { directory, userData } = first
      const lock = join(directory, "broker.lock")
      const session = yield* startSession(first)
      const killed = yield* first.end("SIGKILL")
      assert.strictEqual(killed.signal, "SIGKILL")
      for (const name of ["discovery.json", "broker.lock"]) assert.isTrue(existsSync(join(directory, name)), name)
      const real = JSON.parse(readFileSync(lock, "utf8"))
      const second = yield* startBroker({ userData })
      assert.strictEqual(second.directory, directory)
      assert.strictEqual(JSON.parse(readFileSync(lock, "utf8")).pid, second.pid)
      assert.notStrictEqual(second.token, first.token)
      assert.notStrictEqual(second.operatorToken, first.operatorToken)
      const old = yield* second.call("GET", "/v1/undispatched", undefined, { authorization: `Bearer ${first.token}` })
      refused(old, 401, "unauthorized")
      const again = yield* startSession(second, { process: session.plugin.process })
      yield* again.send(again.address, "after the crash")
      assert.strictEqual((yield* again.plugin.take(1))[0]!.content, "after the crash")
      yield* second.end("SIGTERM")

      // Of a reused process id; layers/InstanceLockFile has all the others.
      writeFileSync(lock, JSON.stringify({ ...real, pid: process.pid, startedAs: "1" }), { mode: 0o600 })
      const third = yield* startBroker({ userData })
      assert.strictEqual(JSON.parse(readFileSync(lock, "utf8")).pid, third.pid)
      yield* third.end("SIGTERM")
      assert.deepStrictEqual(
        readdirSync(directory).filter((name) => name.startsWith("broker.lock")),
        []
      )
    })
  )
})

describe.concurrent("L3: leaving", patience, () => {
  /** How long it took. */
  const timed = <A>(effect: Effect.Effect<A>) =>
    Effect.gen(function* () {
      const from = Date.now()
      return { result: yield* effect, ms: Date.now() - from }
    })

  it.scopedLive("D1: SIGTERM with plugins connected: not found any more first, then 1001, then code 0", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const [one, two] = [yield* startSession(broker), yield* startSession(broker)]
      const foundAtClose: Array<boolean> = []
      for (const { socket } of [one, two]) {
        socket.once("close", () => foundAtClose.push(existsSync(join(broker.directory, "discovery.json"))))
      }
      const { ms, result } = yield* timed(broker.end("SIGTERM"))
      assert.deepStrictEqual([result.code, result.signal, result.stderr], [0, null, ""])
      assert.isBelow(ms, 4_000)
      for (const { plugin } of [one, two]) assert.strictEqual(plugin.closed()!.code, 1001)
      assert.deepStrictEqual(foundAtClose, [false, false])
    })
  )

  it.scopedLive("a plugin that does not answer and a request that never ends hold it no longer than leaveMs", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { leaveMs: 1_500, leavePlatformMs: 500 } })
      const { socket } = yield* startSession(broker)
      socket.pause()
      const half = yield* Effect.acquireRelease(
        Effect.sync(() => connect(broker.port, "127.0.0.1").on("error", () => undefined)),
        (half) => Effect.sync(() => half.destroy())
      )
      half.write("POST /v1/send HTTP/1.1\r\nHost: ")
      const { ms, result } = yield* timed(broker.end("SIGTERM"))
      assert.strictEqual(result.code, 0)
      assert.isBelow(ms, 5_000)
      assert.isFalse(existsSync(join(broker.directory, "discovery.json")))
    })
  )

  it.scopedLive("nor for all of leaveMs: what is open at the end is cut, at SIGINT, too", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const { socket } = yield* startSession(broker)
      socket.pause()
      const half = yield* Effect.acquireRelease(
        Effect.sync(() => connect(broker.port, "127.0.0.1").on("error", () => undefined)),
        (half) => Effect.sync(() => half.destroy())
      )
      const lines = [`Host: 127.0.0.1:${broker.port}`, `Authorization: Bearer ${broker.token}`, "Content-Length: 100"]
      half.write(head("POST /v1/send", lines))
      const { ms, result } = yield* timed(broker.end("SIGINT"))
      assert.deepStrictEqual([result.code, result.signal, result.stderr], [0, null, ""])
      assert.isBelow(ms, 4_000)
    })
  )

  it.scopedLive("D20: while it leaves it takes no new work and says so; a second signal ends it at once", () =>
    Effect.gen(function* () {
      // A plugin that does not answer the close holds it for a fifth of leaveMs.
      const broker = yield* startBroker({ settings: { leaveMs: 60_000 } })
      const { address, agent, id, plugin, socket } = yield* startSession(broker)
      socket.pause()
      broker.process.kill("SIGTERM")
      yield* eventually(
        Effect.sync(() => existsSync(join(broker.directory, "discovery.json"))),
        (isThere) => !isThere
      )
      const body = { endpoint_id: id, to: address, content: "x" }
      const sent = yield* plugin.call("POST", "/v1/send", body)
      refused(sent, 503, "broker_draining")
      assert.strictEqual(sent.body.retryable, true)
      const registering = { agent_id: agent, plugin_pid: plugin.pid, kind: "test" }
      refused(yield* plugin.call("POST", "/v1/endpoint/register", registering), 503, "broker_draining")
      const lines = [...upgradeHeaders, `Host: 127.0.0.1:${broker.port}`, `Authorization: Bearer ${broker.token}`]
      const upgraded = yield* rawRequest(broker.port, head("GET /v1/stream", [...lines, "x-plugin-pid: 1"]))
      refused(upgraded, 503, "broker_draining")
      assert.strictEqual(upgraded.body.retryable, true)
      const { ms } = yield* timed(broker.end("SIGTERM"))
      assert.isBelow(ms, 5_000)
    })
  )

  it.scopedLive("the operator's stop is a signal by another way", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const { plugin } = yield* startSession(broker)
      yield* broker.operator("POST", "/v1/operator/stop")
      const exited = yield* broker.exited
      assert.strictEqual(exited.code, 0)
      assert.strictEqual(plugin.closed()!.code, 1001)
      const leaving = exited.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
        .at(-1)
      assert.deepInclude(leaving, { event: "broker_leaving", reason: "operator" })
    })
  )
})
