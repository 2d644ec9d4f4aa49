import { OpenApi } from "@effect/platform"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import * as IpcServerHttp from "../../src/layers/IpcServerHttp.js"
import * as IpcTokensMinted from "../../src/layers/IpcTokensMinted.js"
import { IpcServer } from "../../src/services/IpcServer.js"
import { IpcTokens } from "../../src/services/IpcTokens.js"
import { IpcApi } from "../../src/services/ipc/IpcApi.js"
import { PlatformError } from "../../src/services/PlatformApi.js"
import { core, FakePlugin } from "../kit/core.js"
import { FakePlatform } from "../kit/FakePlatform.js"

const broker = (platform: FakePlatform) =>
  IpcServerHttp.layer.pipe(
    Layer.provideMerge(core({ settings: { port: 0 }, variants: { platform: platform.layer } })),
    Layer.provideMerge(IpcTokensMinted.layer)
  )

it.scopedLive("F11: what the platform refuses reaches the plugin with the platform's status, code and message", () => {
  const platform = new FakePlatform()
  return Effect.gen(function* () {
    const { url } = yield* IpcServer
    const authorization = `Bearer ${Redacted.value((yield* IpcTokens).plugin)}`
    yield* new FakePlugin(11).open
    for (const status of [400, 404, 409, 429, 451]) {
      platform.onRegister = () => new PlatformError({ kind: "refused", status, code: "quota", reason: "Too many." })
      const answer = yield* Effect.promise(() =>
        fetch(`${url}/v1/endpoint/register`, {
          method: "POST",
          headers: { authorization, "content-type": "application/json" },
          body: JSON.stringify({ plugin_pid: 11, kind: "test" })
        })
      )
      assert.strictEqual(answer.status, status)
      assert.strictEqual(answer.headers.get("content-type"), "application/json; charset=utf-8")
      const body = yield* Effect.promise(() => answer.json())
      assert.deepStrictEqual<unknown>(body, { error: "quota", message: "Too many." })
    }
  }).pipe(Effect.provide(broker(platform)))
})

it("the OpenAPI document says so: under 4XX and every such status but those of the broker's credentials", () => {
  const { paths } = OpenApi.fromApi(IpcApi)
  const anyCode = '"error":{"type":"string"}'
  for (const [path, methods] of Object.entries(paths)) {
    for (const operation of Object.values(methods)) {
      const passesOn = ["/v1/endpoint/register", "/v1/endpoint/{id}/heartbeat"].includes(path)
      const responses = operation.responses as Record<string, unknown>
      assert.strictEqual("4XX" in responses, passesOn, path)
      assert.notProperty(responses, "499")
      for (const [status, response] of Object.entries(responses)) {
        const canBe = passesOn && status.startsWith("4") && status !== "401" && status !== "403"
        assert.strictEqual(JSON.stringify(response).includes(anyCode), canBe, `${path} ${status}`)
      }
    }
  }
})
