/** Salvage in a process of its own: whatever a damaged file does to it, the broker goes on. */
import { execFile } from "node:child_process"
import { copyStore, type Salvaged } from "./salvage.js"

const longest = 10 * 60_000

/** `program` takes two directories and writes a `Salvaged` as JSON. */
export const salvageWith =
  (program: string) =>
  (from: string, to: string): Promise<Salvaged> =>
    new Promise((resolve, reject) => {
      const options = { timeout: longest, killSignal: "SIGKILL", maxBuffer: 2 ** 24, env: { TZ: "UTC" } } as const
      execFile(process.execPath, [program, from, to], options, (error, stdout, stderr) => {
        if (error === null) return resolve(JSON.parse(stdout))
        const how = error.signal ? `signal ${error.signal}` : `code ${error.code}`
        reject(new Error(stderr.trim().split("\n").pop() || `the salvaging process ended with ${how}`))
      })
    })

/** What that program does. */
export const salvageMain = async (args: ReadonlyArray<string>): Promise<number> => {
  const [from, to] = args
  if (from === undefined || to === undefined || args.length > 2) {
    console.error("usage: storeSalvage <directory of the store> <directory of the copy>")
    return 2
  }
  try {
    console.log(JSON.stringify(await copyStore(from, to)))
    return 0
  } catch (error) {
    console.error((error as Error).message)
    return 1
  }
}
