import { readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { placeOf } from "../../../src/programs/client/launchPlace.js"
import { isOlder, parseRecorded } from "../../../src/programs/client/launchProbe.js"
import { programOf } from "../../../src/programs/client/launchStart.js"
import { dist } from "../../kit/broker.js"
import { launchGround, put } from "../../kit/launching.js"

describe("versions", () => {
  it("are compared by their three numbers", () => {
    const older = [
      ["runtime-broker/0.0.9", "0.1.0"],
      ["runtime-broker/0.9.9", "0.10.0"],
      ["0.1.9", "1.0.0"],
      ["runtime-broker/1.2.2+build", "1.2.3-rc.1"]
    ] as const
    for (const [theirs, ours] of older) {
      assert.isTrue(isOlder(theirs, ours), `${theirs} ${ours}`)
      assert.isFalse(isOlder(ours, theirs.replace("runtime-broker/", "")), `${ours} ${theirs}`)
    }
  })
  it("that are equal but for what follows, or cannot be read, are not older", () => {
    for (const theirs of ["0.1.0", "runtime-broker/0.1.0-rc.1", "other/0.0.1", "0.0", "", "x", undefined]) {
      assert.isFalse(isOlder(theirs, "0.1.0"), theirs)
    }
  })
})

describe("a discovery file", () => {
  const whole = { version: 1, pid: 7, startedAt: "", ipcUrl: "http://127.0.0.1:4600", bearerToken: "secret" }
  it("names process, place and token", () => {
    const { bearerToken, ipcUrl, pid } = whole
    assert.deepStrictEqual(parseRecorded(JSON.stringify(whole)), { pid, ipcUrl, bearerToken })
  })
  it("that is torn, something else, or leads away from this machine is none", () => {
    const others = [
      { ...whole, version: 2 },
      { ...whole, pid: "7" },
      { ...whole, bearerToken: undefined },
      { ...whole, ipcUrl: "http://example.com:4600" },
      { ...whole, ipcUrl: "https://127.0.0.1:4600" },
      { ...whole, ipcUrl: "http://127.0.0.1:4600@example.com:80" },
      []
    ]
    for (const text of ["", "{", "null", ...others.map((other) => JSON.stringify(other))]) {
      assert.isUndefined(parseRecorded(text), text)
    }
  })
})

describe("the environment of a broker that is started", () => {
  const environment = (more: object = {}) =>
    Effect.map(launchGround(more), ({ options }) => programOf(options, placeOf(options)).environment)

  it.scopedLive("names account, directory and network", () =>
    Effect.gen(function* () {
      const { options } = yield* launchGround({ accountId: "acme" })
      const given = programOf(options, placeOf(options)).environment
      assert.deepInclude(given, {
        MASONS_BROKER_ACCOUNT_ID: "acme",
        MASONS_BROKER_USER_DATA: options.userDataDir!,
        MASONS_BROKER_CONNECTOR: "loopback"
      })
    })
  )
  it.scopedLive("is of the gateway unless the token is that of loopback, or another network is named", () =>
    Effect.gen(function* () {
      const connectorOf = (env: Record<string, string>) =>
        Effect.map(environment({ runtimeToken: "rk", env }), (given) => given.MASONS_BROKER_CONNECTOR)
      assert.strictEqual(yield* connectorOf({}), "gateway")
      assert.strictEqual(yield* connectorOf({ MASONS_BROKER_CONNECTOR: "loopback" }), "gateway")
      assert.strictEqual(yield* connectorOf({ MASONS_BROKER_CONNECTOR: "other" }), "other")
    })
  )
  it.scopedLive("adds to this process's, takes away what is undefined, and keeps the plugin's debugger out", () =>
    Effect.gen(function* () {
      const given = yield* environment({ env: { ADDED: "yes", PATH: undefined } })
      assert.strictEqual(given.ADDED, "yes")
      assert.notProperty(given, "PATH")
      assert.notProperty(given, "NODE_OPTIONS")
      assert.propertyVal(
        yield* environment({ env: { NODE_OPTIONS: "--no-warnings" } }),
        "NODE_OPTIONS",
        "--no-warnings"
      )
    })
  )
  it.scopedLive("D22: ends it when nobody uses it, on loopback, unless a setting says otherwise", () =>
    Effect.gen(function* () {
      const name = "MASONS_BROKER_IDLE_EXIT_MS"
      assert.propertyVal(yield* environment(), name, "1800000")
      assert.propertyVal(yield* environment({ env: { [name]: "0" } }), name, "0")
      assert.notProperty(yield* environment({ runtimeToken: "rk" }), name)
      const ground = yield* launchGround()
      yield* put(ground, "discovery.json", "")
      writeFileSync(join(ground.userData, "runtime-broker", "config.json"), '{"idleExitMs": 0}')
      assert.notProperty(programOf(ground.options, placeOf(ground.options)).environment, name)
    })
  )
})

it("the launcher loads nothing but Node's own modules: a plugin must not wait for it", () => {
  const seen = new Set<string>()
  const packages = new Set<string>()
  const follow = (file: string) => {
    if (seen.has(file)) return
    seen.add(file)
    for (const [, from] of readFileSync(file, "utf8").matchAll(/^(?:im|ex)port (?:.* from )?"([^"]+)"/gm)) {
      if (from!.startsWith(".")) follow(join(dirname(file), from!))
      else if (!from!.startsWith("node:")) packages.add(from!)
    }
  }
  follow(dist("programs/client/launch.js"))
  assert.isAbove(seen.size, 10)
  assert.deepStrictEqual([...packages], [])
})
