import { assert, it } from "@effect/vitest"
import { platformRefusal } from "../../../src/layers/internal/platformRefusal.js"
import { PlatformError } from "../../../src/services/PlatformApi.js"

it("only 4xx are passed on, and of those 401 and 403 mean the broker", () => {
  const answers = {
    302: "platform_unavailable",
    400: "platform_refused",
    401: "platform_unauthorized",
    403: "platform_unauthorized",
    404: "platform_refused",
    429: "platform_refused",
    499: "platform_refused",
    500: "platform_unavailable"
  }
  for (const [status, tag] of Object.entries(answers)) {
    const error = new PlatformError({ kind: "refused", status: Number(status), code: "c", reason: "r" })
    assert.strictEqual(platformRefusal(error)._tag, tag, status)
  }
})

it("without an answer it is not known what the platform did: it may be tried again", () => {
  const error = new PlatformError({ kind: "unavailable", code: "timeout", reason: "no answer" })
  assert.deepInclude(platformRefusal(error), { _tag: "platform_unavailable", retryable: true })
})
