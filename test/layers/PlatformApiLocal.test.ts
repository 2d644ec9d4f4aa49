import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as PlatformApiLocal from "../../src/layers/PlatformApiLocal.js"
import { platformApiContract } from "../../src/services/contracts/PlatformApiContract.js"
import { PlatformApi } from "../../src/services/PlatformApi.js"

platformApiContract("PlatformApiLocal", PlatformApiLocal.layer)

const register = (endpoint_nonce: string) =>
  Effect.flatMap(PlatformApi, (platform) =>
    platform.register({ runtime_kind: "test", endpoint_nonce, display_label: "test" })
  )

it.effect("the local platform mints ids that look like endpoints and wants no heartbeat", () =>
  Effect.gen(function* () {
    const registered = yield* register("a")
    assert.match(registered.endpointId, /^ep_[0-9a-f-]{36}$/)
    assert.notProperty(registered, "heartbeatAfterMs")
  }).pipe(Effect.provide(PlatformApiLocal.layer))
)

it.effect("the same nonce is the same endpoint also after it was closed: then it is open again", () =>
  Effect.gen(function* () {
    const platform = yield* PlatformApi
    const { endpointId } = yield* register("a")
    yield* platform.unregister(endpointId)
    assert.strictEqual((yield* register("a")).endpointId, endpointId)
    assert.strictEqual(yield* platform.endpointState(endpointId), "open")
  }).pipe(Effect.provide(PlatformApiLocal.layer))
)

it.effect("it remembers the last 10,000 closed endpoints: its memory does not grow for ever", () =>
  Effect.gen(function* () {
    const platform = yield* PlatformApi
    const ids: Array<string> = []
    for (let index = 0; index <= 10_000; index++) {
      const { endpointId } = yield* register(`nonce ${index}`)
      yield* platform.unregister(endpointId)
      ids.push(endpointId)
    }
    assert.strictEqual(yield* platform.endpointState(ids[0]!), "unknown")
    assert.strictEqual(yield* platform.endpointState(ids[1]!), "closed")
    assert.strictEqual(yield* platform.endpointState(ids[10_000]!), "closed")
  }).pipe(Effect.provide(PlatformApiLocal.layer))
)
