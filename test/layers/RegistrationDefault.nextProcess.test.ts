import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Directory } from "../../src/services/Directory.js"
import { Liveness } from "../../src/services/Liveness.js"
import { Registration } from "../../src/services/Registration.js"
import { core, FakeProcesses } from "../kit/core.js"
import { pass, quiet, session } from "../kit/steps.js"

it.scoped("an endpoint belongs to the process that reattached it, also when that is the next one with its pid", () => {
  const started = new Map([[11, "first"]])
  const processes = new (class extends FakeProcesses {
    override readonly layer = Layer.succeed(Liveness, {
      unsafeIsAlive: (pid, start) => started.get(pid) === start,
      startOf: (pid) => Effect.succeed(started.get(pid))
    })
  })()
  return Effect.gen(function* () {
    const plugin = yield* session(11, {}, ["endpoint_resume_v1"])
    plugin.drop()
    started.set(11, "second")
    yield* plugin.open
    yield* (yield* Registration).reattach(plugin.endpointId, 11, { pid: 11, ownerToken: undefined })
    yield* pass(2_000)
    assert.strictEqual((yield* Directory).unsafeGet(plugin.endpointId)?.state._tag, "Active")
  }).pipe(Effect.provide(core({ processes, settings: { ...quiet, livenessIntervalMs: 2_000 } })))
})
