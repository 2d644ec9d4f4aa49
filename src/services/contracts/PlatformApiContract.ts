/** What every PlatformApi owes the broker, shown on the real thing: the live clock, and a fresh layer per case. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, type Layer } from "effect"
import type { PlatformReport } from "../model/PlatformReport.js"
import { PlatformApi, type PlatformRegistration } from "../PlatformApi.js"

const registration = (endpoint_nonce: string): PlatformRegistration => ({
  runtime_kind: "contract",
  endpoint_nonce,
  display_label: "contract · test"
})

const ts = "2031-03-04T08:00:00.000Z"

/** One report of each kind. */
const reportsAbout = (endpointId: string): ReadonlyArray<PlatformReport> => [
  { _tag: "EndpointState", endpointId, state: "active", reason: "register", ts },
  { _tag: "EndpointState", endpointId, state: "reconnecting", reason: "ipc_close", ts },
  { _tag: "DisplayMetadata", endpointId, taskHint: "testing" },
  {
    _tag: "UndispatchedChanged",
    event: {
      type: "undispatched_changed",
      version: 1,
      action: "add",
      undispatched_id: "contract-1",
      sender_address: "mstp://acme.example/eve",
      content_preview: "hello?",
      reason: "no_target_endpoint",
      arrived_at: Date.parse(ts)
    }
  },
  {
    _tag: "NetworkPresenceChanged",
    event: {
      type: "network_presence_changed",
      version: 1,
      state: "online",
      ts: Date.parse(ts),
      reason: "connector_connected"
    }
  },
  { _tag: "EndpointState", endpointId, state: "closed", reason: "explicit_unregister", ts },
  { _tag: "EndpointRemoved", endpointId }
]

export const platformApiContract = <E>(name: string, layer: Layer.Layer<PlatformApi, E>) =>
  describe(`${name} as a PlatformApi`, () => {
    it.scopedLive("has a name and gives every registration an endpoint of its own", () =>
      Effect.gen(function* () {
        const platform = yield* PlatformApi
        assert.isNotEmpty(platform.name)
        const a = yield* platform.register(registration("nonce-a"))
        const b = yield* platform.register(registration("nonce-b"))
        assert.isNotEmpty(a.endpointId)
        assert.notStrictEqual(a.endpointId, b.endpointId)
        if (a.heartbeatAfterMs !== undefined) assert.isAbove(a.heartbeatAfterMs, 0)
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("the same nonce again is the same endpoint", () =>
      Effect.gen(function* () {
        const platform = yield* PlatformApi
        const first = yield* platform.register(registration("nonce"))
        const again = yield* platform.register(registration("nonce"))
        assert.strictEqual(again.endpointId, first.endpointId)
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("takes the heartbeat of an endpoint it registered", () =>
      Effect.gen(function* () {
        const platform = yield* PlatformApi
        const { endpointId } = yield* platform.register(registration("nonce"))
        yield* platform.heartbeat(endpointId)
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("says of a heartbeat that its lease is lost, where endpoints have leases", () =>
      Effect.gen(function* () {
        const platform = yield* PlatformApi
        const { endpointId, heartbeatAfterMs } = yield* platform.register(registration("nonce"))
        yield* platform.unregister(endpointId)
        const late = yield* Effect.either(platform.heartbeat(endpointId))
        if (heartbeatAfterMs === undefined) return assert.strictEqual(late._tag, "Right")
        const { kind, status } = Either.merge(late) ?? {}
        assert.deepStrictEqual([kind, status], ["refused", 404])
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("unregisters what is gone, or never was, as if it were there", () =>
      Effect.gen(function* () {
        const platform = yield* PlatformApi
        const { endpointId } = yield* platform.register(registration("nonce"))
        yield* platform.unregister(endpointId)
        yield* platform.unregister(endpointId)
        yield* platform.unregister("ep_contract_never_was")
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("an endpoint is open once registered, closed once unregistered, and unknown when it never was", () =>
      Effect.gen(function* () {
        const platform = yield* PlatformApi
        const { endpointId } = yield* platform.register(registration("nonce"))
        const other = yield* platform.register(registration("other"))
        assert.strictEqual(yield* platform.endpointState(endpointId), "open")
        yield* platform.unregister(endpointId)
        assert.strictEqual(yield* platform.endpointState(endpointId), "closed")
        assert.strictEqual(yield* platform.endpointState(other.endpointId), "open")
        assert.strictEqual(yield* platform.endpointState("ep_contract_never_was"), "unknown")
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("takes reports of every kind; the last one about an endpoint closes it", () =>
      Effect.gen(function* () {
        const platform = yield* PlatformApi
        const { endpointId } = yield* platform.register(registration("nonce"))
        const reports = reportsAbout(endpointId)
        for (const report of reports.slice(0, -1)) yield* platform.post(report)
        yield* platform.post(reports.at(-1)!)
        assert.strictEqual(yield* platform.endpointState(endpointId), "closed")
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("a report posted twice does no harm: the broker repeats what it is not sure of", () =>
      Effect.gen(function* () {
        const platform = yield* PlatformApi
        const { endpointId } = yield* platform.register(registration("nonce"))
        for (const report of reportsAbout(endpointId)) {
          yield* platform.post(report)
          yield* platform.post(report)
        }
        yield* platform.unregister(endpointId)
        assert.strictEqual(yield* platform.endpointState(endpointId), "closed")
      }).pipe(Effect.provide(layer))
    )
  })
