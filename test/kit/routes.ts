/** The routes of the HTTP surface, read from its declaration: a test that goes over them covers a new one by itself. */
import { HttpApi, OpenApi } from "@effect/platform"
import { Option, Schema, SchemaAST } from "effect"
import { Authorized } from "../../src/services/ipc/Auth.js"
import { IpcApi } from "../../src/services/ipc/IpcApi.js"

export interface Field {
  readonly name: string
  readonly isRequired: boolean
}

export interface Route {
  readonly method: string
  /** With `:id` for a parameter. */
  readonly path: string
  readonly access: "anyone" | "plugins" | "operators"
  /** It looks at who owns an endpoint. */
  readonly takesOwner: boolean
  /** It is about one endpoint, named in the path or the body. */
  readonly namesEndpoint: boolean
  readonly fields: ReadonlyArray<Field>
  readonly query: ReadonlyArray<Field>
  /** The codes it may answer with 403. */
  readonly forbids: ReadonlyArray<string>
}

const fieldsOf = (schema: Option.Option<Schema.Schema.All>): ReadonlyArray<Field> =>
  Option.match(schema, {
    onNone: () => [],
    onSome: (schema) =>
      SchemaAST.getPropertySignatures(Schema.encodedSchema(schema as Schema.Schema.Any).ast).map((property) => ({
        name: String(property.name),
        isRequired: !property.isOptional
      }))
  })

export const routes: ReadonlyArray<Route> = (() => {
  const document = OpenApi.fromApi(IpcApi)
  const all: Array<Route> = []
  HttpApi.reflect(IpcApi, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint, middleware }) => {
      const { method, path } = endpoint
      const needsToken = Array.from(middleware).some(({ key }) => key === Authorized.key)
      const fields = fieldsOf(endpoint.payloadSchema)
      const operations = document.paths[path.replaceAll(/:(\w+)/g, "{$1}")] as Record<string, any>
      const forbidden = JSON.stringify(operations[method.toLowerCase()].responses["403"] ?? "")
      all.push({
        method,
        path,
        access: !needsToken ? "anyone" : path.startsWith("/v1/operator/") ? "operators" : "plugins",
        takesOwner: fieldsOf(endpoint.headersSchema).some(({ name }) => name === "x-endpoint-owner-token"),
        namesEndpoint: path.includes(":id") || fields.some(({ name }) => name === "endpoint_id"),
        fields,
        query: fieldsOf(endpoint.urlParamsSchema),
        forbids: Array.from(forbidden.matchAll(/schemas\/(\w+)/g), ([, code]) => code!)
      })
    }
  })
  return all
})()

/** What the fields of a good request say. */
export interface Values {
  readonly endpoint_id: string
  readonly plugin_pid: number
  readonly to: string
}

const others: { readonly [field: string]: unknown } = {
  agent_id: "agent",
  kind: "test",
  content: "content",
  task_hint: "a hint",
  undispatched_id: "nobody",
  target_endpoint_id: "nobody",
  client_protocol_version: "1.1",
  client_kind: "test",
  nonce: "ab".repeat(32)
}

const goodValue = (field: string, values: Values): unknown => {
  const value = field in values ? values[field as keyof Values] : others[field]
  if (value === undefined) throw new Error(`Say in test/kit/routes.ts what a good "${field}" is.`)
  return value
}

/** The target and the body of a good request: what the route demands, and no more. */
export const wellFormed = (route: Route, values: Values) => {
  const required = (fields: ReadonlyArray<Field>) =>
    fields.filter(({ isRequired }) => isRequired).map(({ name }) => [name, goodValue(name, values)] as const)
  const path = route.path.replaceAll(/:\w+/g, encodeURIComponent(values.endpoint_id))
  const query = required(route.query).map(([name, value]) => `${name}=${value}`)
  return {
    target: query.length === 0 ? path : `${path}?${query.join("&")}`,
    body: Object.fromEntries(required(route.fields))
  }
}
