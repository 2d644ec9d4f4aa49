// Writes the documents that are made from the code: docs/openapi.json, docs/settings.md and docs/stream.md. A test compares them.
import { writeFileSync } from "node:fs"
import { documents } from "../dist/programs/documents.js"

for (const [file, text] of Object.entries(documents())) {
  writeFileSync(new URL(`../docs/${file}`, import.meta.url), text)
}
