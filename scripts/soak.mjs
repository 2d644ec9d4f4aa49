// `npm run soak` lists what can run longer than the tests, `npm run soak <name>` runs it: the same test, larger counts.
import { spawnSync } from "node:child_process"

const soaks = {
  // On the loopback network and on the development cloud, so many each.
  crash: { test: "test/faults/crash", environment: { CRASH_KILLS: "500" } },
  powercut: { test: "test/faults/powerCut.test.ts", environment: { POWER_CUTS: "1000" } },
  storeKill: { test: "test/faults/storeKill.test.ts", environment: { STORE_KILLS: "500" } },
  damage: { test: "test/faults/storeDamage.test.ts", environment: { STORE_FLIPS: "2000", STORE_CUTS: "640" } },
  launcher: { test: "test/faults/launcher.test.ts", environment: { LAUNCH_PROCESSES: "30", LAUNCH_CALLERS: "20" } },
  upgrade: { test: "test/faults/launcherUpgrade.test.ts", environment: { UPGRADE_MESSAGES: "20000" } },
  flood: { test: "test/faults/readers.test.ts", environment: { FLOOD_MESSAGES: "20000" } },
  properties: { test: "test/properties", environment: { PROPERTY_RUNS: "3000" } },
  answers: { test: "test/layers/PlatformApiHttp.fuzz.test.ts", environment: { PLATFORM_ANSWERS: "200000" } },
  frames: { test: "test/layers/ConnectorGateway.fuzz.test.ts", environment: { GATEWAY_FRAMES: "200000" } },
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
