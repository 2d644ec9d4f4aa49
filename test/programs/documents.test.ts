import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { documents } from "../../src/programs/documents.js"

describe("the checked-in document", () => {
  for (const [file, text] of Object.entries(documents())) {
    it(`docs/${file} is the one the code makes; npm run docs writes it`, () => {
      assert.strictEqual(readFileSync(new URL(`../../docs/${file}`, import.meta.url), "utf8"), text)
    })
  }
})
