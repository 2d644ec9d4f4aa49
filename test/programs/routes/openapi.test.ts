import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { refused, usualBroker } from "../../kit/endToEnd.js"

const routes: Record<string, ReadonlyArray<string>> = {
  "/health": ["get"],
  "/openapi.json": ["get"],
  "/v1/proof": ["get"],
  "/v1/initialize": ["post"],
  "/v1/endpoint/register": ["post"],
  "/v1/endpoint/{id}": ["delete"],
  "/v1/endpoint/{id}/heartbeat": ["post"],
  "/v1/endpoint/{id}/reattach": ["post"],
  "/v1/endpoint/{id}/task-hint": ["post"],
  "/v1/send": ["post"],
  "/v1/undispatched": ["get"],
  "/v1/dispatch": ["post"],
  "/v1/operator/status": ["get"],
  "/v1/operator/dead": ["get", "delete"],
  "/v1/operator/dead/{letter}": ["get", "delete"],
  "/v1/operator/dead/{letter}/retry": ["post"],
  "/v1/operator/store": ["get"],
  "/v1/operator/store/verify": ["post"],
  "/v1/operator/store/export": ["get"],
  "/v1/operator/ledger": ["get"],
  "/v1/operator/stop": ["post"],
  "/v1/operator/drain": ["post"]
}
const open = ["/health", "/v1/proof"]

describe("GET /openapi.json", () => {
  const document = Effect.flatMap(usualBroker, (broker) =>
    Effect.map(broker.call("GET", "/openapi.json"), ({ body, headers, status }) => {
      assert.strictEqual(status, 200)
      assert.strictEqual(headers["content-type"], "application/json; charset=utf-8")
      return body
    })
  )

  it.scopedLive("describes this broker in OpenAPI 3", () =>
    Effect.gen(function* () {
      const { info, openapi } = yield* document
      assert.match(openapi, /^3\./)
      assert.strictEqual(info.title, "runtime-broker")
      const { body } = yield* (yield* usualBroker).call("GET", "/health")
      assert.strictEqual(body.version, `runtime-broker/${info.version}`)
    })
  )

  it.scopedLive("holds every route", () =>
    Effect.gen(function* () {
      const { paths } = yield* document
      for (const [path, methods] of Object.entries(routes)) {
        assert.includeMembers(Object.keys(paths[path] ?? {}), [...methods], path)
      }
    })
  )

  it.scopedLive("every route it holds is there, and no other method of it", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { paths } = yield* document
      const served = (method: string, target: string) =>
        Object.entries<object>(paths).some(
          ([path, operations]) =>
            method in operations && new RegExp(`^${path.replaceAll(/\{\w+\}/g, "[^/]+")}$`).test(target)
        )
      const authorization = `Bearer ${broker.operatorToken}`
      for (const path of Object.keys(paths)) {
        const target = path.replaceAll(/\{\w+\}/g, "ep_nobody")
        for (const method of ["get", "post", "put", "delete", "patch"]) {
          if (/operator\/(stop|drain)$/.test(path) && method === "post") continue
          const { body } = yield* broker.call(method.toUpperCase(), target, undefined, { authorization })
          assert.strictEqual(body.error !== "not_found", served(method, target), `${method} ${path}`)
        }
      }
    })
  )

  it.scopedLive("says which routes take a token, and in which form", () =>
    Effect.gen(function* () {
      const { components, paths } = yield* document
      assert.deepInclude(components.securitySchemes.bearer, { type: "http", scheme: "bearer" })
      for (const [path, operations] of Object.entries<Record<string, any>>(paths)) {
        for (const operation of Object.values(operations)) {
          assert.deepStrictEqual(operation.security, open.includes(path) ? [] : [{ bearer: [] }], path)
        }
      }
    })
  )

  it.scopedLive("every refusal it holds is an error code and a message, and internal_error is none of them", () =>
    Effect.gen(function* () {
      const { components } = yield* document
      const refusals = Object.entries<any>(components.schemas).filter(([, schema]) => schema.properties?.error)
      assert.isAbove(refusals.length, 20)
      for (const [name, schema] of refusals) {
        assert.deepStrictEqual(schema.properties.error.enum, [name])
        assert.includeMembers(schema.required, ["error", "message"], name)
      }
      assert.notInclude(
        refusals.map(([name]) => name),
        "internal_error"
      )
    })
  )

  it.scopedLive("declares each refusal of a route, and none in a form that is never sent", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const { components, paths } = yield* document
      const declared = (method: string, path: string, status: number): string =>
        JSON.stringify(paths[path][method].responses[status] ?? "")
      const undeclared: Array<string> = []
      const provoke = (method: string, path: string, body: unknown, headers: Record<string, string> = {}) =>
        Effect.map(broker.call(method, path.replace("{id}", "ep_nobody"), body, headers), (answer) => {
          const { error } = answer.body
          if (declared(method.toLowerCase(), path, answer.status).includes(`/${error}"`)) return
          undeclared.push(`${method} ${path}: ${answer.status} ${error}`)
        })
      const endpointRoutes = ["heartbeat", "reattach", "task-hint"].map((name) => `/v1/endpoint/{id}/${name}`)
      const posts = ["/v1/initialize", "/v1/endpoint/register", ...endpointRoutes, "/v1/send", "/v1/dispatch"]
      for (const path of posts) yield* provoke("POST", path, "{")
      for (const path of ["/v1/endpoint/register", ...endpointRoutes, "/v1/send"]) {
        const body = { plugin_pid: 1, kind: "x", task_hint: "x", endpoint_id: "x", to: "x", content: "x" }
        yield* provoke("POST", path, body, { "x-plugin-pid": "abc" })
      }
      yield* provoke("DELETE", "/v1/endpoint/{id}", undefined, { "x-plugin-pid": "abc" })
      yield* provoke("POST", "/v1/endpoint/register", { plugin_pid: 1, kind: "x", task_hint: 7 })
      yield* provoke("GET", "/v1/operator/status", undefined)
      yield* provoke("POST", "/v1/operator/stop", {})
      yield* provoke("POST", "/v1/operator/drain", {})
      assert.deepStrictEqual(undeclared, [])
      assert.notProperty(components.schemas, "HttpApiDecodeError")
    })
  )

  it.scopedLive("wants a token, either", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      refused(yield* broker.call("GET", "/openapi.json", undefined, { authorization: "" }), 401, "unauthorized")
      assert.strictEqual((yield* broker.operator("GET", "/openapi.json")).status, 200)
      assert.strictEqual((yield* broker.call("GET", "/openapi.json?x=1")).status, 200)
      refused(yield* broker.call("POST", "/openapi.json", {}), 404, "not_found")
    })
  )
})
