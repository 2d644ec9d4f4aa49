/**
 * Weaknesses of section E by their ids, where no other file tells them: E1 is in callers, E4 in layers/RouterDefault, E8 in cli,
 * E9 in routes/register.
 */
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { dirname, join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { environmentOf, eventually, runProgram, startBroker, startPlugin, temporaryDirectory } from "../kit/broker.js"
import { contentsOf, refused, registerAgain, sharedResource, startSession, usualBroker } from "../kit/endToEnd.js"
import { modeOf } from "../kit/ground.js"
import { head, rawRequest } from "../kit/rawHttp.js"

describe("E: security", { timeout: 60_000 }, () => {
  it.scopedLive("E1: another plugin with the shared token neither sends as an endpoint nor ends it", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const [owner, other] = [yield* startSession(broker), yield* startSession(broker)]
      const send = { endpoint_id: owner.id, to: other.address, content: "forged" }
      refused(yield* other.plugin.call("POST", "/v1/send", send), 403, "endpoint_pid_mismatch")
      refused(yield* other.plugin.call("DELETE", `/v1/endpoint/${owner.id}`), 403, "endpoint_pid_mismatch")
      assert.strictEqual((yield* owner.send(other.address, "true")).status, 200)
      assert.deepStrictEqual(yield* contentsOf(other.plugin, 1), ["true"])
    })
  )

  it.scopedLive(
    "E2: whoever only says a plugin's process id acts for none of its endpoints that demand their token",
    () =>
      Effect.gen(function* () {
        const broker = yield* usualBroker
        const capabilities = ["push_receipt_ack_v1", "endpoint_owner_token_v1"]
        const [owner, sender] = [yield* startSession(broker, { capabilities }), yield* startSession(broker)]
        const { id, ownerToken, plugin } = owner
        const liar = yield* startPlugin(broker, { process: plugin.process, capabilities, acknowledges: false })
        yield* liar.open
        yield* eventually(Effect.sync(plugin.closed), (closed) => closed !== undefined)
        for (const token of [{}, { "x-endpoint-owner-token": sender.ownerToken }]) {
          const attempts: ReadonlyArray<readonly [method: string, path: string, body?: object]> = [
            ["POST", "/v1/send", { endpoint_id: id, to: sender.address, content: "forged" }],
            ["POST", `/v1/endpoint/${id}/heartbeat`, {}],
            ["POST", `/v1/endpoint/${id}/reattach`, { plugin_pid: plugin.pid }],
            ["POST", `/v1/endpoint/${id}/task-hint`, { plugin_pid: plugin.pid, task_hint: "forged" }],
            ["DELETE", `/v1/endpoint/${id}`]
          ]
          for (const [method, path, body] of attempts) {
            refused(yield* liar.call(method, path, body, { ...token }), 403, "endpoint_owner_token_mismatch")
          }
        }
        const registered = yield* registerAgain({ ...owner, plugin: liar })
        assert.notStrictEqual(registered.endpoint_id, id, "the session without its token is another one")
        for (const content of ["one", "two"]) yield* sender.send(owner.address, content)
        yield* plugin.open
        const back = { plugin_pid: plugin.pid }
        const owned = { "x-endpoint-owner-token": ownerToken }
        assert.strictEqual((yield* plugin.call("POST", `/v1/endpoint/${id}/reattach`, back, owned)).status, 200)
        assert.deepStrictEqual(yield* contentsOf(plugin, 2), ["one", "two"])
        assert.deepStrictEqual([...sender.plugin.messages, ...liar.messages], [])
      })
  )

  it.scopedLive("E7: on loopback a stranger learns that a broker is there, and a rebound name not even that", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const get = (target: string, ...headers: ReadonlyArray<string>) =>
        rawRequest(broker.port, head(`GET ${target}`, headers))
      const own = `Host: 127.0.0.1:${broker.port}`
      assert.strictEqual((yield* get("/health", own)).text, '{"ok":true}')
      refused(yield* get("/health", `Host: rebound.example:${broker.port}`), 403, "host_not_allowed")
      for (const length of [0, 1, 42, 43, 44, 1_000]) {
        const answer = yield* get("/v1/undispatched", own, `Authorization: Bearer ${"x".repeat(length)}`)
        refused(answer, 401, "unauthorized")
        assert.strictEqual(
          answer.text,
          (yield* get("/v1/undispatched", own)).text,
          "every wrong token is answered alike"
        )
      }
    })
  )

  const first = sharedResource(Effect.tap(startBroker(), (broker) => broker.end("SIGTERM")))
  /** A copy of what a broker left that was here before. */
  const left = Effect.gen(function* () {
    const broker = yield* first
    const userData = yield* temporaryDirectory
    cpSync(broker.userData, userData, { recursive: true })
    const copyOf = (path: string) => path.replace(broker.userData, userData)
    return { userData, directory: copyOf(broker.directory), logs: copyOf(dirname(broker.logFile)) }
  })

  it.scopedLive("E10, S5: what is there and open to others is closed to them at the start, logs as well", () =>
    Effect.gen(function* () {
      const { directory, logs, userData } = yield* left
      for (const each of [directory, logs]) chmodSync(each, 0o755)
      for (const name of ["discovery.json", "operator.json"]) {
        writeFileSync(join(directory, name), "{}")
        chmodSync(join(directory, name), 0o666)
      }
      const broker = yield* startBroker({ userData })
      assert.strictEqual(broker.directory, directory)
      for (const each of [directory, logs]) assert.strictEqual(modeOf(each), "700", each)
      for (const name of ["discovery.json", "operator.json", "broker.lock"]) {
        assert.strictEqual(modeOf(join(broker.directory, name)), "600", name)
      }
      for (const name of readdirSync(logs)) assert.strictEqual(modeOf(join(logs, name)), "600", name)
    })
  )

  it.scopedLive("S5: files that are links are replaced, and what they lead to stays as it is", () =>
    Effect.gen(function* () {
      const { directory, userData } = yield* left
      const precious = join(userData, "precious")
      writeFileSync(precious, "precious")
      const names = ["discovery.json", "operator.json"]
      for (const name of names) symlinkSync(precious, join(directory, name))
      const broker = yield* startBroker({ userData })
      for (const name of names) assert.isTrue(lstatSync(join(broker.directory, name)).isFile(), name)
      assert.strictEqual(readFileSync(precious, "utf8"), "precious")
    })
  )

  it.scopedLive("S5: a directory that is a link is refused: the broker does not start and writes nothing there", () =>
    Effect.gen(function* () {
      const { directory, userData } = yield* left
      const elsewhere = join(userData, "elsewhere")
      renameSync(directory, join(userData, "old"))
      mkdirSync(elsewhere, { mode: 0o700 })
      symlinkSync(elsewhere, directory)
      const { code, stderr, stdout } = yield* runProgram("programs/broker.js", [], environmentOf(userData, {}))
      assert.deepStrictEqual([code, stdout], [1, ""])
      assert.include(stderr, "symbolic link")
      assert.include(stderr, directory)
      assert.deepStrictEqual(readdirSync(elsewhere), [])
    })
  )
})
