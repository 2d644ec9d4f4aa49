import { chmodSync, cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Exited, environmentOf, eventually, runProgram, startBroker, temporaryDirectory } from "../kit/broker.js"
import { sharedResource, startSession, untilState } from "../kit/endToEnd.js"
import { modeOf } from "../kit/ground.js"
import { cli, hereOf, linesOf, stored } from "../kit/operatorCli.js"

/** Many processes are started, and others may load the machine. */
const patience = { timeout: 120_000 }

interface Check {
  readonly check: string
  readonly level: string
  readonly message: string
}
const checksOf = (stdout: string): ReadonlyArray<Check> => JSON.parse(stdout).checks
const find = (checks: ReadonlyArray<Check>, level: string, check: string) =>
  checks.filter((one) => one.level === level && one.check === check).map(({ message }) => message)

/** It ends with 1, and names this problem and no other. */
const onlyProblem = ({ code, stderr, stdout }: Exited, check: string, ...words: ReadonlyArray<string>) => {
  const problems = checksOf(stdout).filter(({ level }) => level === "problem")
  assert.deepStrictEqual(
    [code, stderr, problems.map((problem) => problem.check)],
    [1, "There is a problem.\n", [check]],
    stdout
  )
  for (const word of words) assert.include(problems[0]!.message, word)
}

/** A broker of which mail for an endpoint that is away, undispatched and delivered messages are known. */
const filled = Effect.gen(function* () {
  const broker = yield* startBroker()
  const { address, agent, id, plugin, send } = yield* startSession(broker)
  yield* send(address, "delivered")
  yield* plugin.take(1)
  yield* send(`local:${agent}`, "undispatched")
  yield* plugin.drop
  yield* untilState(broker, id, "reconnecting")
  const other = yield* startSession(broker)
  for (const content of ["one", "two"]) yield* other.send(address, content)
  yield* eventually(broker.status, ({ books }) => books.held === 2 && books.delivered === 1)
  yield* stored(broker)
  return broker
})

describe("doctor, of a running broker", patience, () => {
  // What a test does to its files it undoes; the next one would find it.
  const shared = sharedResource(filled)

  it.scopedLive("finds everything well, a line each, and ends with 0", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { code, stderr, stdout } = yield* cli(broker.userData, "doctor")
      assert.deepStrictEqual([code, stderr], [0, ""], stdout)
      for (const line of linesOf(stdout)) assert.match(line, /^(ok|warning) +\w+ +\S.*\.$/)
      for (const words of [
        process.versions.node,
        broker.directory,
        `Process ${broker.pid}`,
        "proved itself",
        "is up",
        "free"
      ]) {
        assert.include(stdout, words)
      }
      assert.notInclude(stdout, broker.token)
      assert.notInclude(stdout, broker.operatorToken)
    })
  )

  it.scopedLive("D11: --ledger compares the books with the records of the store", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { code, stdout } = yield* hereOf(broker, "doctor", "--ledger", "--json")
      assert.strictEqual(code, 0, stdout)
      const [message] = find(checksOf(stdout), "ok", "ledger")
      for (const words of ["2 held", "1 in the inbox", "0 dead letters", "4 accepted"]) assert.include(message!, words)
      const { body } = yield* broker.operator("GET", "/v1/operator/ledger")
      assert.deepInclude(body, { settled: true, problems: [] })
      assert.deepInclude(body.stored, { held: 2, inbox: 1 })
    })
  )

  it.scopedLive("names files that others can read", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const file = join(broker.directory, "store/data.mdb")
      chmodSync(file, 0o644)
      onlyProblem(yield* hereOf(broker, "doctor", "--json"), "files", file, "644", "chmod 600")
      assert.strictEqual(modeOf(file), "644", "it changes nothing")
      chmodSync(file, 0o600)
    })
  )

  it.scopedLive("names a process that holds the lock and does not answer", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      process.kill(broker.pid, "SIGSTOP")
      const ended = yield* hereOf(broker, "doctor", "--json")
      process.kill(broker.pid, "SIGCONT")
      onlyProblem(ended, "answer", `Process ${broker.pid}`, "does not answer")
    })
  )

  it.scopedLive("names a discovery file that is another's, or gone", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const file = join(broker.directory, "discovery.json")
      const text = readFileSync(file, "utf8")
      writeFileSync(file, JSON.stringify({ ...JSON.parse(text), pid: process.pid }))
      const { code, stdout } = yield* hereOf(broker, "doctor", "--json")
      assert.strictEqual(code, 1)
      assert.match(find(checksOf(stdout), "problem", "discovery")[0]!, new RegExp(`${process.pid}.*${broker.pid}`))
      rmSync(file)
      const gone = yield* hereOf(broker, "doctor", "--json")
      assert.include(find(checksOf(gone.stdout), "warning", "discovery")[0]!, "not published")
      assert.strictEqual(gone.code, 1)
      writeFileSync(file, text, { mode: 0o600 })
    })
  )

  it.scopedLive("names a disk with too little room", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const environment = environmentOf(broker.userData, { freeDiskBytes: 2 ** 52 })
      const ended = yield* runProgram("programs/cli.js", ["doctor", "--json"], environment)
      onlyProblem(ended, "disk", "no new mail is taken below")
    })
  )
})

describe.concurrent("doctor, where no broker runs", patience, () => {
  const left = sharedResource(Effect.tap(filled, (broker) => broker.end("SIGKILL")))
  /** A copy of what a killed broker left. */
  const killed = Effect.gen(function* () {
    const { directory, pid, userData } = yield* left
    const copy = yield* temporaryDirectory
    cpSync(userData, copy, { recursive: true })
    return { pid, directory: directory.replace(userData, copy) }
  })

  it.scopedLive("says that none ever ran, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const { code, stderr, stdout } = yield* cli(userData, "doctor", "--ledger")
      assert.deepStrictEqual([code, stderr], [0, ""])
      assert.include(stdout, "has ever run here")
      assert.isFalse(existsSync(join(userData, "runtime-broker")))
    })
  )

  it.scopedLive("checks its store, and warns of what a killed one left", () =>
    Effect.gen(function* () {
      const broker = yield* killed
      const { code, stdout } = yield* hereOf(broker, "doctor", "--ledger", "--json")
      assert.strictEqual(code, 0, stdout)
      const checks = checksOf(stdout)
      for (const check of ["lock", "discovery"]) assert.include(find(checks, "warning", check)[0]!, String(broker.pid))
      assert.include(find(checks, "ok", "store")[0]!, "as they were written")
      assert.include(find(checks, "ok", "ledger")[0]!, "2 messages held for 1 endpoint, 1 in the inbox")
    })
  )

  it.scopedLive("names what is damaged in its store", () =>
    Effect.gen(function* () {
      const broker = yield* killed
      const file = join(broker.directory, "store/data.mdb")
      const text = readFileSync(file, "latin1")
      assert.include(text, '"content":"undispatched"')
      writeFileSync(file, text.replaceAll('"content":"undispatched"', '"content":"Undispatched"'), "latin1")
      onlyProblem(yield* hereOf(broker, "doctor", "--json"), "store", "inbox: 1")
    })
  )

  it.scopedLive("names settings that cannot be read, and goes on", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const environment = { ...environmentOf(userData, {}), MASONS_BROKER_GRACE_MS: "soon" }
      const ended = yield* runProgram("programs/cli.js", ["doctor", "--json"], environment)
      onlyProblem(ended, "settings", "MASONS_BROKER_GRACE_MS")
    })
  )

  it.scopedLive("names variables that are misspelt, of which the broker warns too", () =>
    Effect.gen(function* () {
      const environment = { MASONS_BROKER_GRACE: "5", MASONS_BROKER_API_HOST: "https://a.example", MASONS_OTHER: "x" }
      const broker = yield* startBroker({ environment })
      const found = broker.logLines().filter(({ msg }) => msg === "variables_unknown")
      assert.deepStrictEqual(
        found.map(({ level, variables }) => [level, variables]),
        [["warn", ["MASONS_BROKER_GRACE"]]]
      )
      const { code, stdout } = yield* runProgram("programs/cli.js", ["doctor", "--json"], {
        ...environmentOf(broker.userData, {}),
        ...environment
      })
      const { checks } = JSON.parse(stdout)
      const warned = checks.filter(({ level }: { level: string }) => level !== "ok")
      assert.deepStrictEqual([code, warned.length, warned[0].level, warned[0].check], [0, 1, "warning", "settings"])
      assert.include(warned[0].message, "MASONS_BROKER_GRACE ")
    })
  )

  it.scopedLive("ends with 2 when it is used wrongly", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* cli(yield* temporaryDirectory, "doctor", "--nonsense")
      assert.deepStrictEqual([code, stdout], [2, ""])
      assert.isAbove(stderr.trim().length, 10)
    })
  )
})
