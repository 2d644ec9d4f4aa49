import { mkdirSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as BrokerConfigSources from "../../src/layers/BrokerConfigSources.js"
import { BrokerConfig, defaults } from "../../src/services/BrokerConfig.js"
import { complaintOf, ownDirectory } from "../kit/ground.js"

interface Given {
  /** The text of the configuration file; none when absent. */
  readonly file?: string
  readonly environment?: Record<string, string | undefined>
  readonly flags?: Record<string, string>
}

const sources = ({ environment = {}, file, flags = {} }: Given) =>
  Effect.map(ownDirectory, (base) => {
    const { file: where } = BrokerConfigSources.sourcesFor(base, { environment, flags })
    mkdirSync(path.dirname(where.path), { recursive: true })
    if (file !== undefined) writeFileSync(where.path, file)
    return { environment, flags, file: where }
  })
const read = (given: Given) => Effect.flatMap(sources(given), BrokerConfigSources.read)
const complaint = (given: Given) => complaintOf(read(given))
const json = (values: unknown) => JSON.stringify(values)

describe("settings come", () => {
  it.scopedLive("from nowhere: the defaults", () =>
    Effect.map(read({}), (settings) => assert.deepStrictEqual(settings, defaults))
  )
  it.scopedLive("from file, environment and command line, the later stronger than the earlier", () =>
    Effect.map(
      read({
        file: json({ graceMs: 1, presenceGraceMs: 1, receiptMs: 1, connector: "loopback", pluginsMayDispatch: false }),
        environment: { MASONS_BROKER_PRESENCE_GRACE_MS: "2", MASONS_BROKER_RECEIPT_MS: "2" },
        flags: { receiptMs: "3" }
      }),
      (settings) =>
        assert.deepStrictEqual(settings, {
          ...defaults,
          graceMs: 1,
          presenceGraceMs: 2,
          receiptMs: 3,
          connector: "loopback",
          pluginsMayDispatch: false
        })
    )
  )
  it.scopedLive("not from empty environment variables, nor from those of others", () =>
    Effect.map(
      read({
        file: json({ graceMs: 1 }),
        environment: {
          MASONS_BROKER_GRACE_MS: "",
          MASONS_BROKER_PORT: undefined,
          MASONS_BROKER_USER_DATA: "/x",
          PATH: ""
        }
      }),
      (settings) => assert.deepStrictEqual(settings, { ...defaults, graceMs: 1 })
    )
  )
  it.scopedLive("as they are written, commas, dots and blanks in a text included", () =>
    Effect.gen(function* () {
      for (const accountId of ["a,b", "a.b", "a b", "é"]) {
        assert.strictEqual((yield* read({ file: json({ accountId }) })).accountId, accountId)
        assert.strictEqual((yield* read({ flags: { accountId } })).accountId, accountId)
      }
    })
  )
  it.scopedLive("as the service BrokerConfig", () =>
    Effect.gen(function* () {
      const layer = BrokerConfigSources.layer(yield* sources({ flags: { port: "4711" } }))
      assert.strictEqual((yield* Effect.provide(BrokerConfig, layer)).port, 4711)
    })
  )
})

describe("the configuration file", () => {
  it.live("lies in the base directory, unless the environment names another", () =>
    Effect.sync(() => {
      assert.deepStrictEqual(BrokerConfigSources.sourcesFor("/base", { environment: {}, flags: {} }).file, {
        path: path.join("/base", "runtime-broker", "config.json"),
        isDemanded: false
      })
      const environment = { MASONS_BROKER_CONFIG: "/etc/broker.json" }
      assert.deepStrictEqual(BrokerConfigSources.sourcesFor("/base", { environment, flags: {} }).file, {
        path: "/etc/broker.json",
        isDemanded: true
      })
    })
  )
  it.scopedLive("must exist when it was named", () =>
    Effect.gen(function* () {
      const missing = path.join(yield* ownDirectory, "missing.json")
      const message = yield* complaint({ environment: { MASONS_BROKER_CONFIG: missing } })
      assert.include(message, missing)
      assert.include(message, "MASONS_BROKER_CONFIG")
    })
  )
  it.scopedLive("must be readable", () =>
    Effect.gen(function* () {
      const directory = yield* ownDirectory
      assert.include(yield* complaint({ environment: { MASONS_BROKER_CONFIG: directory } }), directory)
    })
  )
  it.scopedLive("is one JSON object", () =>
    Effect.gen(function* () {
      for (const file of ["", "{", "[]", "null", "7", '"text"', '{"graceMs":1}{}']) {
        assert.include(yield* complaint({ file }), "config.json", file)
      }
    })
  )
  it.scopedLive("holds settings only", () =>
    Effect.gen(function* () {
      for (const name of ["gracems", "grace", "__proto__x", "toString", "constructor"]) {
        const message = yield* complaint({ file: `{"${name}":1}` })
        assert.include(message, `"${name}"`)
        assert.include(message, "config.json")
      }
    })
  )
  it.scopedLive("holds plain values: null and nested ones are no texts", () =>
    Effect.gen(function* () {
      for (const accountId of [null, {}, [], ["a"]]) {
        assert.include(yield* complaint({ file: json({ accountId }) }), "accountId", json(accountId))
      }
      assert.include(yield* complaint({ file: json({ connector: ["loopback"] }) }), "connector")
      assert.include(yield* complaint({ file: json({ graceMs: [5] }) }), "graceMs")
      assert.match(
        yield* complaint({ file: json({ graceMs: null }) }),
        /"graceMs" in .*config\.json is null; it must be a whole number/
      )
    })
  )
})

describe("a wrong value", () => {
  it.scopedLive("is named with its source, its value and what it must be", () =>
    Effect.gen(function* () {
      const must = "it must be a whole number of milliseconds from 1 up"
      const inFile = yield* complaint({ file: json({ graceMs: 1.5 }) })
      assert.match(inFile, /"graceMs" in .*config\.json is "1\.5"/)
      assert.include(inFile, must)
      assert.strictEqual(
        yield* complaint({ environment: { MASONS_BROKER_GRACE_MS: "soon" } }),
        `MASONS_BROKER_GRACE_MS is "soon"; ${must}.`
      )
      assert.strictEqual(
        yield* complaint({ flags: { graceMs: "0" } }),
        `"graceMs" on the command line is "0"; ${must}.`
      )
      assert.strictEqual(
        yield* complaint({ flags: { connector: "pigeon" } }),
        '"connector" on the command line is "pigeon"; it must be gateway or loopback.'
      )
      const port = yield* complaint({ environment: { MASONS_BROKER_PORT: "70000" } })
      assert.include(port, 'MASONS_BROKER_PORT is "70000"; it must be')
      const isAllowed = yield* complaint({ environment: { MASONS_BROKER_PLUGINS_MAY_DISPATCH: "perhaps" } })
      assert.strictEqual(isAllowed, 'MASONS_BROKER_PLUGINS_MAY_DISPATCH is "perhaps"; it must be true or false.')
    })
  )
  it.scopedLive("of an unknown flag is named", () =>
    Effect.map(complaint({ flags: { grace: "1" } }), (message) => assert.include(message, '"grace"'))
  )
  it.scopedLive("hidden by a stronger source does not matter", () =>
    Effect.map(read({ file: json({ graceMs: "soon" }), flags: { graceMs: "5" } }), ({ graceMs }) =>
      assert.strictEqual(graceMs, 5)
    )
  )
  it.scopedLive("that is an empty text is refused, not replaced by the default", () =>
    Effect.gen(function* () {
      assert.include(yield* complaint({ file: json({ accountId: "" }) }), "accountId")
      assert.include(yield* complaint({ flags: { accountId: "" } }), "accountId")
    })
  )
})

it.scopedLive("settings that contradict each other are refused, equal ones are not", () =>
  Effect.gen(function* () {
    const pairs = [
      ["uncongestedBytes", "congestedBytes"],
      ["nackDelayMs", "nackDelayMaxMs"],
      ["holdBackMs", "holdBackMaxMs"],
      ["backoffMs", "backoffMaxMs"],
      ["pingIntervalMs", "silenceMs"],
      ["leavePlatformMs", "leaveMs"]
    ] as const
    for (const [smaller, larger] of pairs) {
      const message = yield* complaint({ flags: { [smaller]: "501", [larger]: "500" } })
      assert.include(message, `"${smaller}" is 501`)
      assert.include(message, `"${larger}" is 500`)
      assert.strictEqual((yield* read({ flags: { [smaller]: "500", [larger]: "500" } }))[smaller], 500)
    }
  })
)
