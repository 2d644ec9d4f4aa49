// Builds dist: the library with its declarations by the compiler, the programs as one bundle each on top of it.
import { execFileSync } from "node:child_process"
import { chmodSync, rmSync } from "node:fs"
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
await bundle.write({
  dir: "dist/programs",
  format: "esm",
  // The broker finds it beside the file that asks for it: a chunk here, the library's own file above.
  entryFileNames: ({ name }) => (name === "storeSalvage" ? "bundle/[name].js" : "[name].js"),
  chunkFileNames: "bundle/[name]-[hash].js",
  // Comments and blanks cost 9 MiB of memory; names stay, for stack traces.
  minify: { mangle: false, compress: true, codegen: { removeWhitespace: true } }
})
await bundle.close()
chmodSync("dist/programs/cli.js", 0o755)
