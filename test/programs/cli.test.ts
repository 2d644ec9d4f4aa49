import { createHmac } from "node:crypto"
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Status } from "../../src/services/ipc/OperatorGroup.js"
import { type Exited, environmentOf, eventually, runProgram, startBroker, temporaryDirectory } from "../kit/broker.js"
import { sharedBroker, startSession } from "../kit/endToEnd.js"
import { cli, here, hereOf } from "../kit/operatorCli.js"

/** Many processes are started, and others may load the machine. */
const patience = { timeout: 60_000 }

const processIsThere = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const shared = sharedBroker({})

describe.concurrent("status", patience, () => {
  it.scopedLive("tells in words what the broker holds", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { agent, id, send } = yield* startSession(broker, {}, { workspace: "/srv/parser" })
      yield* send(`local:${agent}`, "for anybody")
      const { code, stderr, stdout } = yield* cli(broker.userData, "status")
      assert.deepStrictEqual([code, stderr], [0, ""])
      for (const word of [`process ${broker.pid}`, '"default"', "loopback", "online", id, "test · parser", "active"]) {
        assert.include(stdout, word)
      }
      assert.match(stdout, /1 undispatched message/)
      assert.notInclude(stdout, "for anybody")
    })
  )

  it.scopedLive("--json prints all of it as one object", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { code, stderr, stdout } = yield* hereOf(broker, "status", "--json")
      assert.deepStrictEqual([code, stderr], [0, ""])
      const status = yield* Schema.decodeUnknown(Schema.parseJson(Status))(stdout)
      assert.strictEqual(status.pid, broker.pid)
      assert.notInclude(stdout, broker.token)
      assert.notInclude(stdout, broker.operatorToken)
    })
  )

  it.scopedLive("ends with 1 and a sentence when no broker runs", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const account = join(userData, "runtime-broker", "other")
      for (const { code, stderr, stdout } of [
        yield* cli(userData, "status", "--account", "other"),
        yield* hereOf({ directory: account }, "status", "--json")
      ]) {
        assert.deepStrictEqual([code, stdout], [1, ""])
        assert.match(stderr, /^No broker is running.*\n$/)
        assert.include(stderr, account)
      }
    })
  )
})

describe.concurrent("start and stop", patience, () => {
  it.scopedLive("start runs in the foreground until stop, which waits for its end", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const started = yield* Effect.fork(
        cli(userData, "start", "--connector", "loopback", "--set", "graceMs=1234", "--set", "inboxMessages=7")
      )
      const account = join(userData, "runtime-broker", "default")
      // It is published when it is whole.
      const [directory] = yield* eventually(
        Effect.sync(() =>
          existsSync(account)
            ? readdirSync(account).filter((id) => existsSync(join(account, id, "discovery.json")))
            : []
        ),
        (found) => found.length === 1,
        20_000
      )
      const { stdout } = yield* hereOf({ directory: join(account, directory!) }, "status", "--json")
      const status: Status = JSON.parse(stdout)
      assert.deepInclude(status.inbox, { limit_messages: 7 })
      assert.isTrue(processIsThere(status.pid))
      const stopped = yield* cli(userData, "stop")
      assert.deepStrictEqual([stopped.code, stopped.stderr], [0, ""])
      assert.include(stopped.stdout, String(status.pid))
      assert.isFalse(processIsThere(status.pid))
      const exited = yield* started
      assert.deepStrictEqual([exited.code, exited.stderr], [0, ""])
      assert.match(exited.stdout, /^\{"event":"broker_ready".*\n\{"event":"broker_leaving".*\n$/)
    })
  )

  it.scopedLive("stop and drain are content when no broker runs", () =>
    Effect.gen(function* () {
      for (const command of ["stop", "drain"]) {
        const { code, stderr, stdout } = yield* cli(yield* temporaryDirectory, command)
        assert.deepStrictEqual([code, stderr], [0, ""])
        assert.match(stdout, new RegExp(`^No broker is running.*Nothing to ${command}\\.\\n$`))
      }
    })
  )

  it.scopedLive("drain waits for the broker's end, too, and says it whether another is to follow", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const { code, stderr, stdout } = yield* cli(broker.userData, "drain", "--restart")
      assert.deepStrictEqual([code, stderr], [0, ""])
      assert.include(stdout, String(broker.pid))
      assert.isFalse(processIsThere(broker.pid))
      const ended = yield* broker.exited
      assert.strictEqual(ended.code, 0)
      assert.include(ended.stdout, '"reason":"restart"')
    })
  )

  it.scopedLive("start ends with 1 and a sentence when it cannot, and with 0 when one runs already", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const without = yield* cli(userData, "start")
      assert.deepStrictEqual([without.code, without.stdout], [1, ""])
      assert.match(without.stderr, /^.*credentials.*--connector loopback.*\n$/)
      const wrong: ReadonlyArray<readonly [string, ...ReadonlyArray<string>]> = [
        ["port", "--connector", "loopback", "--port", "abc"],
        ["graceMs", "--connector", "loopback", "--set", "graceMs=soon"]
      ]
      for (const [name, ...args] of wrong) {
        const { code, stderr, stdout } = yield* cli(userData, "start", ...args)
        assert.deepStrictEqual([code, stdout], [1, ""], stderr)
        assert.match(stderr, new RegExp(`^.*"${name}".*\\n$`))
      }
      const unset = yield* cli(userData, "start", "--set", "graceMs")
      assert.strictEqual(unset.code, 2)
      assert.include(unset.stdout + unset.stderr, `--set takes name=value, not "graceMs"`)
      const broker = yield* shared
      const second = yield* cli(broker.userData, "start", "--connector", "loopback")
      assert.strictEqual(second.code, 0)
      assert.include(second.stderr, `already running as process ${broker.pid}`)
    })
  )
})

describe.concurrent("usage", patience, () => {
  it.scopedLive("ends with 2 when it is wrong, and says what is", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      for (const { code, stderr, stdout } of [
        yield* cli(userData, "nonsense"),
        yield* cli(userData, "start", "--connector"),
        yield* here("nonsense"),
        yield* here("status", "--account"),
        yield* here("stop", "--account")
      ]) {
        assert.deepStrictEqual([code, stdout], [2, ""])
        assert.isAbove(stderr.trim().length, 10)
      }
      assert.isFalse(existsSync(join(userData, "runtime-broker")))
    })
  )

  it.scopedLive("--help names the commands, --version the version", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const help = yield* cli(userData, "--help")
      assert.strictEqual(help.code, 0)
      for (const command of ["start", "status", "stop", "drain"]) assert.include(help.stdout, command)
      const version = yield* cli(userData, "--version")
      assert.strictEqual(version.code, 0)
      assert.match(version.stdout.trim(), /^\d+\.\d+\.\d+\S*$/)
    })
  )
})

describe.concurrent("which broker", patience, () => {
  it.scopedLive("is the one of the account that is named, else that of the environment", () =>
    Effect.gen(function* () {
      const one = yield* shared
      const { userData } = one
      const two = yield* startBroker({ userData, settings: { accountId: "two/x" } })
      const pidOf = ({ stdout }: Exited) => JSON.parse(stdout).pid
      assert.strictEqual(pidOf(yield* cli(userData, "status", "--json", "--account", "two/x")), two.pid)
      assert.strictEqual(pidOf(yield* hereOf(two, "status", "--json")), two.pid)
      const environment = environmentOf(userData, { accountId: "two/x" })
      const named = yield* runProgram("programs/cli.js", ["drain"], environment)
      assert.include(named.stdout, String(two.pid))
      const ended = yield* two.exited
      assert.strictEqual(ended.code, 0)
      assert.include(ended.stdout, '"reason":"operator"')
      assert.strictEqual((yield* one.call("GET", "/health")).status, 200)
    })
  )

  it.scopedLive("must be named where an account has several", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const userData = yield* temporaryDirectory
      const account = join(userData, "runtime-broker", "default")
      const copies = ["0123456789abcdef", "fedcba9876543210"].map((id) => join(account, id))
      mkdirSync(account, { recursive: true, mode: 0o700 })
      for (const copy of copies) cpSync(broker.directory, copy, { recursive: true })
      const { code, stderr } = yield* cli(userData, "stop")
      assert.strictEqual(code, 1)
      for (const word of [...copies, "--directory"]) assert.include(stderr, word)
      const named = yield* hereOf({ directory: copies[0]! }, "status", "--json")
      assert.strictEqual(JSON.parse(named.stdout).pid, broker.pid)
    })
  )

  it.scopedLive("is none whose files others can read or put there", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const directory = join(yield* temporaryDirectory, "copy")
      cpSync(broker.directory, directory, { recursive: true })
      const file = join(directory, "discovery.json")
      chmodSync(file, 0o644)
      const open = yield* hereOf({ directory }, "status")
      assert.deepStrictEqual([open.code, open.stdout], [1, ""])
      assert.include(open.stderr, file)
      chmodSync(file, 0o600)
      renameSync(file, join(directory, "elsewhere.json"))
      symlinkSync(join(directory, "elsewhere.json"), file)
      const linked = yield* hereOf({ directory }, "stop")
      assert.strictEqual(linked.code, 1)
      assert.include(linked.stderr, "symbolic link")
      assert.strictEqual((yield* broker.call("GET", "/health")).status, 200)
    })
  )
})

describe.concurrent("S13, E8: whoever listens on the recorded port and is not the broker", patience, () => {
  /** A listener of the test, recorded as a broker; what it hears, and the tokens it must not. */
  const recorded = (answer: (request: IncomingMessage, response: ServerResponse, port: number) => void) =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const directory = join(userData, "runtime-broker", "default", "0123456789abcdef")
      const tokens = { plugin: "p".repeat(43), operator: "o".repeat(43) }
      const heard: Array<string> = []
      const server = yield* Effect.acquireRelease(
        Effect.async<ReturnType<typeof createServer>>((resume) => {
          const server = createServer((request, response) => {
            let body = ""
            request.on("data", (chunk) => {
              body += chunk
            })
            request.on("end", () => heard.push([request.method, request.url, ...request.rawHeaders, body].join(" ")))
            answer(request, response, (server.address() as AddressInfo).port)
          }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) =>
          Effect.sync(() => {
            server.close()
            server.closeAllConnections()
          })
      )
      const { port } = server.address() as AddressInfo
      const discovery = {
        version: 1,
        pid: process.pid,
        startedAt: new Date().toISOString(),
        ipcUrl: `http://127.0.0.1:${port}`,
        bearerToken: tokens.plugin
      }
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      writeFileSync(join(directory, "discovery.json"), JSON.stringify(discovery), { mode: 0o600 })
      const operator = { version: 1, operatorToken: tokens.operator }
      writeFileSync(join(directory, "operator.json"), JSON.stringify(operator), { mode: 0o600 })
      /** Asked by the built command, or within the test. */
      const isTakenForNone = (command: "status" | "stop", isBuilt = false) =>
        Effect.gen(function* () {
          const { code, stderr, stdout } = yield* isBuilt ? cli(userData, command) : hereOf({ directory }, command)
          assert.strictEqual(code, command === "stop" ? 0 : 1, stderr)
          assert.include(stdout + stderr, "No broker is running")
          assert.isNotEmpty(heard)
          for (const text of heard) {
            assert.match(text, /^GET \/v1\/proof\?nonce=[0-9a-f]{32,128}(&again)? /)
            for (const token of Object.values(tokens)) assert.notInclude(text, token)
            assert.notMatch(text, /authorization/i)
          }
        })
      return { directory, tokens, heard, isTakenForNone }
    })

  it.scopedLive("sees no token, whatever it answers", () =>
    Effect.gen(function* () {
      const answers = [JSON.stringify({ proof: "00".repeat(32) }), JSON.stringify({ proof: "" }), "not JSON"]
      const { heard, isTakenForNone } = yield* recorded((_, response) => {
        response.setHeader("content-type", "application/json")
        response.end(answers[heard.length % answers.length])
      })
      yield* isTakenForNone("status", true)
      for (const command of ["stop", "status"] as const) yield* isTakenForNone(command)
      assert.lengthOf(heard, 3)
    })
  )

  it.scopedLive("sees no token when it sends the question elsewhere", () =>
    Effect.gen(function* () {
      const { heard, isTakenForNone } = yield* recorded((request, response, port) => {
        response.setHeader("content-type", "application/json")
        if (request.url!.endsWith("&again")) return void response.end(JSON.stringify({ proof: "00".repeat(32) }))
        response.writeHead(307, { location: `http://127.0.0.1:${port}${request.url}&again` }).end()
      })
      yield* isTakenForNone("status")
      assert.isNotEmpty(heard)
    })
  )

  it.scopedLive("does not keep the command waiting for long", () =>
    Effect.gen(function* () {
      const { isTakenForNone } = yield* recorded(() => undefined)
      const from = Date.now()
      yield* isTakenForNone("status")
      assert.isBelow(Date.now() - from, 10_000)
    })
  )

  it.scopedLive("cannot pass on the question to the broker itself: the proof holds for one port", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      let asked = 0
      const { tokens, isTakenForNone } = yield* recorded((request, response) => {
        asked++
        void fetch(broker.url + request.url)
          .then((answer) => answer.text())
          .then((text) => response.setHeader("content-type", "application/json").end(text))
      })
      assert.notStrictEqual(tokens.plugin, broker.token)
      yield* isTakenForNone("status")
      assert.strictEqual(asked, 1)
    })
  )

  it.scopedLive("is taken for the broker when it can prove that it knows the token: the check is the proof", () =>
    Effect.gen(function* () {
      const { directory, tokens } = yield* recorded((request, response, port) => {
        const nonce = new URL(request.url!, "http://x").searchParams.get("nonce")
        const proof = createHmac("sha256", "p".repeat(43)).update(`runtime-broker\n${port}\n${nonce}`).digest("hex")
        response.setHeader("content-type", "application/json")
        response.end(JSON.stringify(nonce === null ? {} : { proof }))
      })
      assert.strictEqual(tokens.plugin, "p".repeat(43))
      const { code, stderr } = yield* hereOf({ directory }, "status")
      assert.strictEqual(code, 1)
      assert.notInclude(stderr, "No broker is running")
    })
  )
})
