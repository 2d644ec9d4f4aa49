import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Either } from "effect"
import {
  defaults,
  descriptionOf,
  environmentName,
  type SettingName,
  type Settings,
  settings
} from "../../src/services/BrokerConfig.js"

const names = Object.keys(settings) as ReadonlyArray<SettingName>
const load = (given: Record<string, string>) =>
  Effect.runSync(
    Effect.either(
      ConfigProvider.fromMap(new Map(Object.entries(given))).load(descriptionOf(names.filter((n) => n in given)))
    )
  )
/** One setting by itself, of which the description of more is made. */
const loadOne = (name: SettingName, value: string): Either.Either<unknown, unknown> =>
  Effect.runSync(
    Effect.either(
      ConfigProvider.fromMap(new Map([[name, value]])).load(Config.nested<unknown>(settings[name].config, name))
    )
  )

describe("the settings", () => {
  it("are read when given, and only then", () => {
    assert.deepStrictEqual(Either.getOrThrow(load({})), {})
    assert.deepStrictEqual(Either.getOrThrow(load({ graceMs: "1", port: "0" })), { graceMs: 1, port: 0 })
  })
  it("have the numbers the design promises", () => {
    const promised: Partial<Settings> = {
      accountId: "default",
      connector: "gateway",
      graceMs: 600_000,
      presenceGraceMs: 600_000,
      livenessIntervalMs: 2_000,
      taskHintMax: 200,
      pingIntervalMs: 15_000,
      silenceMs: 30_000,
      congestedBytes: 1_048_576,
      uncongestedBytes: 262_144,
      windowMessages: 128,
      windowBytes: 4_194_304,
      receiptMs: 5_000,
      spillAgeMs: 100,
      spillAfterAccepted: 32,
      nackDelayMs: 1_000,
      nackDelayMaxMs: 30_000,
      deliveryLimit: 20,
      mailboxMessages: 100_000,
      mailboxBytes: 268_435_456,
      totalMessages: 1_000_000,
      totalBytes: 4_294_967_296,
      inboxMessages: 256,
      inboxBytes: 67_108_864,
      deadLetters: 10_000,
      deadLetterMs: 2_592_000_000,
      holdBackMessages: 10_000,
      holdBackBytes: 67_108_864,
      holdBackMs: 5_000,
      holdBackMaxMs: 60_000,
      correlations: 4_096,
      correlationMs: 86_400_000,
      correlationSweepMs: 21_600_000,
      closedCacheMs: 5_000,
      closedCacheSize: 64,
      healthyMs: 60_000,
      unauthorizedPauseMs: 60_000,
      platformMs: 15_000,
      sendMs: 15_000,
      handshakeMs: 10_000,
      registerMs: 15_000,
      backoffMs: 1_000,
      backoffMaxMs: 30_000,
      alreadyConnectedMs: 2_000,
      linkPingMs: 15_000,
      gatewayFrameBytes: 16_777_216,
      gapWaitMs: 5_000,
      gapRetryMs: 5_000,
      gapRetryMaxMs: 60_000,
      waitingMessages: 10_000,
      waitingBytes: 67_108_864,
      deliveredIds: 65_536,
      runtimeSessionId: "",
      previewCodePoints: 80,
      bodyBytes: 1_048_576,
      frameBytes: 1_048_576,
      jsonDepth: 64,
      headersMs: 10_000,
      keepAliveMs: 75_000,
      sockets: 4_096,
      channels: 1_024,
      leaveMs: 5_000,
      leavePlatformMs: 2_000,
      logBytes: 10_485_760,
      logFiles: 5,
      logKeepMs: 604_800_000,
      pluginsMayDispatch: true
    }
    for (const [name, value] of Object.entries(promised)) assert.strictEqual(defaults[name as SettingName], value, name)
  })
  it("each have a default that they would accept, and a sentence about them", () => {
    const given = Object.fromEntries(names.map((name) => [name, String(defaults[name])]))
    assert.deepStrictEqual(Either.getOrThrow(load(given)), defaults)
    for (const name of names) {
      assert.deepStrictEqual(Either.getOrThrow(loadOne(name, given[name]!)), defaults[name], name)
      assert.match(settings[name].about, /^[A-Z].*[^.]$/, name)
    }
  })
  it("have a name in the environment of their own", () => {
    assert.strictEqual(environmentName("graceMs"), "MASONS_BROKER_GRACE_MS")
    assert.strictEqual(environmentName("port"), "MASONS_BROKER_PORT")
    assert.strictEqual(environmentName("presenceGraceMs"), "MASONS_BROKER_PRESENCE_GRACE_MS")
    assert.strictEqual(environmentName("accountId"), "MASONS_BROKER_ACCOUNT_ID")
    assert.strictEqual(new Set(names.map(environmentName)).size, names.length)
    const taken = ["USER_DATA", "CONFIG", "API_HOST", "CREDENTIALS_FILE"].map((name) => `MASONS_BROKER_${name}`)
    for (const name of names) assert.notInclude(taken, environmentName(name))
  })
})

describe("a value", () => {
  const refuses = (name: SettingName, value: string) => Either.isLeft(loadOne(name, value))
  const numbers = names.filter((name) => typeof defaults[name] === "number")
  it("of a number is a whole one, not below its least", () => {
    for (const name of numbers) {
      for (const value of ["-1", "1.5", "many", "9007199254740992", "NaN", "Infinity"]) {
        assert.isTrue(refuses(name, value), `${name}=${value}`)
      }
    }
    for (const name of [numbers[0]!, numbers.at(-1)!]) {
      assert.isTrue(Either.isLeft(load({ [name]: "many" })), `${name} among all others`)
    }
  })
  it("of a capacity is not 0, and of a port, a preview or what may be off may be", () => {
    const mayBeNone: ReadonlyArray<SettingName> = ["port", "previewCodePoints", "lockWaitMs", "idleExitMs"]
    for (const name of numbers) assert.strictEqual(refuses(name, "0"), !mayBeNone.includes(name), name)
  })
  it("of a choice is one of them", () => {
    assert.strictEqual(Either.getOrThrow(load({ connector: "loopback" })).connector, "loopback")
    assert.isTrue(refuses("connector", "pigeon"))
    assert.isTrue(refuses("logLevel", "loud"))
    assert.strictEqual(settings.connector.expects, "gateway or loopback")
  })
  it("of a switch is true or false", () => {
    assert.isFalse(Either.getOrThrow(load({ pluginsMayDispatch: "false" })).pluginsMayDispatch)
    assert.isTrue(refuses("pluginsMayDispatch", "maybe"))
  })
  it("of a runtime session is trimmed, and none of the network's own", () => {
    assert.strictEqual(Either.getOrThrow(load({ runtimeSessionId: " s 1 " })).runtimeSessionId, "s 1")
    assert.isTrue(refuses("runtimeSessionId", "__masons_x"))
    assert.isTrue(refuses("runtimeSessionId", "x".repeat(257)))
  })
  it("of a port is one there is", () => {
    assert.strictEqual(Either.getOrThrow(load({ port: "65535" })).port, 65_535)
    assert.isTrue(refuses("port", "65536"))
  })
})
