import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Redacted, TestClock } from "effect"
import * as AccountCheckPlatform from "../../src/layers/AccountCheckPlatform.js"
import * as PlatformApiHttp from "../../src/layers/PlatformApiHttp.js"
import * as PlatformApiLocal from "../../src/layers/PlatformApiLocal.js"
import * as ShutdownDefault from "../../src/layers/ShutdownDefault.js"
import { AccountCheck } from "../../src/services/AccountCheck.js"
import { Credentials } from "../../src/services/Credentials.js"
import type { PlatformApi } from "../../src/services/PlatformApi.js"
import { Shutdown } from "../../src/services/Shutdown.js"
import { FakePlatformServer, refusal, type Scripted } from "../kit/FakePlatformServer.js"
import { configWith, KeptLog, turns } from "../kit/ground.js"
import { jitter } from "../kit/steps.js"

const check = (server: FakePlatformServer, log = new KeptLog(), platform?: Layer.Layer<PlatformApi>) => {
  const ground = Layer.mergeAll(
    configWith(),
    log.layer,
    ShutdownDefault.layer,
    Layer.succeed(Credentials, {
      accountId: "work",
      runtimeToken: Redacted.make(server.token),
      connectorUrl: "",
      apiOrigin: "https://api.example"
    })
  )
  return AccountCheckPlatform.layer.pipe(
    Layer.provide(platform ?? Layer.provide(PlatformApiHttp.layerOnClient, server.client)),
    Layer.provideMerge(ground)
  )
}

const isLeaving = Effect.map(Shutdown, (shutdown) => shutdown.unsafeIsLeaving())
const refusalOf = Effect.map(AccountCheck, ({ unsafeRefusal }) => unsafeRefusal())
/** A minute or so; each wait is one step of the clock. */
const pass = (ms: number) => turns.pipe(Effect.zipRight(TestClock.adjust(ms)), Effect.zipRight(turns))

describe("the account", () => {
  it.scoped("is named by the platform, asked once", () => {
    const server = new FakePlatformServer()
    const log = new KeptLog()
    return Effect.gen(function* () {
      const { account } = yield* AccountCheck
      assert.deepStrictEqual(yield* account, { subjectId: "node_5", ownerUserId: "user_1" })
      yield* pass(600_000)
      assert.strictEqual(server.requests.length, 1)
      assert.deepStrictEqual(log.events, ["account_confirmed"])
      assert.isFalse(yield* isLeaving)
      assert.isUndefined(yield* refusalOf)
    }).pipe(Effect.provide(check(server, log)))
  })

  it.scoped("is none on a network without accounts", () =>
    Effect.gen(function* () {
      assert.isUndefined(yield* (yield* AccountCheck).account)
      assert.isFalse(yield* isLeaving)
    }).pipe(Effect.provide(check(new FakePlatformServer(), undefined, PlatformApiLocal.layer)))
  )
})

describe("a platform that does not answer", () => {
  const outage = (scripted: Scripted) =>
    Effect.gen(function* () {
      yield* jitter(1)
      const server = new FakePlatformServer()
      const log = new KeptLog()
      server.onRequest = () => scripted
      yield* Effect.gen(function* () {
        // The layer is there: nothing waits for the platform.
        const account = yield* Effect.fork(Effect.flatMap(AccountCheck, ({ account }) => account))
        yield* turns
        assert.strictEqual(server.requests.length, 1)
        const waits = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
        for (const [index, wait] of waits.entries()) {
          yield* pass(wait - 1)
          assert.strictEqual(server.requests.length, index + 1, `before ${wait}`)
          yield* pass(1)
          assert.strictEqual(server.requests.length, index + 2, `after ${wait}`)
        }
        assert.isTrue(Option.isNone(yield* Fiber.poll(account)))
        assert.isFalse(yield* isLeaving)
        assert.deepStrictEqual(log.events, ["account_check_retry"], "an outage is told once")
        server.onRequest = () => undefined
        yield* pass(30_000)
        assert.strictEqual((yield* Fiber.join(account))?.subjectId, "node_5")
        assert.strictEqual(log.events.at(-1), "account_confirmed")
      }).pipe(Effect.provide(check(server, log)))
    })

  for (const [name, scripted] of Object.entries({
    "is down": { fault: "cut" },
    fails: { status: 503 },
    "answers with a page": { body: "<html>" },
    "names nobody": { body: { subjectId: "", subjectType: "agent-runtime" } },
    "has no whoami": refusal(404, "not_found", "")
  } satisfies Record<string, Scripted>)) {
    it.scoped(`or ${name} is asked again, ever less often, and never given up`, () => outage(scripted))
  }

  it.scoped("and asks to wait longer is left alone so long", () => {
    const server = new FakePlatformServer()
    server.next.push({ status: 429, headers: { "retry-after": "50" } })
    return Effect.gen(function* () {
      yield* AccountCheck
      yield* pass(49_999)
      assert.strictEqual(server.requests.length, 1)
      yield* pass(1)
      assert.strictEqual(server.requests.length, 2)
    }).pipe(Effect.provide(check(server)))
  })

  it.scoped("does not keep the broker from ending", () => {
    const server = new FakePlatformServer()
    server.onRequest = () => ({ fault: "hang" })
    return Effect.gen(function* () {
      yield* Effect.zipRight(AccountCheck, turns).pipe(Effect.provide(check(server)))
      assert.strictEqual(server.requests.length, 1)
    })
  })
})

describe("refused credentials", () => {
  const wrongType = { body: { subjectId: "s", subjectType: "user" } }
  for (const [name, scripted, says] of [
    ["401", refusal(401, "unauthorized", "The token was revoked."), "unauthorized: The token was revoked"],
    ["403", refusal(403, "forbidden", "Not this one."), "forbidden: Not this one"],
    ["another kind of account", wrongType, 'the account is "user"']
  ] as const) {
    it.scoped(`${name}: the broker is asked to end, with a sentence that says what to do`, () => {
      const server = new FakePlatformServer()
      const log = new KeptLog()
      // Also after an outage.
      server.next.push({ status: 502 })
      server.onRequest = () => (server.next.length > 0 ? undefined : scripted)
      return Effect.gen(function* () {
        yield* AccountCheck
        yield* pass(1_000)
        assert.strictEqual(yield* (yield* Shutdown).requested, "credentials")
        const sentence = (yield* refusalOf)!
        for (const part of ["credentials", '"work"', says, "renew the token"]) assert.include(sentence, part)
        assert.match(sentence, /^[^\n]+\.$/)
        assert.notInclude(sentence + JSON.stringify(log.lines), server.token)
        assert.deepStrictEqual(log.events, ["account_check_retry", "account_refused"])
        yield* pass(600_000)
        assert.strictEqual(server.requests.length, 2)
      }).pipe(Effect.provide(check(server, log)))
    })
  }
})
