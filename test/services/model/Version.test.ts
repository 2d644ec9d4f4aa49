import { readFileSync } from "node:fs"
import { assert, it } from "@effect/vitest"
import { version } from "../../../src/services/model/Version.js"

it("the version the broker tells is that of the package", () => {
  const manifest = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8"))
  assert.strictEqual(version, manifest.version)
})
