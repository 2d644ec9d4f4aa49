import { readdirSync, readFileSync, statSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, startBroker } from "../kit/broker.js"
import { inboxOf, logged, refused, sharedResource, startSession, statusOf, untilState } from "../kit/endToEnd.js"

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)

/** A broker with a whole life, and what it printed. */
const lived = sharedResource(
  Effect.gen(function* () {
    const broker = yield* startBroker()
    const session = yield* startSession(broker)
    const { id, plugin } = session
    yield* session.send(`local:${session.agent}`, "nobody's")
    const [item] = yield* inboxOf(broker, "nobody's")
    yield* broker.call("POST", "/v1/dispatch", { undispatched_id: item.id, target_endpoint_id: id })
    yield* plugin.call("POST", `/v1/endpoint/${id}/task-hint`, { plugin_pid: plugin.pid, task_hint: "x" })
    yield* plugin.drop
    yield* untilState(broker, id, "reconnecting")
    yield* plugin.open
    yield* plugin.call("POST", `/v1/endpoint/${id}/reattach`, { plugin_pid: plugin.pid })
    return { broker, printed: yield* broker.end("SIGTERM") }
  })
)

describe.concurrent("L6: the log", () => {
  it.scopedLive("is a secret file named after the process, one JSON object a line", () =>
    Effect.gen(function* () {
      const { broker } = yield* lived
      yield* logged(broker, "broker_ready")
      assert.strictEqual(basename(broker.logFile), `broker-${broker.pid}.log`)
      assert.strictEqual(dirname(broker.logFile), join(broker.userData, "runtime-broker", "log"))
      assert.strictEqual(modeOf(broker.logFile), "600")
      assert.strictEqual(modeOf(dirname(broker.logFile)), "700")
      for (const line of broker.logLines()) {
        assert.match(line.ts as string, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
        assert.include(["info", "warn", "error"], line.level)
        assert.strictEqual(line.pid, broker.pid)
        assert.match(line.msg, /^[A-Za-z0-9_]+$/)
      }
    })
  )

  it.scopedLive("tells the life of the broker and of its endpoints, in the names of the reference", () =>
    Effect.gen(function* () {
      const { broker } = yield* lived
      const told = broker.logLines().map(({ msg }) => msg)
      const expected = [
        "ipc_server_listening",
        "discovery_written",
        "broker_ready",
        "endpoint_registered",
        "undispatched_added",
        "undispatched_dispatched",
        "task_hint_updated",
        "endpoint_reattached",
        "shutdown_begin"
      ]
      assert.deepStrictEqual(
        told.filter((msg) => expected.includes(msg)),
        expected
      )
      assert.isEmpty(broker.logLines().filter(({ level }) => level === "error"))
    })
  )

  it.scopedLive("says of which exception the broker ended that nobody caught; the next one starts", () =>
    Effect.gen(function* () {
      const fault = `process.once("SIGUSR2", () => { throw new Error("a fault") })`
      const broker = yield* startBroker({
        environment: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(fault)}` }
      })
      const session = yield* startSession(broker)
      const { code, stderr } = yield* broker.end("SIGUSR2")
      assert.strictEqual(code, 1)
      assert.include(stderr, "Error: a fault")
      const last = broker.logLines().at(-1)!
      assert.deepInclude(last, { level: "error", msg: "broker_fatal_exit", origin: "uncaughtException" })
      assert.include(last.reason as string, "a fault")
      const next = yield* startBroker({ userData: broker.userData })
      yield* untilState(next, session.id, "reconnecting")
    })
  )

  it.scopedLive("S11: holds no token and no content, nor does anything the broker prints or is called with", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { logLevel: "debug", graceMs: 200, nackDelayMs: 10 } })
      const capabilities = ["push_receipt_ack_v1", "push_nack_v1", "endpoint_owner_token_v1"]
      const session = yield* startSession(broker, { acknowledges: false, capabilities })
      const { id, ownerToken, plugin, socket } = session
      const secret = "s3cret-c0ntent"
      const metadata = { in_reply_to: `${secret}-id`, traceparent: `${secret}-trace`, note: secret }
      yield* session.send(session.address, secret, { metadata })
      const [frame] = yield* plugin.take(1)
      socket.send(JSON.stringify({ event: "push_ack", push_id: `${secret}-push` }))
      socket.send(JSON.stringify({ event: "push_nack", push_id: frame!.push_id, reason: "busy" }))
      socket.send(`{"event":"${secret}"`)
      yield* plugin.take(1)
      yield* session.send(`local:${session.agent}`, secret, { contentType: secret })
      yield* session.send(`local:${secret}`, secret)
      const owner = { "x-endpoint-owner-token": ownerToken }
      const hint = { plugin_pid: plugin.pid, task_hint: secret }
      yield* plugin.call("POST", `/v1/endpoint/${id}/task-hint`, hint, owner)
      refused(yield* broker.call("POST", "/v1/send", `{"content":"${secret}"`), 400, "bad_request")
      refused(
        yield* broker.call("GET", "/health", undefined, { origin: `http://${secret}` }),
        403,
        "origin_not_allowed"
      )
      yield* broker.call("GET", "/v1/undispatched", undefined, { authorization: `Bearer ${secret}` })
      yield* plugin.drop
      yield* eventually(statusOf(broker, id), (endpoint) => endpoint === undefined)
      const commandLine = readFileSync(`/proc/${broker.pid}/cmdline`, "utf8")
      const { stderr, stdout } = yield* broker.end("SIGTERM")
      const all = readFileSync(broker.logFile, "utf8") + stdout + stderr + commandLine
      assert.include(all, "push_refused")
      for (const word of [broker.token, broker.operatorToken, ownerToken, secret]) assert.notInclude(all, word)
    })
  )

  it.scopedLive("begins another file when it is full, and keeps so many", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { logBytes: 1_000, logFiles: 3 } })
      const directory = dirname(broker.logFile)
      const mine = Effect.sync(() => readdirSync(directory).sort())
      for (let n = 0; n < 40; n++) {
        const { id, plugin } = yield* startSession(broker)
        yield* plugin.call("DELETE", `/v1/endpoint/${id}`)
        const names = yield* mine
        assert.isAtMost(names.length, 3)
        if (names.length === 3) break
      }
      yield* eventually(mine, (names) => names.length === 3)
      yield* broker.end("SIGTERM")
      const names = yield* mine
      assert.isAtMost(names.length, 3)
      assert.includeMembers(names, [`broker-${broker.pid}.1.log`, `broker-${broker.pid}.2.log`])
      for (const name of names) {
        const file = join(directory, name)
        assert.strictEqual(modeOf(file), "600")
        for (const line of readFileSync(file, "utf8").trim().split("\n")) assert.isString(JSON.parse(line).msg)
      }
    })
  )
})

describe.concurrent("standard output", () => {
  it.scopedLive(
    "is JSON lines for programs: ready with everything needed to find it, and leaving with the reason",
    () =>
      Effect.gen(function* () {
        const { broker, printed } = yield* lived
        const { stderr, stdout } = printed
        assert.strictEqual(stderr, "")
        const [ready, leaving, ...more] = stdout
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line))
        assert.isEmpty(more)
        assert.deepInclude(ready, {
          event: "broker_ready",
          account: "default",
          connector: "loopback",
          url: broker.url,
          pid: broker.pid,
          discoveryFile: join(broker.directory, "discovery.json"),
          logFile: broker.logFile
        })
        assert.match(ready.version, /^runtime-broker\//)
        assert.deepInclude(leaving, { event: "broker_leaving", reason: "signal" })
        assert.isAtLeast(Date.parse(leaving.ts), Date.parse(ready.ts))
      })
  )

  it.scopedLive("may have nobody who reads it: the broker works on, and leaves as ever", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      broker.process.closeOutputs()
      const session = yield* startSession(broker)
      yield* session.send(session.address, "unheard")
      assert.strictEqual((yield* session.plugin.take(1))[0]!.content, "unheard")
      const { code, signal } = yield* broker.end("SIGTERM")
      assert.deepStrictEqual([code, signal], [0, null])
      assert.isEmpty(readdirSync(broker.directory).filter((name) => name !== "store"))
    })
  )
})
