import { chmodSync, mkdirSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { processExists } from "../../src/layers/machine/processes.js"
import * as SpawnerNone from "../../src/layers/SpawnerNone.js"
import { claudeCode, codex } from "../../src/services/model/SpawnPlan.js"
import { Spawner } from "../../src/services/Spawner.js"
import { ownPrograms, register, SpawnWorld, spawn, until } from "../kit/spawning.js"

const command = (...words: ReadonlyArray<string>) => ({ spawnCommand: JSON.stringify(words) })
const isAvailable = (kind: string) => Effect.flatMap(Spawner, (spawner) => spawner.isAvailable(kind))

describe("a custom session", () => {
  it.scopedLive("is started without a shell, with the prompt on its standard input, and knows its token", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const world = new SpawnWorld()
      const words = command(own.write("agent"), "--token={token}", "$HOME; echo `id` > x", "a b", "{other}")
      const prompt = "--version\n$(id) {token} 😀"
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* spawn({ prompt }), "started")
        const started = yield* own.started("cmd-1")
        assert.deepStrictEqual(started.args, ["--token=cmd-1", "$HOME; echo `id` > x", "a b", "{other}"])
        assert.strictEqual(started.input, prompt)
        assert.strictEqual(started.environment.MASONS_SPAWN_TOKEN, "cmd-1")
        assert.strictEqual(started.directory, realpathSync(process.cwd()))
        assert.deepStrictEqual(world.acks, ["cmd-1 received"])
        const line = world.log.find(({ event }) => event === "spawn_request_initiated")
        assert.deepStrictEqual(line?.fields, { spawn_token: "cmd-1", kind: "custom", child_pid: started.pid })
        assert.notInclude(JSON.stringify(world.log), "--version")
      }).pipe(Effect.provide(world.life(words)))
    })
  )

  it.scopedLive("E5: gets the prompt as an argument where its template asks for it, never as an option", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const program = own.write("agent")
      yield* Effect.gen(function* () {
        yield* spawn({ token: "a", prompt: "-rf {token}" })
        yield* spawn({ token: "b", prompt: "do it" })
        assert.deepStrictEqual((yield* own.started("a")).args, ["run", "--", "-rf {token}", "a"])
        assert.deepStrictEqual((yield* own.started("b")).args, ["run", "do it", "b"])
        assert.strictEqual((yield* own.started("a")).input, "")
        assert.match(yield* spawn({ token: "c", prompt: "a\0b" }), /NUL/)
      }).pipe(Effect.provide(new SpawnWorld().life(command(program, "run", "{prompt}", "{token}"))))
      yield* Effect.gen(function* () {
        yield* spawn({ token: "d", prompt: "-x" })
        assert.deepStrictEqual((yield* own.started("d")).args, ["--prompt=-x"])
      }).pipe(Effect.provide(new SpawnWorld().life(command(program, "--prompt={prompt}"))))
    })
  )

  it.scopedLive("E6, S12: sees of the broker's environment only what is on the list, and its token", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const usual = { PATH: process.env.PATH, HOME: "/h", LANG: "C", LC_ALL: "C", XDG_DATA_HOME: "/x", TZ: "UTC" }
      const proxies = { HTTPS_PROXY: "http://p", no_proxy: "localhost" }
      const secret = {
        SECRET: "s",
        AWS_SECRET: "s",
        MASONS_BROKER_API_HOST: "a",
        MASONS_BROKER_X: "x",
        NODE_OPTIONS: ""
      }
      const environment = { ...usual, ...proxies, ...secret, MY_ONE: "1", OTHER: "2", ANTHROPIC_API_KEY: "k" }
      const settings = { ...command(own.write("agent")), spawnVariables: "MY_*, OTHER,MASONS_BROKER_X" }
      yield* Effect.gen(function* () {
        yield* spawn()
        assert.deepStrictEqual((yield* own.started("cmd-1")).environment, {
          ...usual,
          ...proxies,
          MY_ONE: "1",
          OTHER: "2",
          MASONS_SPAWN_TOKEN: "cmd-1"
        } as Record<string, string>)
      }).pipe(Effect.provide(new SpawnWorld().life(settings, { environment })))
    })
  )

  it.scopedLive("works in the directory of the setting; one that is not there fails the spawn: C2", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const directory = own.at("work")
      mkdirSync(directory)
      const settings = { ...command(own.write("agent")), spawnDirectory: directory }
      const world = new SpawnWorld()
      yield* Effect.gen(function* () {
        yield* spawn()
        assert.strictEqual((yield* own.started("cmd-1")).directory, directory)
        rmSync(directory, { recursive: true })
        assert.match(
          yield* spawn({ token: "cmd-2" }),
          /^spawn_failed: ".*work", its working directory, is not a directory$/
        )
        writeFileSync(directory, "a file")
        assert.match(yield* spawn({ token: "cmd-3" }), /is not a directory$/)
        assert.deepStrictEqual(world.remembered, { "cmd-1": "received" })
      }).pipe(Effect.provide(world.life(settings)))
    })
  )

  it.scopedLive("outlives the broker", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const world = new SpawnWorld()
      const settings = command(own.write("agent", "setTimeout(() => {}, 60_000)"))
      yield* Effect.provide(spawn(), world.life(settings))
      const { pid } = yield* own.started("cmd-1")
      assert.isTrue(processExists(pid))
      process.kill(pid, "SIGKILL")
    })
  )

  it.scopedLive("need not read its prompt", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      writeFileSync(own.at("deaf"), "#!/bin/sh\nexec 0<&-\nsleep 0.2\n", { mode: 0o755 })
      const world = new SpawnWorld()
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* spawn({ prompt: "x".repeat(1_000_000) }), "started")
        yield* Effect.sleep(500)
        assert.deepStrictEqual(world.acks, ["cmd-1 received"])
      }).pipe(Effect.provide(world.life(command(own.at("deaf")))))
    })
  )
})

describe("C2: a command that cannot be started", () => {
  it.scopedLive(
    "fails its spawn, and nothing of it is remembered: missing, not executable, no program, gone since",
    () =>
      Effect.gen(function* () {
        const own = yield* ownPrograms
        const spawned = (word: string, order = {}) => {
          const world = new SpawnWorld()
          return Effect.gen(function* () {
            const outcome = yield* spawn(order)
            assert.deepStrictEqual([world.remembered, world.acks], [{}, []], outcome)
            assert.deepStrictEqual(world.store.recordsOf("spawns"), [])
            return outcome
          }).pipe(Effect.provide(world.life(command(word))))
        }
        assert.strictEqual(yield* spawned(own.at("missing")), `"${own.at("missing")}" was not found`)
        assert.strictEqual(yield* spawned("no-such-command-anywhere"), `"no-such-command-anywhere" was not found`)
        own.write("plain", "", 0o644)
        assert.strictEqual(yield* spawned(own.at("plain")), `"${own.at("plain")}" was not found`)
        assert.strictEqual(yield* spawned(own.directory), `"${own.directory}" was not found`)
        writeFileSync(own.at("orphan"), "#!/no/such/interpreter\n", { mode: 0o755 })
        assert.match(yield* spawned(own.at("orphan")), /^spawn_failed: the command or its .* \(ENOENT\)$/)
        own.write("empty")
        assert.match(yield* spawned(own.write("ok"), { token: "a\0b" }), /^spawn_failed: .*ERR_INVALID_ARG_VALUE/)
      })
  )

  it.scopedLive("since it was looked for fails its spawn, is looked for again, and the key may be tried again", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const file = own.write("agent")
      const world = new SpawnWorld()
      yield* Effect.gen(function* () {
        assert.isTrue(yield* isAvailable("custom"))
        chmodSync(file, 0o644)
        assert.match(yield* spawn(), process.getuid?.() === 0 ? /EACCES|ENOENT/ : /^spawn_failed: .*EACCES/)
        assert.isFalse(yield* isAvailable("custom"))
        assert.deepStrictEqual(world.store.recordsOf("spawns"), [])
      }).pipe(Effect.provide(world.life(command(file))))
      chmodSync(file, 0o755)
      assert.strictEqual(yield* Effect.provide(spawn(), world.life(command(file))), "started")
      yield* own.started("cmd-1")
    })
  )

  it.scopedLive("an argument that is too long fails the spawn", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const layer = new SpawnWorld().life(command(own.write("agent"), "{prompt}"))
      assert.match(yield* Effect.provide(spawn({ prompt: "x".repeat(4_000_000) }), layer), /^spawn_failed: .*E2BIG/)
    })
  )

  it.scopedLive(
    "one that ends badly before it registered is acknowledged as failed, one that ends well is waited for",
    () =>
      Effect.gen(function* () {
        const own = yield* ownPrograms
        const world = new SpawnWorld()
        const body = `
        const how = Buffer.concat(chunks).toString()
        if (how === "code") process.exit(3)
        if (how === "signal") process.kill(process.pid, "SIGKILL")`
        yield* Effect.gen(function* () {
          for (const how of ["code", "signal", "well"])
            assert.strictEqual(yield* spawn({ token: how, prompt: how }), "started")
          yield* until(() => world.acks.length >= 5, "the acknowledgements")
          assert.deepStrictEqual(
            world.acks.filter((ack) => ack.startsWith("code")),
            ["code received", "code failed spawn_failed: the command ended with code 3"]
          )
          assert.deepStrictEqual(
            world.acks.filter((ack) => ack.startsWith("signal")),
            ["signal received", "signal failed spawn_failed: the command was ended by SIGKILL"]
          )
          assert.deepStrictEqual(world.remembered, { code: "failed", signal: "failed", well: "received" })
          assert.isFalse(yield* register("code"))
          assert.isTrue(yield* register("well"))
        }).pipe(Effect.provide(world.life(command(own.write("agent", body)))))
      })
  )
})

describe("drivers", () => {
  it.scopedLive("claude-code: `claude --bg <prompt>` from the PATH, its prompt never an option", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      own.write("claude")
      const environment = { PATH: `relative:${own.directory}`, CLAUDE_X: "1", ANTHROPIC_API_KEY: "k", SECRET: "s" }
      const world = new SpawnWorld()
      yield* Effect.gen(function* () {
        assert.isTrue(yield* isAvailable("claude-code"))
        yield* spawn({ token: "a", kind: "claude-code", prompt: "Summarise" })
        yield* spawn({ token: "b", kind: "claude-code", prompt: "--dangerous" })
        const a = yield* own.started("a")
        assert.deepStrictEqual([a.args, a.input], [["--bg", "Summarise"], ""])
        assert.deepStrictEqual((yield* own.started("b")).args, ["--bg", "--", "--dangerous"])
        const { PATH: _, ...rest } = a.environment
        assert.deepStrictEqual(rest, { CLAUDE_X: "1", ANTHROPIC_API_KEY: "k", MASONS_SPAWN_TOKEN: "a" })
      }).pipe(Effect.provide(world.life({}, { environment })))
    })
  )

  it.scopedLive("without their command, with a strange name, and codex always, are unavailable with a reason", () =>
    Effect.gen(function* () {
      const own = yield* ownPrograms
      const environment = { PATH: own.directory }
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* spawn({ kind: "claude-code" }), '"claude" was not found')
        assert.strictEqual(yield* spawn({ kind: "codex" }), "codex sessions cannot be started by the broker")
        for (const kind of ["claude-code", "codex", "custom", "openclaw"]) assert.isFalse(yield* isAvailable(kind))
      }).pipe(Effect.provide(new SpawnWorld().life({}, { environment })))
      const strange = new SpawnWorld().life({ spawnClaudeCommand: "claude; rm" }, { environment })
      assert.match(yield* Effect.provide(spawn({ kind: "claude-code" }), strange), /plain name/)
    })
  )

  it.scopedLive("of another kind there is none, and without the setting no driver at all", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* Effect.provide(spawn({ kind: "openclaw" }), new SpawnWorld().life()),
        "runtime_kind_unsupported: openclaw"
      )
      const off = new SpawnWorld().life({ spawning: false })
      assert.strictEqual(yield* Effect.provide(spawn(), off), "spawn_driver_registry_not_configured")
      assert.isFalse(yield* Effect.provide(isAvailable("claude-code"), off))
      assert.strictEqual(yield* Effect.provide(spawn(), SpawnerNone.layer), "spawn_driver_registry_not_configured")
    })
  )

  it.scopedLive("two of one kind are refused at construction", () =>
    Effect.gen(function* () {
      const layer = new SpawnWorld().life({}, { drivers: [claudeCode("claude"), codex, claudeCode("other")] })
      const exit = yield* Effect.exit(Effect.provide(spawn(), layer))
      assert.isTrue(Exit.isFailure(exit))
      assert.match(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", /two spawn drivers of kind "claude-code"/)
    })
  )
})
