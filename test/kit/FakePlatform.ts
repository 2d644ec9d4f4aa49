/** A platform the test holds in its hands: what was registered and posted, how it answers, and how slowly. */
import { Effect, Layer } from "effect"
import type { PlatformReport } from "../../src/services/model/PlatformReport.js"
import {
  PlatformApi,
  type PlatformEndpoint,
  PlatformError,
  type PlatformRegistration
} from "../../src/services/PlatformApi.js"

export const unavailable = (retryAfterMs?: number) =>
  new PlatformError({
    kind: "unavailable",
    status: 503,
    code: "overloaded",
    reason: "come back later",
    ...(retryAfterMs === undefined ? {} : { retryAfterMs })
  })
export const unreachable = new PlatformError({ kind: "unavailable", code: "network", reason: "nobody listens" })
export const tooMany = new PlatformError({
  kind: "unavailable",
  status: 429,
  code: "rate_limited",
  reason: "slow down",
  retryAfterMs: 5_000
})
export const unauthorized = new PlatformError({
  kind: "unauthorized",
  status: 401,
  code: "unauthorized",
  reason: "the token was revoked"
})
export const refused = new PlatformError({ kind: "refused", status: 422, code: "invalid", reason: "no such thing" })

export class FakePlatform {
  readonly registrations: Array<PlatformRegistration> = []
  /** Every post that was tried, and those that were accepted. */
  readonly tried: Array<PlatformReport> = []
  readonly posts: Array<PlatformReport> = []
  /** Endpoints whose state was looked up. */
  readonly lookups: Array<string> = []
  readonly heartbeats: Array<string> = []
  private minted = 0

  onRegister: (registration: PlatformRegistration) => Effect.Effect<PlatformEndpoint, PlatformError> = () =>
    Effect.sync(() => ({ endpointId: `ep_${++this.minted}` }))
  onHeartbeat: (endpointId: string) => Effect.Effect<void, PlatformError> = () => Effect.void
  onPost: (report: PlatformReport) => Effect.Effect<void, PlatformError> = () => Effect.void
  onLookup: (endpointId: string) => Effect.Effect<"open" | "closed" | "unknown", PlatformError> = () =>
    Effect.succeed("unknown")

  /** From now on registrations wait until the returned effect is run. */
  holdRegistrations(): Effect.Effect<unknown> {
    const latch = Effect.unsafeMakeLatch(false)
    const answer = this.onRegister
    this.onRegister = (registration) => latch.whenOpen(answer(registration))
    return latch.open
  }

  /** The states an endpoint was reported in, the oldest first. */
  statesOf(endpointId: string): ReadonlyArray<string> {
    return this.posts.flatMap((report) => {
      switch (report._tag) {
        case "EndpointState":
          return report.endpointId === endpointId ? [`${report.state}/${report.reason}`] : []
        case "EndpointRemoved":
          return report.endpointId === endpointId ? ["removed"] : []
        default:
          return []
      }
    })
  }

  readonly layer = Layer.succeed(PlatformApi, {
    name: "fake",
    register: (registration) =>
      Effect.suspend(() => {
        this.registrations.push(registration)
        return this.onRegister(registration)
      }),
    heartbeat: (endpointId) =>
      Effect.suspend(() => {
        this.heartbeats.push(endpointId)
        return this.onHeartbeat(endpointId)
      }),
    unregister: () => Effect.void,
    endpointState: (endpointId) =>
      Effect.suspend(() => {
        this.lookups.push(endpointId)
        return this.onLookup(endpointId)
      }),
    post: (report) =>
      Effect.suspend(() => {
        this.tried.push(report)
        return Effect.tap(this.onPost(report), () => Effect.sync(() => this.posts.push(report)))
      })
  })
}
