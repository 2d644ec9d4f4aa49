/**
 * Faults the development cloud can be told to have: where something goes wrong, and what. A fault stays until it is cleared;
 * one with `times` strikes that often and then rests.
 */
import { Schema } from "effect"
import { optional } from "../model/Json.js"

/** The platform's calls, as faults and the journal name them. */
export const platformCalls = [
  "whoami",
  "register_endpoint",
  "heartbeat",
  "state",
  "display_metadata",
  "unregister",
  "owned_view",
  "owned_list",
  "undispatched_changed",
  "presence_changed",
  "control_events",
  "control_ack"
] as const
export type PlatformCallName = (typeof platformCalls)[number]

/** What can go wrong with something on its way out, in a stream or as an answer. */
const answers = ["cut", "delay", "lose", "hold", "malformed"] as const
const flow = [...answers, "duplicate", "reorder"] as const

const gatewayPoints = {
  /** The WebSocket handshake. */
  connect: ["refuse", "cut", "delay", "lose"],
  /** The answer to REGISTER. */
  register: ["refuse", ...answers],
  /** The answer to SEND_MESSAGE. */
  send: ["refuse", ...flow],
  /** MESSAGE_RECEIVED and DELIVERY_SKIP on their way to a runtime. */
  deliver: flow,
  /** DELIVERY_ACK and REQUEST_GAP_FILL as they arrive. */
  delivery_ack: ["cut", "lose"],
  gap_fill: ["cut", "lose"],
  /** The connections open now: half-open until cleared. */
  connection: ["stall"],
  /** Control events on their way to a subscriber. */
  event: flow
} as const satisfies Record<string, ReadonlyArray<string>>

const platformFaults = ["refuse", ...answers] as const

export type FaultAction = (typeof flow)[number] | "refuse" | "stall"
export type FaultPoint = keyof typeof gatewayPoints | PlatformCallName | "platform"

/** What may be done where. `platform` stands for every call. */
export const faultTable: { readonly [at in FaultPoint]: ReadonlyArray<FaultAction> } = {
  ...gatewayPoints,
  platform: platformFaults,
  ...(Object.fromEntries(platformCalls.map((call) => [call, platformFaults])) as {
    [call in PlatformCallName]: typeof platformFaults
  })
}

const points = Object.keys(faultTable) as [FaultPoint, ...Array<FaultPoint>]

/**
 * A fault. `refuse` answers no, and nothing is done; `cut` ends the connection; `lose` and `hold` leave without answer, for ever or
 * until cleared, what was done all the same; `malformed` puts nonsense in front; `reorder` swaps pairs; `stall` makes a
 * connection half-open. A `cut` platform call is not done, a `cut` send is.
 */
export const Fault = Schema.Struct({
  at: Schema.Literal(...points),
  does: Schema.Literal("refuse", "stall", ...flow),
  /** Only this account; absent means every one. */
  account: optional(Schema.String),
  times: optional(Schema.Int.pipe(Schema.positive())),
  /** HTTP status of a refusal; 503 unless said otherwise. */
  status: optional(Schema.Int.pipe(Schema.between(200, 599))),
  /** The error code of a refusal. */
  code: optional(Schema.String),
  /** Its reason: at `register`, "Already connected" unless said otherwise. */
  reason: optional(Schema.String),
  /** `Retry-After` of a refusal, as it is sent. */
  retry_after: optional(Schema.String),
  /** How long `delay` takes; a second unless said otherwise. */
  ms: optional(Schema.Number.pipe(Schema.between(0, 3_600_000))),
  /** The nonsense of `malformed`. */
  text: optional(Schema.String)
}).pipe(
  Schema.filter(({ at, does }) =>
    faultTable[at].includes(does)
      ? undefined
      : `at "${at}" there is no "${does}"; there is ${faultTable[at].join(", ")}`
  )
)
export interface Fault extends Schema.Schema.Type<typeof Fault> {}

export interface ActiveFault extends Fault {
  readonly id: number
  /** How often it struck. */
  readonly struck: number
}

export const defaultDelayMs = 1_000
export const defaultNonsense = '{"event":"MESSAGE_RECEIVED","from":'

/** The faults there are now. The earliest that fits strikes. */
export class FaultBoard {
  private readonly faults = new Map<number, ActiveFault>()
  private readonly listeners = new Set<() => void>()
  private last = 0

  add(fault: Fault): ActiveFault {
    const active = { ...fault, id: ++this.last, struck: 0 }
    this.faults.set(active.id, active)
    return active
  }

  list(): ReadonlyArray<ActiveFault> {
    return [...this.faults.values()]
  }

  has(id: number): boolean {
    return this.faults.has(id)
  }

  /** The fault that strikes now at one of the points, if any; that counts. */
  take(at: ReadonlyArray<FaultPoint>, account: string | undefined): ActiveFault | undefined {
    for (const fault of this.faults.values()) {
      if (!at.includes(fault.at) || fault.struck >= (fault.times ?? Number.POSITIVE_INFINITY)) continue
      if (fault.account !== undefined && fault.account !== account) continue
      const struck = { ...fault, struck: fault.struck + 1 }
      this.faults.set(fault.id, struck)
      return struck
    }
    return undefined
  }

  /** Ends one fault, or all. What they held back goes on. Answers how many there were. */
  clear(id?: number): number {
    const before = this.faults.size
    if (id === undefined) this.faults.clear()
    else this.faults.delete(id)
    for (const listener of [...this.listeners]) listener()
    return before - this.faults.size
  }

  /** Called after faults were cleared, until the returned function is. */
  onCleared(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }
}
