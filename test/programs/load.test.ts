/** Programs start with the code kept for them, without it, and with code that V8 does not take. */
import { execFile } from "node:child_process"
import { cpSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { version } from "../../src/services/model/Version.js"
import { dist, temporaryDirectory } from "../kit/broker.js"

const bundle = dist("programs/bundle")
const ending = `.${process.versions.v8}-${process.platform}-${process.arch}.code`
const run = promisify(execFile)

/** The programs in a directory of their own; `change` sees the directory of bundles. */
const versionOf = (change: (bundles: string) => void, ...options: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const root = yield* temporaryDirectory
    cpSync(dist("programs"), join(root, "programs"), { recursive: true })
    writeFileSync(join(root, "package.json"), '{"type":"module"}')
    symlinkSync(fileURLToPath(new URL("../../node_modules", import.meta.url)), join(root, "node_modules"))
    change(join(root, "programs/bundle"))
    const { stdout } = yield* Effect.promise(() =>
      run(process.execPath, [...options, join(root, "programs/cli.js"), "--version"])
    )
    return stdout.trim()
  })

describe("a built program", () => {
  it("has code for this node beside each bundle that a start loads", () => {
    const files = readdirSync(bundle)
    for (const program of ["broker", "cli"]) assert.include(files, `${program}.cjs${ending}`)
    assert.isAbove(files.filter((file) => file.endsWith(ending)).length, 3)
  })

  it("is ASCII, so that V8 keeps a byte a character", () => {
    const bundles = readdirSync(bundle).filter((file) => file.endsWith(".cjs"))
    for (const file of bundles) assert.notMatch(readFileSync(join(bundle, file), "utf8"), /[^\0-\x7f]/)
  })

  it.scopedLive("runs without it, as for another version of node", () =>
    Effect.gen(function* () {
      const without = (bundles: string) => {
        for (const file of readdirSync(bundles)) if (file.endsWith(".code")) rmSync(join(bundles, file))
      }
      assert.strictEqual(yield* versionOf(without), version)
    })
  )

  it.scopedLive("runs with code that V8 does not take: torn, or made under other options", () =>
    Effect.gen(function* () {
      const torn = (bundles: string) => {
        for (const file of readdirSync(bundles)) if (file.endsWith(".code")) writeFileSync(join(bundles, file), "torn")
      }
      assert.strictEqual(yield* versionOf(torn), version)
      assert.strictEqual(yield* versionOf(() => undefined, "--max-lazy"), version)
    })
  )
})
