// `npm run soak` lists what can run longer than the tests, `npm run soak <name>` runs it: the same test, larger counts.
import { spawnSync } from "node:child_process"

const soaks = {
  crash: { test: "test/faults/crash.test.ts", environment: { CRASH_KILLS: "500" } },
  properties: { test: "test/properties", environment: { PROPERTY_RUNS: "3000" } },
  fuzz: { test: "test/faults/fuzz.test.ts", environment: { FUZZ_COUNT: "500000" } }
}

const soak = soaks[process.argv[2]]
if (soak === undefined) {
  console.log(`Name one of: ${Object.keys(soaks).join(", ")}`)
} else {
  const { status } = spawnSync("npx", ["vitest", "run", soak.test], {
    stdio: "inherit",
    env: { ...soak.environment, ...process.env, SOAK: "1" }
  })
  process.exitCode = status ?? 1
}
