/** Copies what can be read of a damaged store into a new one; started by a broker that finds its store damaged. */
import { salvageMain } from "../layers/lmdb/salvageProcess.js"

salvageMain(process.argv.slice(2)).then((code) => {
  process.exitCode = code
})
