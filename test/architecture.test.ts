import { execFileSync } from "node:child_process"
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { ownDirectory } from "./kit/ground.js"

const root = fileURLToPath(new URL("..", import.meta.url))
const source = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((name) =>
  name.endsWith(".ts")
)

/** Of these files of one line each, those that the linter refuses for what they import. It runs on a tree of their own. */
const refusedImports = (files: { readonly [file: string]: string }) =>
  Effect.map(ownDirectory, (directory) => {
    const { $schema: _, vcs: __, ...rules } = JSON.parse(readFileSync(join(root, "biome.json"), "utf8"))
    writeFileSync(join(directory, "biome.json"), JSON.stringify(rules))
    for (const [file, line] of Object.entries(files)) {
      mkdirSync(dirname(join(directory, file)), { recursive: true })
      writeFileSync(join(directory, file), `${line}\n`)
    }
    const biome = join(root, "node_modules/@biomejs/biome/bin/biome")
    const args = ["lint", "--only=style/noRestrictedImports", "--max-diagnostics=200", "--reporter=json", "src"]
    const { diagnostics } = JSON.parse(
      reportOf(() => execFileSync(process.execPath, [biome, ...args], runIn(directory)))
    )
    return Array.from(
      new Set(diagnostics.map(({ location }: { location: { path: string } }) => location.path))
    ).sort() as Array<string>
  })

const runIn = (cwd: string) => ({ cwd, encoding: "utf8", stdio: "pipe" }) as const

/** A linter that found something ends with a code, and its report is as good. */
const reportOf = (run: () => string): string => {
  try {
    return run()
  } catch (error) {
    return (error as { stdout: string }).stdout
  }
}

/** A file for each import, in the folder it is made from. */
const filesFrom = (imports: ReadonlyArray<readonly [folder: string, from: string]>) =>
  Object.fromEntries(imports.map(([folder, from], n) => [`src/${folder}/probe${n}.ts`, `import { x } from "${from}"`]))

describe("the linter", () => {
  it.scopedLive("refuses imports against the direction programs, layers, services, model", () =>
    Effect.gen(function* () {
      const files = filesFrom([
        ["layers", "../programs/daemon.js"],
        ["layers/ipc", "../../programs/daemon.js"],
        ["services", "../programs/daemon.js"],
        ["services", "../layers/StoreMemory.js"],
        ["services", "../layers/internal/tokens.js"],
        ["services/ipc", "../../programs/daemon.js"],
        ["services/ipc", "../../layers/StoreMemory.js"],
        ["services/model", "../../programs/daemon.js"],
        ["services/model", "../../layers/StoreMemory.js"],
        ["services/model", "../Registry.js"],
        ["services/model", "../ipc/Fields.js"]
      ])
      assert.deepStrictEqual(yield* refusedImports(files), Object.keys(files).sort())
    })
  )

  it.scopedLive("refuses them in every form there is", () =>
    Effect.gen(function* () {
      const files = {
        "src/services/all.ts": 'export * from "../layers/StoreMemory.js"',
        "src/services/dynamic.ts": 'export const x = import("../layers/StoreMemory.js")',
        "src/services/effect.ts": 'import "../layers/StoreMemory.js"',
        "src/services/named.ts": 'export { layer } from "../layers/StoreMemory.js"',
        "src/services/type.ts": 'import type { layer } from "../layers/StoreMemory.js"'
      }
      assert.deepStrictEqual(yield* refusedImports(files), Object.keys(files))
    })
  )

  it.scopedLive("refuses I/O in services and their model", () =>
    Effect.gen(function* () {
      const outside = ["node:fs", "ws", "@effect/platform-node"]
      const folders = ["services", "services/ipc", "services/model"]
      const files = filesFrom(folders.flatMap((folder) => outside.map((from) => [folder, from] as const)))
      assert.deepStrictEqual(yield* refusedImports(files), Object.keys(files).sort())
    })
  )

  it.scopedLive("takes imports in that direction", () =>
    Effect.gen(function* () {
      const files = filesFrom([
        ["programs", "../layers/StoreMemory.js"],
        ["programs", "../services/Store.js"],
        ["programs/cli", "../../layers/StoreMemory.js"],
        ["layers", "../services/Store.js"],
        ["layers", "../services/model/Ids.js"],
        ["layers/ipc", "../internal/tokens.js"],
        ["layers", "node:fs"],
        ["services", "./model/Ids.js"],
        ["services/ipc", "../model/Errors.js"],
        ["services/model", "./Ids.js"],
        ["services/model", "effect"]
      ])
      assert.deepStrictEqual(yield* refusedImports(files), [])
    })
  )
})

it("no file of src is longer than 400 lines", () => {
  const long = source
    .map((name) => [name, readFileSync(join(root, "src", name), "utf8").split("\n").length - 1] as const)
    .filter(([, lines]) => lines > 400)
  assert.deepStrictEqual(long, [])
})
