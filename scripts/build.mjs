// Builds dist: the library with its declarations by the compiler, the programs as bundles on top of it, and V8's code of these.
import { execFileSync } from "node:child_process"
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"

const root = fileURLToPath(new URL("..", import.meta.url))
process.chdir(root)
rmSync("dist", { recursive: true, force: true })
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" })

// As the engine's own file, it finds its native part from where it lies; as a part of a bundle it is to ask for that.
const engine = createRequire(import.meta.url).resolve("lmdb")
const engineInBundle = {
  name: "engine-in-bundle",
  transform: (code, id) => (id === engine ? code.replaceAll("__filename", 'require.resolve("lmdb")') : undefined)
}

const bundle = await rolldown({
  input: { broker: "src/programs/broker.ts", cli: "src/programs/cli.ts", storeSalvage: "src/programs/storeSalvage.ts" },
  platform: "node",
  // Optional parts are loaded from node_modules.
  external: ["bufferutil", "utf-8-validate", "@parcel/watcher"],
  plugins: [engineInBundle],
  resolve: { alias: { lmdb: engine } },
  // Values are bytes to the engine: its encoder needs no native part of its own.
  transform: { define: { "process.env.MSGPACKR_NATIVE_ACCELERATION_DISABLED": '"true"' } },
  // A module of the engine's evaluates code that it makes of its own.
  checks: { eval: false },
  logLevel: "warn"
})
const bundles = "dist/programs/bundle"
await bundle.write({
  dir: bundles,
  // V8 keeps its code of scripts, not of modules.
  format: "cjs",
  entryFileNames: "[name].cjs",
  chunkFileNames: "[name]-[hash].cjs",
  // Comments and blanks cost 9 MiB of memory; names stay, for stack traces.
  minify: { mangle: false, compress: true, codegen: { removeWhitespace: true } }
})
await bundle.close()

const escaped = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
for (const name of readdirSync(bundles)) {
  const file = join(bundles, name)
  writeFileSync(
    file,
    readFileSync(file, "utf8")
      .replace(/^#!.*\n/, "")
      .replace(/[^\0-\x7f]/g, escaped)
  )
}

const entry = (name, loader) => `import { load } from "${loader}"\n\nload("${name}")\n`
writeFileSync("dist/programs/broker.js", entry("broker", "./load.js"))
writeFileSync("dist/programs/cli.js", `#!/usr/bin/env node\n${entry("cli", "./load.js")}`)
chmodSync("dist/programs/cli.js", 0o755)
// The broker finds it beside the file that asks for it: a bundle here, the library's own file above.
writeFileSync(join(bundles, "storeSalvage.js"), entry("storeSalvage", "../load.js"))

// Each program is run once, and what V8 compiled by then is kept: the broker up to its start, the command up to its end.
const home = mkdtempSync(join(tmpdir(), "runtime-broker-build-"))
const others = Object.entries(process.env).filter(([variable]) => !variable.startsWith("MASONS_"))
const env = { ...Object.fromEntries(others), MASONS_BROKER_USER_DATA: home, MASONS_BROKER_CONNECTOR: "loopback" }
for (const args of [["broker"], ["cli", "stop"]]) {
  execFileSync(process.execPath, ["scripts/build/keepCode.mjs", ...args], {
    env,
    stdio: ["ignore", "ignore", "inherit"]
  })
}
rmSync(home, { recursive: true, force: true })
