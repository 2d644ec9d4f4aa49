/** What happened in the development cloud, in order; the oldest goes first. */
import type { PlatformCallName } from "./Faults.js"

/** A call to the platform. `status` is `null` while it has no answer. Bodies are kept as they came, tokens never. */
export interface PlatformCalled {
  readonly kind: "platform"
  readonly call: PlatformCallName | "unknown"
  readonly method: string
  readonly path: string
  readonly query: { readonly [name: string]: string }
  readonly body: unknown
  status: number | null
}

/** A frame of the gateway's protocol: `in` came from a runtime. Without content. */
export interface GatewayFramed {
  readonly kind: "frame"
  readonly direction: "in" | "out"
  readonly connection: number
  readonly event: string
  readonly fields: { readonly [name: string]: unknown }
}

/** A connection to the gateway, or a subscription to control events, came or went. */
export interface LinkChanged {
  readonly kind: "connection" | "subscription"
  readonly connection: number
  readonly state: "opened" | "registered" | "closed"
  readonly detail: string
}

/** A control event went to its account; `subscribers` is how many there were. */
export interface ControlSent {
  readonly kind: "control"
  readonly id: string
  readonly event: unknown
  readonly subscribers: number
}

export type Happening = {
  /** Counts up from 1. */
  readonly n: number
  /** Epoch milliseconds. */
  readonly ts: number
  /** `null`: whose it is was not known. */
  readonly account: string | null
} & (PlatformCalled | GatewayFramed | LinkChanged | ControlSent)

export interface HappeningFilter {
  readonly account?: string
  readonly kind?: Happening["kind"]
  /** Name of a platform call. */
  readonly call?: string
  /** Name of a gateway frame. */
  readonly event?: string
  /** Only later than this `n`. */
  readonly since?: number
}

export const matches = (happening: Happening, filter: HappeningFilter): boolean =>
  (filter.account === undefined || happening.account === filter.account) &&
  (filter.kind === undefined || happening.kind === filter.kind) &&
  (filter.call === undefined || (happening.kind === "platform" && happening.call === filter.call)) &&
  (filter.event === undefined || (happening.kind === "frame" && happening.event === filter.event)) &&
  (filter.since === undefined || happening.n > filter.since)

const kept = 20_000

export class Journal {
  private happenings: Array<Happening> = []
  private readonly watchers = new Set<(happening: Happening) => void>()
  private readonly now: () => number
  private n = 0

  constructor(now: () => number) {
    this.now = now
  }

  add<A extends PlatformCalled | GatewayFramed | LinkChanged | ControlSent>(account: string | null, what: A): A {
    const happening = Object.assign(what, { n: ++this.n, ts: this.now(), account }) as unknown as Happening
    this.happenings.push(happening)
    if (this.happenings.length >= 2 * kept) this.happenings = this.happenings.slice(-kept)
    this.changed(happening)
    return what
  }

  /** The call has its answer. */
  answered(call: PlatformCalled, status: number): void {
    call.status = status
    this.changed(call as unknown as Happening)
  }

  list(filter: HappeningFilter): ReadonlyArray<Happening> {
    return this.happenings.filter((happening) => matches(happening, filter))
  }

  /** Called with everything that happens and every answer, until the returned function is. */
  watch(watcher: (happening: Happening) => void): () => void {
    this.watchers.add(watcher)
    return () => void this.watchers.delete(watcher)
  }

  private changed(happening: Happening): void {
    for (const watcher of [...this.watchers]) watcher(happening)
  }
}
