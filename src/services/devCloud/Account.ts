/** All the development cloud knows of one account. */
import type { UndispatchedChanged } from "../model/PlatformReport.js"
import type { ControlLog } from "./ControlLog.js"
import type { Endpoints } from "./Endpoints.js"
import type { Mailbox } from "./Mailbox.js"

/** How the gateway treats an account, faults aside. */
export interface Modes {
  /** `pending`: the older form, deliveries without numbers and DELIVERY_PENDING. */
  readonly form: "numbered" | "pending"
  /** What waits when a runtime registers: `push` sends it, `announce` sends DELIVERY_CURSOR and leaves asking to the runtime. */
  readonly backlog: "push" | "announce"
  /** A second runtime: `replace` ends the first, `refuse` answers "Already connected" while the first is open. */
  readonly second: "replace" | "refuse"
}

export const defaultModes: Modes = { form: "numbered", backlog: "push", second: "replace" }

/** Answers already given to sends, by message id. */
const rememberedSends = 10_000

export class Account {
  modes = defaultModes
  presence: string | undefined
  readonly undispatched = new Map<string, UndispatchedChanged>()
  readonly frames = { in: new Map<string, number>(), out: new Map<string, number>() }
  private readonly sends = new Map<string, "delivered" | "stored">()
  readonly name: string
  readonly token: string
  readonly mailbox: Mailbox
  readonly endpoints: Endpoints
  readonly control: ControlLog

  constructor(name: string, token: string, mailbox: Mailbox, endpoints: Endpoints, control: ControlLog) {
    this.name = name
    this.token = token
    this.mailbox = mailbox
    this.endpoints = endpoints
    this.control = control
  }

  get address(): string {
    return addressOf(this.name)
  }

  get subjectId(): string {
    return `node_${this.name}`
  }

  /** What the message was answered with, if it came before. */
  sentBefore(messageId: string): "delivered" | "stored" | undefined {
    return this.sends.get(messageId)
  }

  rememberSent(messageId: string, status: "delivered" | "stored"): void {
    this.sends.set(messageId, status)
    if (this.sends.size > rememberedSends) this.sends.delete(this.sends.keys().next().value!)
  }

  counted(direction: "in" | "out", event: string): void {
    const frames = this.frames[direction]
    frames.set(event, (frames.get(event) ?? 0) + 1)
  }

  /** What a broker reported of its inbox. */
  changed(event: UndispatchedChanged): void {
    if (event.action === "add") this.undispatched.set(event.undispatched_id, event)
    else this.undispatched.delete(event.undispatched_id)
  }
}

export const addressOf = (name: string): string => `mstp://dev/${encodeURIComponent(name)}`

/** `mstp://dev/<account>` is an account, `mstp://dev/<account>/<endpoint id>` one endpoint of it; parts percent-encoded. */
export const parseAddress = (
  address: string
): { readonly account: string; readonly endpointId: string | undefined } | undefined => {
  const match = /^mstp:\/\/dev\/([^/]+)(?:\/([^/]+))?$/.exec(address)
  if (match === null) return undefined
  try {
    return {
      account: decodeURIComponent(match[1]!),
      endpointId: match[2] === undefined ? undefined : decodeURIComponent(match[2])
    }
  } catch {
    return undefined
  }
}
