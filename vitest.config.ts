import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 20_000,
    hookTimeout: 20_000,
    pool: "forks",
    // Files share what they import, which is most of the time otherwise; no test leaves anything behind in a module.
    isolate: false,
    // Most tests wait more than they compute.
    poolOptions: { forks: { maxForks: Math.max(2, availableParallelism()) } },
    reporters: process.env.TEST_REPORT ? ["default", ["json", { outputFile: process.env.TEST_REPORT }]] : ["default"]
  }
})
