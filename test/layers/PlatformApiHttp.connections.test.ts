import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, TestClock } from "effect"
import * as PlatformApiHttp from "../../src/layers/PlatformApiHttp.js"
import { PlatformApi } from "../../src/services/PlatformApi.js"
import { eventually } from "../kit/broker.js"
import { FakePlatformServer, type Scripted } from "../kit/FakePlatformServer.js"
import { turns } from "../kit/ground.js"
import {
  callNames,
  calls,
  groundFor,
  hint,
  inMemory,
  outcome,
  outcomes,
  presence,
  real,
  state
} from "../kit/platformCalls.js"

describe("no answer", () => {
  it.effect("within the setting is a timeout, for every call, not a millisecond earlier", () => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      for (const fault of ["hang", "hangInBody"] as const) {
        for (const name of callNames) {
          // Of these the status says all.
          if (fault === "hangInBody" && !["register", "endpointState", "whoami"].includes(name)) continue
          server.onRequest = () => ({ fault })
          const call = yield* Effect.fork(outcome<unknown>(calls(platform)[name]))
          yield* TestClock.adjust(15_000 - 1)
          assert.isTrue(Option.isNone(yield* Fiber.poll(call)), name)
          yield* TestClock.adjust(1)
          assert.strictEqual(yield* Fiber.join(call), "unavailable - timeout", name)
        }
      }
    }).pipe(Effect.provide(inMemory(server)))
  })

  it.effect("to who we are counts as time of the call behind it", () => {
    const server = new FakePlatformServer()
    server.onRequest = () => ({ delayMs: 600, body: { subjectId: "s", subjectType: "agent-runtime" } })
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      const call = yield* Effect.fork(outcome(platform.endpointState("ep_1")))
      yield* TestClock.adjust(1_000)
      assert.strictEqual(yield* Fiber.join(call), "unavailable - timeout")
    }).pipe(Effect.provide(inMemory(server, { platformMs: 1_000 })))
  })

  it.effect("in the body of one whose status says all is not waited for longer than a second", () => {
    const server = new FakePlatformServer()
    server.onRequest = ({ path }) => ({ status: path.endsWith("state") ? 200 : 422, fault: "hangInBody" })
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      const both = yield* Effect.fork(
        Effect.all([outcome(platform.post(state)), outcome(platform.post(hint))], { concurrency: 2 })
      )
      yield* turns
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual(yield* Fiber.join(both), ["done", "refused 422 unknown"])
    }).pipe(Effect.provide(inMemory(server)))
  })

  it.effect("because the connection failed is unavailable, and says why", () =>
    Effect.gen(function* () {
      for (const result of Object.values(yield* outcomes({ fault: "cut" }))) {
        assert.strictEqual(result, "unavailable - network")
      }
      for (const result of Object.values(yield* outcomes({ fault: "throw" }))) {
        assert.strictEqual(result, "unavailable - network")
      }
    })
  )

  it.scopedLive("from nobody, from nowhere, and from a host that is none", () =>
    Effect.gen(function* () {
      for (const [origin, code] of [
        ["http://127.0.0.1:1", "ECONNREFUSED"],
        ["http://nobody.invalid", "E"],
        ["http://127.0.0.1:99999", "the request"],
        ["nonsense", "the request"]
      ] as const) {
        const layer = Layer.provide(
          PlatformApiHttp.layer,
          groundFor(new FakePlatformServer(), origin, { platformMs: 5_000 })
        )
        const error = yield* Effect.flatMap(PlatformApi, (platform) => Effect.flip(platform.heartbeat("ep_1"))).pipe(
          Effect.provide(layer)
        )
        assert.strictEqual(error.kind, "unavailable")
        assert.include(error.reason, code)
      }
    })
  )

  it.effect("to a token that no header can carry: no defect", () => {
    const server = new FakePlatformServer()
    server.token = "line\nbreak"
    return Effect.gen(function* () {
      const error = yield* Effect.flip((yield* PlatformApi).heartbeat("ep_1"))
      assert.strictEqual(error.code, "network")
      assert.notInclude(String(error), "line")
    }).pipe(Effect.provide(Layer.provide(PlatformApiHttp.layer, groundFor(server, "http://127.0.0.1:1"))))
  })
})

describe("on real connections", () => {
  it.scopedLive("huge, hanging and broken answers end as errors in time", () =>
    Effect.gen(function* () {
      const over = (scripted: Scripted, platformMs = 10_000) =>
        outcomes(scripted, (server) => real(server, { platformMs }))
      const huge = yield* over({ body: "x".repeat(3_000_000) })
      assert.strictEqual(huge.register, "unavailable - network")
      assert.strictEqual(huge.state, "done")
      const refused = yield* over({ status: 422, body: "x".repeat(3_000_000) })
      assert.strictEqual(refused.register, "refused 422 unknown")
      const broken = yield* over({ fault: "breakOff", body: "{" })
      assert.strictEqual(broken.register, "unavailable - network")
      assert.strictEqual(broken.state, "done")
      assert.strictEqual((yield* over({ fault: "hangInBody", body: "{" }, 150)).whoami, "unavailable - timeout")
      for (const fault of ["cut", "hang"] as const) {
        const [code, within] = fault === "cut" ? ["network", 10_000] : ["timeout", 150]
        for (const result of Object.values(yield* over({ fault }, within)))
          assert.strictEqual(result, `unavailable - ${code}`)
      }
    })
  )

  it.scopedLive("an interrupted call ends at once and takes its connection with it", () => {
    const server = new FakePlatformServer()
    const open = Effect.sync(() => server.open)
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      for (const fault of ["hang", "hangInBody"] as const) {
        server.onRequest = () => ({ fault, body: "{" })
        const fibers = yield* Effect.forEach(callNames, (name) =>
          Effect.fork(calls(platform)[name] as Effect.Effect<unknown>)
        )
        yield* eventually(open, (count) => count > 0)
        const started = performance.now()
        for (const fiber of fibers) assert.isTrue(Exit.isFailure(yield* Fiber.interrupt(fiber)))
        assert.isBelow(performance.now() - started, 5_000, "long before the call's own end")
        yield* eventually(open, (count) => count === 0)
      }
    }).pipe(Effect.provide(real(server)))
  })

  it.scopedLive("none stays open when the layer ends", () => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      const origin = yield* server.listen
      yield* Effect.flatMap(PlatformApi, (platform) => platform.post(presence)).pipe(
        Effect.provide(Layer.provide(PlatformApiHttp.layer, groundFor(server, origin)))
      )
      yield* eventually(
        Effect.sync(() => server.open),
        (count) => count === 0
      )
      assert.strictEqual(server.connections, 1)
    })
  })
})
