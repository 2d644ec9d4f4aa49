// `keepCode.mjs <program> [arguments]` runs a bundled program to its end, a broker to its start, and keeps the code V8 made of it.
import { writeFileSync } from "node:fs"
import { codeFile, load, scripts } from "../../dist/programs/load.js"

const [, , name, ...args] = process.argv
process.argv.splice(2, process.argv.length, ...args)
const { write } = process.stdout
process.stdout.write = (text) => {
  if (String(text).includes("broker_ready")) setTimeout(() => process.kill(process.pid, "SIGTERM"), 200)
  return write.call(process.stdout, text)
}
process.on("exit", () => {
  for (const [file, script] of scripts) writeFileSync(codeFile(file), script.createCachedData())
})
load(name, true)
