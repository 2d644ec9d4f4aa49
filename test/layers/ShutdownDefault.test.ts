import { assert, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as ShutdownDefault from "../../src/layers/ShutdownDefault.js"
import { Shutdown } from "../../src/services/Shutdown.js"
import { settle } from "../kit/core.js"

it.effect("nobody leaves before somebody asked", () =>
  Effect.gen(function* () {
    const shutdown = yield* Shutdown
    const waiting = yield* Effect.fork(shutdown.requested)
    yield* settle
    assert.isNull(waiting.unsafePoll())
    assert.isFalse(shutdown.unsafeIsLeaving())
    assert.isUndefined(shutdown.unsafeReason())
  }).pipe(Effect.provide(ShutdownDefault.layer))
)

it.effect("everybody who waits learns the reason, and no new work is taken from that moment", () =>
  Effect.gen(function* () {
    const shutdown = yield* Shutdown
    const waiting = yield* Effect.forkAll([shutdown.requested, shutdown.requested])
    yield* shutdown.request("operator")
    assert.isTrue(shutdown.unsafeIsLeaving())
    assert.deepStrictEqual(yield* Fiber.join(waiting), ["operator", "operator"])
  }).pipe(Effect.provide(ShutdownDefault.layer))
)

it.effect("the first reason counts", () =>
  Effect.gen(function* () {
    const shutdown = yield* Shutdown
    yield* shutdown.request("superseded")
    yield* shutdown.request("signal")
    assert.strictEqual(yield* shutdown.requested, "superseded")
    assert.strictEqual(shutdown.unsafeReason(), "superseded")
  }).pipe(Effect.provide(ShutdownDefault.layer))
)
