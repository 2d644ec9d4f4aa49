/** Every call of the platform's API, over the fake platform. */
import { Effect, Layer, Redacted } from "effect"
import * as PlatformApiHttp from "../../src/layers/PlatformApiHttp.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Credentials } from "../../src/services/Credentials.js"
import type { PlatformReport } from "../../src/services/model/PlatformReport.js"
import { PlatformApi, type PlatformError } from "../../src/services/PlatformApi.js"
import { FakePlatformServer, type Scripted } from "./FakePlatformServer.js"
import { configWith } from "./ground.js"

export const groundFor = (platform: FakePlatformServer, apiOrigin: string, settings: Partial<Settings> = {}) =>
  Layer.mergeAll(
    configWith(settings),
    Layer.succeed(Credentials, {
      accountId: "default",
      runtimeToken: Redacted.make(platform.token),
      connectorUrl: "",
      apiOrigin
    })
  )

/** The real client against a real server. */
export const real = (platform: FakePlatformServer, settings: Partial<Settings> = {}, prefix = "") =>
  Layer.unwrapScoped(
    Effect.map(platform.listen, (origin) =>
      Layer.provide(PlatformApiHttp.layer, groundFor(platform, `${origin}${prefix}`, settings))
    )
  )

export const inMemory = (platform: FakePlatformServer, settings: Partial<Settings> = {}) =>
  PlatformApiHttp.layerOnClient.pipe(
    Layer.provide(Layer.merge(groundFor(platform, "https://api.example", settings), platform.client))
  )

export const ts = "2031-03-04T08:00:00.000Z"
export const state: Extract<PlatformReport, { readonly _tag: "EndpointState" }> = {
  _tag: "EndpointState",
  endpointId: "ep_1",
  state: "closed",
  reason: "grace_timeout",
  ts
}
export const removed: PlatformReport = { _tag: "EndpointRemoved", endpointId: "ep_1" }
export const hint: PlatformReport = { _tag: "DisplayMetadata", endpointId: "ep_1", taskHint: "testing" }
export const undispatched: PlatformReport = {
  _tag: "UndispatchedChanged",
  event: { type: "undispatched_changed", version: 1, action: "remove", undispatched_id: "m1", remove_reason: "r" }
}
export const presence: PlatformReport = {
  _tag: "NetworkPresenceChanged",
  event: { type: "network_presence_changed", version: 1, state: "offline", ts: 7, reason: "broker_shutdown" }
}
export const registration = {
  runtime_kind: "claude-code",
  endpoint_nonce: "nonce",
  display_label: "fix parser",
  workspace: { root: "/srv/parser", cwd: "/srv/parser" },
  tracking_ref: "JIRA-12"
}

/** Every call by name. */
export const calls = (platform: PlatformApi["Type"]) => ({
  register: platform.register(registration),
  heartbeat: platform.heartbeat("ep_1"),
  unregister: platform.unregister("ep_1"),
  endpointState: platform.endpointState("ep_1"),
  whoami: platform.whoami!,
  state: platform.post(state),
  removed: platform.post(removed),
  hint: platform.post(hint),
  undispatched: platform.post(undispatched),
  presence: platform.post(presence)
})
export type CallName = keyof ReturnType<typeof calls>
export const callNames: ReadonlyArray<CallName> = [
  "register",
  "heartbeat",
  "unregister",
  "endpointState",
  "whoami",
  "state",
  "removed",
  "hint",
  "undispatched",
  "presence"
]

/** What came of a call, in a word; an error's kind, status and code. */
export const outcome = <A>(call: Effect.Effect<A, PlatformError>) =>
  Effect.match(call, {
    onSuccess: (value) => (value === undefined ? "done" : JSON.stringify(value)),
    onFailure: ({ code, kind, status = "-" }) => `${kind} ${status} ${code}`
  })

/** The outcome of every call when each request is answered so. */
export const outcomes = (scripted: Scripted, layer = inMemory) => {
  const server = new FakePlatformServer()
  server.onRequest = () => scripted
  return Effect.gen(function* () {
    const platform = yield* PlatformApi
    const all = calls(platform)
    const each = callNames.map((name) => Effect.map(outcome<unknown>(all[name]), (ended) => [name, ended] as const))
    // At once: some wait for a deadline.
    return Object.fromEntries(yield* Effect.all(each, { concurrency: "unbounded" })) as Record<CallName, string>
  }).pipe(Effect.provide(layer(server)))
}
