import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const source = (path: string) => fileURLToPath(new URL(`src/${path}/index.ts`, import.meta.url))

export default defineConfig({
  // Examples name the package; its sources are tested.
  resolve: {
    alias: {
      "runtime-broker/services": source("services"),
      "runtime-broker/layers": source("layers"),
      "runtime-broker/programs": source("programs"),
      "runtime-broker/testing": source("services/contracts")
    }
  },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    pool: "forks",
    // Files share what they import, which is most of the time otherwise; no test leaves anything behind in a module.
    isolate: false,
    poolOptions: {
      forks: {
        // Most tests wait more than they compute.
        maxForks: Math.max(2, availableParallelism()),
        // Tests make much that is soon garbage: with more room for it, it is collected less often.
        execArgv: ["--max-semi-space-size=64"]
      }
    },
    reporters: process.env.TEST_REPORT ? ["default", ["json", { outputFile: process.env.TEST_REPORT }]] : ["default"]
  }
})
