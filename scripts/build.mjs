// Builds dist: the library with its declarations by the compiler, the programs as bundles on top of it, and V8's code of these.
import { execFileSync } from "node:child_process"
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"

const root = fileURLToPath(new URL("..", import.meta.url))
process.chdir(root)
rmSync("dist", { recursive: true, force: true })
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" })

const bundle = await rolldown({
  input: { broker: "src/programs/broker.ts", cli: "src/programs/cli.ts", storeSalvage: "src/programs/storeSalvage.ts" },
  platform: "node",
  // Native and optional parts are loaded from node_modules.
  external: ["lmdb", "bufferutil", "utf-8-validate", "@parcel/watcher"],
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
