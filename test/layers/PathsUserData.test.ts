import { createHash } from "node:crypto"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import * as PathsUserData from "../../src/layers/PathsUserData.js"
import { Credentials } from "../../src/services/Credentials.js"
import { Paths } from "../../src/services/Paths.js"

const pathsOf = (accountId: string, token: string) =>
  Paths.pipe(
    Effect.provide(
      Layer.provide(
        PathsUserData.layer("/base"),
        Layer.succeed(Credentials, { accountId, runtimeToken: Redacted.make(token), connectorUrl: "", apiOrigin: "" })
      )
    )
  )

describe("the base directory", () => {
  it("is what MASONS_BROKER_USER_DATA says, made absolute", () => {
    assert.strictEqual(PathsUserData.baseDirectory({ MASONS_BROKER_USER_DATA: "/data" }), "/data")
    assert.strictEqual(PathsUserData.baseDirectory({ MASONS_BROKER_USER_DATA: "data" }), path.resolve("data"))
  })
  it.skipIf(process.platform !== "linux")("is else the user's data directory", () => {
    const inHome = path.join(os.homedir(), ".local", "share", "masons-runtime-broker")
    assert.strictEqual(PathsUserData.baseDirectory({}), inHome)
    assert.strictEqual(PathsUserData.baseDirectory({ MASONS_BROKER_USER_DATA: "", XDG_DATA_HOME: "" }), inHome)
    assert.strictEqual(PathsUserData.baseDirectory({ XDG_DATA_HOME: "/xdg" }), "/xdg/masons-runtime-broker")
  })
})

describe("the files of a broker", () => {
  it.effect("lie in one directory per account and token, as published clients derive it", () =>
    Effect.gen(function* () {
      const identity = createHash("sha256").update("rk_live_x").digest("hex").slice(0, 16)
      const directory = path.join("/base", "runtime-broker", "default", identity)
      const paths = yield* pathsOf("default", "rk_live_x")
      assert.deepStrictEqual(paths, {
        directory,
        discoveryFile: path.join(directory, "discovery.json"),
        operatorFile: path.join(directory, "operator.json"),
        lockFile: path.join(directory, "broker.lock"),
        storeDirectory: path.join(directory, "store"),
        logDirectory: path.join("/base", "runtime-broker", "log"),
        logFile: path.join("/base", "runtime-broker", "log", `broker-${process.pid}.log`)
      })
    })
  )
  it.effect("of two tokens or two accounts lie apart, and say nothing of the token", () =>
    Effect.gen(function* () {
      const one = yield* pathsOf("default", "token one")
      assert.notStrictEqual(one.directory, (yield* pathsOf("default", "token two")).directory)
      assert.notStrictEqual(one.directory, (yield* pathsOf("other", "token one")).directory)
      assert.notInclude(JSON.stringify(one), "token one")
    })
  )
  it("of an account with characters a file name may not have use _ for them", () => {
    assert.strictEqual(PathsUserData.accountDirectory("/base", "A-1_b.c"), "/base/runtime-broker/A-1_b.c")
    assert.strictEqual(PathsUserData.accountDirectory("/base", "a/b:c é"), "/base/runtime-broker/a_b_c__")
  })
  it("stay below the broker's directory whatever path the account is called by", () => {
    for (const accountId of ["../..", "/etc", "a/../../b", "..\\..", "\0"]) {
      const directory = PathsUserData.accountDirectory("/base", accountId)
      assert.strictEqual(path.dirname(directory), "/base/runtime-broker", accountId)
    }
  })
})
