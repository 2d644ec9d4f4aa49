import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as CredentialsFile from "../../src/layers/CredentialsFile.js"
import { Credentials, type Identity } from "../../src/services/Credentials.js"
import { complaintOf, modeOf, ownDirectory, setMode } from "../kit/ground.js"

const token = "rk_live_0123456789"
const account = { connectorUrl: "wss://gw.example/gateway", token }
const isRoot = process.getuid?.() === 0

type Environment = Record<string, string | undefined>

/** A directory with the file in it, and the environment that names it. */
const withFile = (content: unknown, environment: Environment = {}) =>
  Effect.map(ownDirectory, (directory) => {
    const file = path.join(directory, "credentials.json")
    if (content !== undefined) {
      fs.writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o600 })
    }
    return { file, directory, environment: { HOME: directory, MASONS_BROKER_CREDENTIALS_FILE: file, ...environment } }
  })

const withOpenClaw = (content: unknown, environment: Environment = {}) =>
  Effect.map(ownDirectory, (directory) => {
    const home = path.join(directory, ".openclaw")
    fs.mkdirSync(home)
    const file = path.join(home, "openclaw.json")
    fs.writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o600 })
    return { file, directory, environment: { HOME: directory, ...environment } }
  })

const read = (environment: Environment, accountId = "default") => CredentialsFile.read(environment, accountId)

/** A single sentence that says which file and what to do, contains the word, and no token. */
const complaint = (environment: Environment, accountId = "default") =>
  Effect.map(complaintOf(read(environment, accountId)), (message) => {
    assert.match(message, /^The broker has no usable credentials: [^\n]+[^.]\.$/)
    assert.notInclude(message, token)
    return message
  })

const plain = ({ accountId, apiOrigin, connectorUrl, runtimeToken }: Identity) => ({
  accountId,
  apiOrigin,
  connectorUrl,
  token: Redacted.value(runtimeToken)
})

describe("the credentials file", () => {
  it.scoped("gives the account its token, its gateway and its platform", () =>
    Effect.gen(function* () {
      const accounts = {
        default: { ...account, apiHost: "api.example/", handle: "builder" },
        other: { ...account, token: "t2" }
      }
      const { environment } = yield* withFile({ accounts })
      const identity = yield* Effect.provide(Credentials, CredentialsFile.layer(environment, "default"))
      assert.deepStrictEqual(plain(identity), {
        accountId: "default",
        apiOrigin: "https://api.example",
        connectorUrl: account.connectorUrl,
        token
      })
      assert.notInclude(JSON.stringify(identity) + String(identity.runtimeToken), token)
      assert.strictEqual(plain(yield* read(environment, "other")).token, "t2")
    })
  )

  it.scoped("names the platform unless the environment does; without either it is the usual one", () =>
    Effect.gen(function* () {
      const { environment } = yield* withFile({
        accounts: { default: { ...account, apiHost: "api.example" }, bare: account }
      })
      const origin = (more: Environment, accountId?: string) =>
        Effect.map(read({ ...environment, ...more }, accountId), ({ apiOrigin }) => apiOrigin)
      assert.strictEqual(yield* origin({ MASONS_BROKER_API_HOST: "env.example" }), "https://env.example")
      assert.strictEqual(yield* origin({ MASONS_BROKER_API_HOST: "" }), "https://api.example")
      assert.strictEqual(yield* origin({}, "bare"), "https://preview-api.masons.ai")
      assert.strictEqual(
        yield* origin({ MASONS_BROKER_API_HOST: "http://localhost:8080/" }, "bare"),
        "http://localhost:8080"
      )
    })
  )

  it.scoped("may begin with a byte order mark, and hold what is not known yet", () =>
    Effect.gen(function* () {
      const { environment } = yield* withFile(
        `\ufeff${JSON.stringify({ version: 2, accounts: { default: { ...account, x: 1 } } })}`
      )
      assert.strictEqual(plain(yield* read(environment)).token, token)
    })
  )

  it.scoped("that is wrong is a sentence that says what to fix", () =>
    Effect.gen(function* () {
      const accounts = (given: unknown) => ({ accounts: { default: given } })
      const cases: ReadonlyArray<readonly [content: unknown, ...says: ReadonlyArray<string>]> = [
        [undefined, "does not exist", "MASONS_BROKER_CREDENTIALS_FILE"],
        ["", "not JSON"],
        [`{"token": "${token}`, "not JSON"],
        ["x".repeat(1_100_000), "larger than"],
        ["[]", "one JSON object"],
        ["null", "one JSON object"],
        ['"text"', "one JSON object"],
        ["{}", '"accounts"', "an object"],
        [{ accounts: [account] }, '"accounts"', "an object"],
        [{ accounts: null }, '"accounts"', "an object"],
        [{ accounts: {} }, 'no account "default"', "<none>", "MASONS_BROKER_ACCOUNT_ID"],
        [{ accounts: { work: account, home: account } }, 'no account "default"', "work, home"],
        [accounts(null), 'account "default"', "must be an object"],
        [accounts([token]), 'account "default"', "must be an object"],
        [accounts({ token }), '"connectorUrl"', "is missing"],
        [accounts({ ...account, connectorUrl: "" }), '"connectorUrl"', "is missing"],
        [accounts({ ...account, connectorUrl: 7 }), '"connectorUrl"', "is missing"],
        [accounts({ connectorUrl: account.connectorUrl }), '"token"', "is missing"],
        [accounts({ ...account, token: "" }), '"token"', "is missing"],
        [accounts({ ...account, token: null }), '"token"', "is missing"],
        [accounts({ ...account, token: `${token}\n` }), '"token"', "line break"],
        [accounts({ ...account, token: `${token} x` }), '"token"', "space"],
        [accounts({ ...account, apiHost: 7 }), '"apiHost"', "must be a string"],
        [accounts({ ...account, apiHost: null }), '"apiHost"', "must be a string"],
        [accounts({ ...account, handle: {} }), '"handle"', "must be a string"],
        [accounts({ ...account, connectorUrl: token }), '"connectorUrl"', "wss://"],
        [accounts({ ...account, connectorUrl: "https://gw.example" }), '"connectorUrl"', "wss://"],
        [accounts({ ...account, connectorUrl: "ws://gw.example/gateway" }), '"connectorUrl"', "unencrypted"],
        [
          accounts({ ...account, connectorUrl: "wss://masons.ai/gateway" }),
          "wss://preview-connectorapi.masons.ai/gateway"
        ],
        [
          accounts({ ...account, apiHost: "API.masons.ai", connectorUrl: "wss://preview.masons.ai/x" }),
          "wss://connectorapi.masons.ai/gateway"
        ],
        [accounts({ ...account, apiHost: "http://api.example" }), '"apiHost"', "unencrypted", "api.example"],
        [accounts({ ...account, apiHost: `https://u:${token}@api.example` }), '"apiHost"', "without user"],
        [accounts({ ...account, apiHost: "a b" }), '"apiHost"', "no host name"]
      ]
      for (const [content, ...says] of cases) {
        const { environment, file } = yield* withFile(content)
        const message = yield* complaint(environment)
        for (const part of [file, ...says]) assert.include(message, part, JSON.stringify(content)?.slice(0, 100))
      }
    })
  )

  it.scoped("knows no accounts that only every object has", () =>
    Effect.gen(function* () {
      const { environment } = yield* withFile({ accounts: { work: account } })
      for (const name of ["constructor", "__proto__", "toString"]) {
        assert.include(yield* complaint(environment, name), `no account "${name}"`)
      }
      const odd = yield* withFile(`{"accounts": {"__proto__": ${JSON.stringify(account)}}}`)
      assert.strictEqual(plain(yield* read(odd.environment, "__proto__")).token, token)
    })
  )

  it.scoped("may be right and the environment wrong", () =>
    Effect.gen(function* () {
      const { environment } = yield* withFile({ accounts: { default: account } })
      for (const host of ["http://api.example", "https://x y"]) {
        const message = yield* complaint({ ...environment, MASONS_BROKER_API_HOST: host })
        assert.include(message, "the environment variable MASONS_BROKER_API_HOST")
      }
    })
  )

  it.scoped("is for this user alone, and a file", () =>
    Effect.gen(function* () {
      const { directory, environment, file } = yield* withFile({ accounts: { default: account } })
      for (const mode of [0o644, 0o640, 0o620, 0o604, 0o601]) {
        setMode(file, mode)
        yield* read(environment)
        assert.strictEqual(modeOf(file), "600", "closed to others")
      }
      for (const mode of [0o600, 0o400]) {
        setMode(file, mode)
        assert.strictEqual(plain(yield* read(environment)).token, token)
      }
      const link = path.join(directory, "link.json")
      fs.symlinkSync(file, link)
      assert.include(yield* complaint({ ...environment, MASONS_BROKER_CREDENTIALS_FILE: link }), "symbolic link")
      assert.include(yield* complaint({ ...environment, MASONS_BROKER_CREDENTIALS_FILE: directory }), "not a file")
      const pipe = path.join(directory, "pipe")
      execFileSync("mkfifo", ["-m", "600", pipe])
      assert.include(yield* complaint({ ...environment, MASONS_BROKER_CREDENTIALS_FILE: pipe }), "not a file")
      const under = path.join(file, "x")
      assert.include(yield* complaint({ ...environment, MASONS_BROKER_CREDENTIALS_FILE: under }), "ENOTDIR")
    })
  )

  it.skipIf(!isRoot)("of another user is refused", () =>
    Effect.gen(function* () {
      const { environment, file } = yield* withFile({ accounts: { default: account } })
      fs.chownSync(file, 12_345, 12_345)
      const message = yield* complaint(environment)
      for (const part of [file, "12345", "chown"]) assert.include(message, part)
    }).pipe(Effect.scoped, Effect.runPromise)
  )

  it.skipIf(isRoot)("that this user may not read says so", () =>
    Effect.gen(function* () {
      const { environment, file } = yield* withFile({ accounts: { default: account } })
      setMode(file, 0o000)
      assert.include(yield* complaint(environment), "EACCES")
    }).pipe(Effect.scoped, Effect.runPromise)
  )
})

describe("without that file, OpenClaw's configuration", () => {
  const configuration = (given: object = {}) => ({
    channels: { "agent-network": { accounts: { default: account, work: { ...account, token: "t2" } }, ...given } }
  })

  it.scoped("gives the account, from the directory OPENCLAW_HOME or from home", () =>
    Effect.gen(function* () {
      const { directory, environment } = yield* withOpenClaw(configuration({ apiHost: "api.example" }))
      assert.deepStrictEqual(plain(yield* read(environment)), {
        accountId: "default",
        apiOrigin: "https://api.example",
        connectorUrl: account.connectorUrl,
        token
      })
      assert.strictEqual(plain(yield* read(environment, "work")).token, "t2")
      const named = { HOME: "/nowhere", OPENCLAW_HOME: path.join(directory, ".openclaw") }
      assert.strictEqual(plain(yield* read(named)).token, token)
      assert.strictEqual(plain(yield* read({ ...environment, OPENCLAW_HOME: "" })).token, token)
      const elsewhere = { ...environment, MASONS_BROKER_API_HOST: "env.example" }
      assert.strictEqual((yield* read(elsewhere)).apiOrigin, "https://env.example")
    })
  )

  it.scoped("is not asked when a file is named, even one that is not there", () =>
    Effect.gen(function* () {
      const { environment } = yield* withOpenClaw(configuration())
      const message = yield* complaint({ ...environment, MASONS_BROKER_CREDENTIALS_FILE: "/nowhere/c.json" })
      assert.include(message, "/nowhere/c.json")
    })
  )

  it.scoped("names the usual platform when it names none that is a text", () =>
    Effect.gen(function* () {
      for (const apiHost of [undefined, 7, null, ""]) {
        const { environment } = yield* withOpenClaw(configuration({ apiHost }))
        assert.strictEqual((yield* read(environment)).apiOrigin, "https://preview-api.masons.ai")
      }
    })
  )

  it.scoped("that is not there, not JSON or without the account says what can be done", () =>
    Effect.gen(function* () {
      const empty = yield* ownDirectory
      const complaints = [yield* complaint({ HOME: empty })]
      for (const content of [
        "",
        "// comments\n{}",
        "[]",
        {},
        { channels: [] },
        { channels: { "agent-network": null } },
        { channels: { "agent-network": { accounts: { default: { token } } } } },
        { channels: { "agent-network": { accounts: { default: { ...account, token: 7 } } } } },
        { channels: { "agent-network": { accounts: { other: account } } } }
      ]) {
        complaints.push(yield* complaint((yield* withOpenClaw(content)).environment))
      }
      for (const message of complaints) {
        for (const part of [
          "openclaw.json",
          '"default"',
          "MASONS_BROKER_CREDENTIALS_FILE",
          "--connector loopback",
          "setup"
        ]) {
          assert.include(message, part)
        }
      }
      assert.include(complaints[0]!, "does not exist")
      assert.include(complaints[1]!, "not JSON")
    })
  )

  it.scoped("is checked like the file: addresses, and who else may read it", () =>
    Effect.gen(function* () {
      const web = configuration({ accounts: { default: { ...account, connectorUrl: "wss://masons.ai/gateway" } } })
      assert.include(
        yield* complaint((yield* withOpenClaw(web)).environment),
        "wss://preview-connectorapi.masons.ai/gateway"
      )
      const plain = yield* withOpenClaw(configuration({ apiHost: "http://api.example" }))
      const message = yield* complaint(plain.environment)
      for (const part of ['"apiHost"', "agent-network", plain.file]) assert.include(message, part)
      const { environment, file } = yield* withOpenClaw(configuration())
      setMode(file, 0o644)
      yield* read(environment)
      assert.strictEqual(modeOf(file), "600", "closed to others")
    })
  )
})
