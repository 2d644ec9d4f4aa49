/** The routes there are, as the door of the server knows them: which a request names, exactly, and who may use it. */
import { HttpApi } from "@effect/platform"
import { Authorized } from "../../services/ipc/Auth.js"
import { DeadLetterGroup } from "../../services/ipc/DeadLetterGroup.js"
import { IpcApi } from "../../services/ipc/IpcApi.js"
import { OperatorGroup } from "../../services/ipc/OperatorGroup.js"
import { StoreGroup } from "../../services/ipc/StoreGroup.js"

export interface Route {
  /** `anyone`: also without a token. `plugins`: with either token. `operators`: with the operator's only. */
  readonly access: "anyone" | "plugins" | "operators"
  /** The path in the one spelling that the platform's router reads as this route. */
  readonly path: string
}

/** What a door leads to. */
export interface Routes {
  /** The path is without its query, and its percent escapes are well formed. */
  readonly find: (method: string, path: string) => Route | undefined
  /** A sentence that says that there is no such route. */
  readonly none: (method: string, path: string) => string
}

/** Opened by an upgrade, it is no route of HTTP. */
export const streamPath = "/v1/stream"

interface Known {
  readonly method: string
  readonly segments: ReadonlyArray<string>
  readonly access: Route["access"]
}

const operators: ReadonlySet<string> = new Set(
  [OperatorGroup, DeadLetterGroup, StoreGroup].map(({ identifier }) => identifier)
)
const takesToken = (middleware: ReadonlySet<{ readonly key: string }>) =>
  Array.from(middleware).some(({ key }) => key === Authorized.key)

const known: ReadonlyArray<Known> = (() => {
  const all: Array<Known> = []
  HttpApi.reflect(IpcApi, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint, group, middleware }) =>
      all.push({
        method: endpoint.method,
        segments: endpoint.path.split("/"),
        access: !takesToken(middleware) ? "anyone" : operators.has(group.identifier) ? "operators" : "plugins"
      })
  })
  return all
})()

const isParameter = (segment: string) => segment.startsWith(":")

/**
 * The routes of the HTTP surface. The platform's router is generous: it takes other cases, doubled slashes, escaped
 * letters and `;` for the same path. Here a path is the route's own, letter by letter; only a parameter has several spellings.
 */
export const ipcRoutes: Routes = {
  find: (method, path) => {
    const asked = method === "HEAD" ? "GET" : method
    const given = path.split("/")
    const route = known.find(
      ({ method, segments }) =>
        method === asked &&
        segments.length === given.length &&
        segments.every((segment, n) => (isParameter(segment) ? given[n] !== "" : given[n] === segment))
    )
    if (route === undefined) return undefined
    const spelled = route.segments.map((segment, n) =>
      isParameter(segment) ? encodeURIComponent(decodeURIComponent(given[n]!)) : segment
    )
    return { access: route.access, path: spelled.join("/") }
  },
  none: (method, path) =>
    path === streamPath
      ? `${streamPath} opens as a WebSocket only: GET with the headers of an upgrade.`
      : `There is no ${method} ${path} here.`
}
