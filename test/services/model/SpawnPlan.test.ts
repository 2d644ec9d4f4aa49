import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck as fc } from "effect"
import {
  childEnvironment,
  claudeCode,
  codex,
  commandWords,
  customCommand,
  driversByKind,
  SpawnRate
} from "../../../src/services/model/SpawnPlan.js"

const planOf = (driver: ReturnType<typeof claudeCode>, prompt: string) => driver.plan({ token: "t", prompt })

describe("the plan of a spawn", () => {
  it("for claude-code is --bg and the prompt; -- only where it is needed", () => {
    const args = (prompt: string) => Either.getOrThrow(planOf(claudeCode("claude"), prompt)).args
    assert.deepStrictEqual(args("Summarise"), ["--bg", "Summarise"])
    for (const prompt of ["-", "--help", "-p x"]) assert.deepStrictEqual(args(prompt), ["--bg", "--", prompt])
    for (const name of ["claude", "claude-2.1_x"]) assert.isUndefined(claudeCode(name).unavailable)
    for (const name of ["/bin/claude", "a b", "a;b", "$x", ""]) assert.isString(claudeCode(name).unavailable)
  })

  it("for codex is none", () => {
    assert.isString(codex.unavailable)
    assert.isTrue(Either.isLeft(planOf(codex, "x")))
  })

  it("for a custom command fills its template in one go; what is filled in is one argument, and no option by itself", () => {
    fc.assert(
      fc.property(fc.fullUnicodeString(), fc.string(), (prompt, token) => {
        fc.pre(!prompt.includes("\0"))
        const driver = customCommand(["agent", "{prompt}", "{token}", "--x={prompt}:{token}", "{y}"], [])
        const { args, environment, input } = Either.getOrThrow(driver.plan({ token, prompt }))
        const first = prompt.startsWith("-") ? ["--", prompt] : [prompt]
        assert.deepStrictEqual(args, [...first, token, `--x=${prompt}:${token}`, "{y}"])
        assert.deepStrictEqual([environment, input], [{ MASONS_SPAWN_TOKEN: token }, undefined])
      })
    )
    for (const word of ["{prompt}", "--p={prompt}"]) {
      assert.isTrue(Either.isLeft(planOf(customCommand(["agent", word], []), "a\0b")))
    }
    assert.strictEqual(Either.getOrThrow(planOf(customCommand(["agent"], []), "a\0b")).input, "a\0b")
  })

  it("is of a command given as a JSON array of texts", () => {
    assert.deepStrictEqual(commandWords('["a","{prompt}",""]'), ["a", "{prompt}", ""])
    for (const text of [
      "",
      "a",
      "{}",
      "[]",
      '[""]',
      "[1]",
      '["a",1]',
      '["{prompt}"]',
      '["x{token}"]',
      '["a\\u0000"]'
    ]) {
      assert.isUndefined(commandWords(text), text)
    }
  })

  it("comes from one driver per kind", () => {
    assert.deepStrictEqual([...driversByKind([claudeCode("c"), codex]).keys()], ["claude-code", "codex"])
    assert.throws(() => driversByKind([codex, claudeCode("c"), codex]), /two spawn drivers of kind "codex"/)
  })
})

describe("S12: the environment of a child", () => {
  const child = (broker: Record<string, string>, variables: ReadonlyArray<string> = [], platform = "linux") =>
    childEnvironment(broker, { variables }, { environment: { MASONS_SPAWN_TOKEN: "t" } }, platform)

  it("has of the broker's what every program needs, and no more", () => {
    const usual = Object.fromEntries(
      "PATH HOME USER LOGNAME SHELL LANG LC_TIME TZ TMPDIR TERM XDG_RUNTIME_DIR HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy"
        .split(" ")
        .map((name) => [name, "1"])
    )
    const other = {
      LANGUAGE: "x",
      HOMEX: "x",
      XDG: "x",
      LC: "x",
      path: "x",
      NODE_OPTIONS: "x",
      LD_PRELOAD: "x",
      AWS_KEY: "x"
    }
    assert.deepStrictEqual(child({ ...usual, ...other }), { ...usual, MASONS_SPAWN_TOKEN: "t" })
  })

  it("never has the broker's own settings, whoever asks for them, and its token is the spawn's", () => {
    const broker = { MASONS_BROKER_API_HOST: "a", masons_broker_x: "b", MASONS_SPAWN_TOKEN: "of another", FOO: "f" }
    assert.deepStrictEqual(child(broker, ["*", "MASONS_BROKER_*"]), { FOO: "f", MASONS_SPAWN_TOKEN: "t" })
  })

  it("on Windows has what programs there need, whatever the case of its name", () => {
    const broker = { Path: "p", SYSTEMROOT: "s", ComSpec: "c", Secret: "x", Masons_Broker_x: "x" }
    const seen = child(broker, [], "win32")
    assert.deepStrictEqual(seen, { Path: "p", SYSTEMROOT: "s", ComSpec: "c", MASONS_SPAWN_TOKEN: "t" })
    assert.deepStrictEqual(child({ SYSTEMROOT: "s" }), { MASONS_SPAWN_TOKEN: "t" })
  })
})

describe("the rate of spawns", () => {
  it("is 3 in 30,000 ms: the fourth has to wait until the first is older than that", () => {
    const rate = new SpawnRate(3, 30_000)
    assert.deepStrictEqual(
      [0, 10, 20, 30].map((at) => rate.take(at)),
      [true, true, true, false]
    )
    assert.isFalse(rate.take(30_000))
    assert.isTrue(rate.take(30_001))
    assert.isFalse(rate.take(30_010))
    assert.isTrue(rate.take(30_011))
  })

  it("never lets more than that through any window, and does not count what it refused", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(20_000), { maxLength: 60 }), (waits) => {
        const rate = new SpawnRate(3, 30_000)
        const taken: Array<number> = []
        let now = 0
        for (const wait of waits) {
          now += wait
          const within = taken.filter((at) => now - at <= 30_000).length
          assert.strictEqual(rate.take(now), within < 3)
          if (within < 3) taken.push(now)
        }
      })
    )
  })
})
