// `npm run bench` lists the benchmarks, `npm run bench <name>` runs one.
import { readdirSync } from "node:fs"

const names = readdirSync(new URL("./bench", import.meta.url))
  .filter((name) => name !== "kit.mjs")
  .map((name) => name.replace(/\.mjs$/, ""))
const wanted = process.argv[2]
if (wanted !== undefined && names.includes(wanted)) await import(`./bench/${wanted}.mjs`)
else console.log(`Name one of: ${names.join(", ")}`)
