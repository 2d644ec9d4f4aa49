import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, TestClock } from "effect"
import { platformApiContract } from "../../src/services/contracts/PlatformApiContract.js"
import { PlatformApi, PlatformError } from "../../src/services/PlatformApi.js"
import { FakePlatformServer, refusal } from "../kit/FakePlatformServer.js"
import {
  callNames,
  calls,
  inMemory,
  outcome,
  outcomes,
  presence,
  real,
  registration,
  state,
  ts,
  undispatched
} from "../kit/platformCalls.js"

platformApiContract(
  "PlatformApiHttp",
  Layer.suspend(() => real(new FakePlatformServer()))
)

describe("a request", () => {
  it.scopedLive("has the token, and a body only where there is one to send", () => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      yield* platform.register(registration)
      for (const name of callNames.slice(1)) yield* calls(platform)[name]
      const lines = server.requests.map(
        ({ method, path, query }) => `${method} ${path}${query === "" ? "" : `?${query}`}`
      )
      assert.deepStrictEqual(lines, [
        "POST /v1/runtime-endpoints",
        "POST /v1/runtime-endpoints/ep_1/heartbeat",
        "DELETE /v1/runtime-endpoints/ep_1",
        "GET /v1/whoami",
        "GET /v1/runtime-endpoints/ep_1?as=node_5",
        "GET /v1/whoami",
        "POST /v1/runtime-endpoints/ep_1/state",
        "DELETE /v1/runtime-endpoints/ep_1",
        "POST /v1/runtime-endpoints/ep_1/display-metadata",
        "POST /v1/runtime/undispatched-changed",
        "POST /v1/runtime/network-presence-changed"
      ])
      const bodies = [registration, { state: "closed", reason: "grace_timeout", ts }, { task_hint: "testing" }]
      assert.deepStrictEqual(
        server.requests.flatMap(({ body }) => (body === undefined ? [] : [body])),
        [...bodies, (undispatched as any).event, (presence as any).event]
      )
      for (const { headers, text } of server.requests) {
        assert.strictEqual(headers.authorization, `Bearer ${server.token}`)
        assert.strictEqual(headers["content-type"], text === "" ? undefined : "application/json")
        assert.isUndefined(headers["transfer-encoding"])
        if (text !== "") assert.strictEqual(headers["content-length"], String(Buffer.byteLength(text)))
        assert.notProperty(headers, "traceparent")
        assert.notProperty(headers, "b3")
      }
    }).pipe(Effect.provide(real(server)))
  })

  it.scopedLive("E13: goes where the origin says, http:// and a path before /v1 included", () => {
    const server = new FakePlatformServer()
    const paths: Array<string> = []
    server.onRequest = ({ path }) => {
      paths.push(path)
      return { body: { endpoint_id: "ep_1", subjectId: "s", subjectType: "agent-runtime" } }
    }
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      for (const name of callNames) yield* calls(platform)[name]
      assert.strictEqual(paths.length, callNames.length + 1)
      assert.isTrue(paths.every((path) => path.startsWith("/base/v1/")))
    }).pipe(Effect.provide(real(server, {}, "/base")))
  })

  it.scopedLive("names an endpoint encoded, whatever its id", () => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      yield* platform.post({ ...state, endpointId: "a/../b?c#d e" })
      assert.strictEqual(server.last.path, "/v1/runtime-endpoints/a%2F..%2Fb%3Fc%23d%20e/state")
    }).pipe(Effect.provide(real(server)))
  })

  it.effect("is not made for an id that no path can name: peers choose such ids", () => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      for (const id of ["", ".", "..", "x".repeat(100_000)]) {
        assert.strictEqual(yield* platform.endpointState(id), "unknown")
        for (const call of [
          platform.heartbeat(id),
          platform.unregister(id),
          platform.post({ ...state, endpointId: id })
        ]) {
          assert.strictEqual(yield* outcome(call), "refused - invalid_endpoint_id")
        }
      }
      assert.isEmpty(server.requests)
    }).pipe(Effect.provide(inMemory(server)))
  })

  it.scopedLive("uses the connection of the one before", () => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      const { endpointId } = yield* platform.register(registration)
      for (let count = 0; count < 20; count++) yield* platform.heartbeat(endpointId)
      yield* outcome(platform.heartbeat("ep_nobody"))
      yield* platform.post(presence)
      assert.strictEqual(server.connections, 1)
    }).pipe(Effect.provide(real(server)))
  })
})

describe("an answer", () => {
  it.effect("to a registration is used as far as it is sound", () => {
    const server = new FakePlatformServer()
    const naming = { nickname: "Otter", owner_edited_name: null }
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      server.next.push({
        status: 201,
        body: { endpoint_id: "ep_7", heartbeat_after_seconds: 15, session_naming: naming }
      })
      assert.deepStrictEqual(yield* platform.register(registration), {
        endpointId: "ep_7",
        heartbeatAfterMs: 15_000,
        sessionNaming: naming
      })
      server.next.push({ body: { endpoint_id: "ep_8", node_id: "node_5" } })
      assert.deepStrictEqual(yield* platform.register(registration), { endpointId: "ep_8" })
      server.next.push({ status: 204 })
      assert.strictEqual(yield* outcome(platform.register(registration)), "unavailable 204 invalid_response")
    }).pipe(Effect.provide(inMemory(server)))
  })

  it.effect("F12: any 2xx is done, whatever its body", () =>
    Effect.gen(function* () {
      for (const status of [200, 201, 202, 204, 207]) {
        for (const body of [undefined, "", "no JSON", "[]", "{}", "x".repeat(2_000_000)]) {
          const { endpointState: _e, register: _r, whoami: _w, ...posts } = yield* outcomes({ status, body })
          assert.deepStrictEqual(new Set(Object.values(posts)), new Set(["done"]))
        }
      }
    })
  )

  it.effect("that is a success and says nothing is of no use where something was asked", () =>
    Effect.gen(function* () {
      for (const body of [
        "",
        "no JSON",
        "[]",
        "null",
        "7",
        "[".repeat(900_000),
        `{"endpoint_id":"${"x".repeat(2_000_000)}"}`
      ]) {
        const { endpointState, register, whoami } = yield* outcomes({ body })
        assert.deepStrictEqual([endpointState, register, whoami], new Array(3).fill("unavailable 200 invalid_response"))
      }
    })
  )

  it.effect("maps to unauthorized, refused and unavailable by its status", () =>
    Effect.gen(function* () {
      const kinds = { 401: "unauthorized", 400: "refused", 403: "refused", 409: "refused", 422: "refused" }
      for (const [status, kind] of Object.entries(kinds)) {
        const all = yield* outcomes(refusal(Number(status), "some_code", "Said so."))
        for (const name of callNames) {
          // Who we are is asked first; when that is refused, the endpoint is asked for all the same.
          assert.strictEqual(all[name], `${kind} ${status} some_code`, name)
        }
      }
      for (const status of [408, 425, 429, 500, 502, 503, 504, 599, 304, 307]) {
        const all = yield* outcomes({ status })
        for (const name of callNames) assert.strictEqual(all[name], `unavailable ${status} unknown`, name)
      }
    })
  )

  it.effect("404 is done for a state and a removal, a lost lease for a heartbeat, and unknown for an endpoint", () =>
    Effect.gen(function* () {
      const lost = "refused 404 endpoint_unknown"
      assert.deepStrictEqual(yield* outcomes(refusal(404, "endpoint_unknown", "No such endpoint.")), {
        register: lost,
        heartbeat: lost,
        unregister: "done",
        endpointState: '"unknown"',
        whoami: lost,
        state: "done",
        removed: "done",
        hint: lost,
        undispatched: lost,
        presence: lost
      })
    })
  )

  it.effect("says how long to wait", () => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2031, 2, 4, 8, 0, 0))
      const platform = yield* PlatformApi
      const waits: Array<number | undefined> = []
      for (const retryAfter of ["30", "Tue, 04 Mar 2031 08:00:20 GMT", "nonsense"]) {
        server.next.push({ status: 503, headers: { "retry-after": retryAfter } })
        waits.push((yield* Effect.flip(platform.post(presence))).retryAfterMs)
      }
      assert.deepStrictEqual(waits, [30_000, 20_000, undefined])
    }).pipe(Effect.provide(inMemory(server)))
  })

  it("says whether the platform refused, failed or did not answer", () => {
    const words = (kind: PlatformError["kind"], status?: number) =>
      new PlatformError({ kind, code: "code", reason: "reason", ...(status === undefined ? {} : { status }) }).message
    assert.strictEqual(words("unavailable"), "The platform gave no answer (code): reason.")
    assert.strictEqual(words("unavailable", 500), "The platform could not do it (code): reason.")
    assert.strictEqual(words("refused", 422), "The platform refused the call (code): reason.")
  })

  it.effect("keeps the platform's own words, as a sentence, but never the token", () => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      server.next.push(refusal(403, "forbidden", "This runtime may not."))
      const error = yield* Effect.flip(platform.post(presence))
      assert.strictEqual(error.message, "The platform refused the call (forbidden): This runtime may not.")
      server.onRequest = () => refusal(401, `bad_${server.token}`, `Token ${server.token} was revoked.\n`)
      for (const name of callNames) {
        const error = yield* Effect.flip(calls(platform)[name] as Effect.Effect<unknown, PlatformError>)
        assert.strictEqual(error.reason, "Token <token> was revoked")
        assert.notInclude(JSON.stringify(error) + String(error) + error.stack, server.token)
      }
    }).pipe(Effect.provide(inMemory(server)))
  })
})

describe("who asks for an endpoint", () => {
  it.effect("is asked for once", () => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      const { endpointId } = yield* platform.register(registration)
      server.endpoints.get(endpointId)!.retired_at = ts
      assert.strictEqual(yield* platform.endpointState(endpointId), "closed")
      assert.strictEqual(yield* platform.endpointState("ep_nobody"), "unknown")
      assert.deepStrictEqual(
        server.requests.map(({ path, query }) => `${path}?${query}`),
        [
          "/v1/runtime-endpoints?",
          "/v1/whoami?",
          "/v1/runtime-endpoints/ep_1?as=node_5",
          "/v1/runtime-endpoints/ep_nobody?as=node_5"
        ]
      )
    }).pipe(Effect.provide(inMemory(server)))
  })

  it.effect("is known from registrations where the platform has no whoami", () => {
    const server = new FakePlatformServer()
    server.onRequest = ({ path }) => (path === "/v1/whoami" ? refusal(404, "not_found", "") : undefined)
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      yield* platform.endpointState("ep_0")
      assert.strictEqual(server.last.query, "")
      const { endpointId } = yield* platform.register(registration)
      assert.strictEqual(yield* platform.endpointState(endpointId), "open")
      assert.strictEqual(server.last.query, "as=node_5")
    }).pipe(Effect.provide(inMemory(server)))
  })

  it.effect("has the wrong kind of account", () => {
    const server = new FakePlatformServer()
    server.subjectType = "user"
    return Effect.gen(function* () {
      const { whoami } = yield* PlatformApi
      assert.strictEqual(yield* outcome(whoami!), "refused 200 wrong_subject_type")
    }).pipe(Effect.provide(inMemory(server)))
  })
})
