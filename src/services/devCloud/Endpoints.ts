/** The endpoints of an account as the platform keeps them: nonces, leases, states. Time is passed in, epoch milliseconds. */
import { Schema } from "effect"
import { optional } from "../model/Json.js"
import { Workspace } from "../model/Session.js"

/** The body of a registration. */
export const RegisterBody = Schema.Struct({
  runtime_kind: Schema.NonEmptyString,
  endpoint_nonce: Schema.NonEmptyString,
  display_label: Schema.NonEmptyString,
  workspace: optional(Workspace),
  tracking_ref: optional(Schema.String),
  session_name: optional(Schema.String),
  task_hint: optional(Schema.String),
  runtime_capabilities: optional(Schema.Array(Schema.String)),
  execution_surface: optional(Schema.String),
  runtime_session_id: optional(Schema.String),
  background_exchange_mode: optional(Schema.String)
})
export interface RegisterBody extends Schema.Schema.Type<typeof RegisterBody> {}

export const StateBody = Schema.Struct({
  state: Schema.Literal("active", "reconnecting", "closed"),
  reason: Schema.String,
  ts: Schema.String
})
export interface StateBody extends Schema.Schema.Type<typeof StateBody> {}

export const DisplayMetadataBody = Schema.Struct({
  session_name: optional(Schema.String),
  task_hint: optional(Schema.String)
})

export interface EndpointRecord {
  readonly endpointId: string
  readonly nickname: string
  readonly registeredAt: number
  body: RegisterBody
  state: StateBody["state"]
  reason: string
  leaseUntil: number
  retiredAt: number | undefined
}

export interface LeaseRules {
  readonly heartbeatMs: number
  readonly leaseMs: number
  /** How long an endpoint whose lease ran out comes back under its id. */
  readonly retentionMs: number
}

export class Endpoints {
  private readonly rules: LeaseRules
  private readonly mint: () => string
  private readonly records = new Map<string, EndpointRecord>()
  private count = 0

  constructor(rules: LeaseRules, mint: () => string) {
    this.rules = rules
    this.mint = mint
  }

  /** The same nonce again is the same endpoint, unless that was retired, forgotten, or gone for longer than it is kept. */
  register(body: RegisterBody, now: number): EndpointRecord {
    const leaseUntil = now + this.rules.leaseMs
    for (const record of this.records.values()) {
      if (record.body.endpoint_nonce !== body.endpoint_nonce || record.retiredAt !== undefined) continue
      if (now > record.leaseUntil + this.rules.retentionMs) continue
      return Object.assign(record, { body, leaseUntil, state: "active", reason: "register" })
    }
    const record: EndpointRecord = {
      endpointId: this.mint(),
      nickname: `session ${++this.count}`,
      registeredAt: now,
      body,
      state: "active",
      reason: "register",
      leaseUntil,
      retiredAt: undefined
    }
    this.records.set(record.endpointId, record)
    return record
  }

  /** False when there is no such endpoint, or its lease is over. */
  heartbeat(id: string, now: number): boolean {
    const record = this.records.get(id)
    if (record === undefined || record.retiredAt !== undefined || now >= record.leaseUntil) return false
    record.leaseUntil = now + this.rules.leaseMs
    return true
  }

  /** False when there is no such endpoint, or it is retired and the state is not `closed`. */
  setState(id: string, { reason, state }: StateBody, now: number): boolean {
    const record = this.records.get(id)
    if (record === undefined || (record.retiredAt !== undefined && state !== "closed")) return false
    Object.assign(record, { state, reason })
    if (state === "closed") record.retiredAt ??= now
    return true
  }

  setDisplay(id: string, display: { readonly session_name?: string; readonly task_hint?: string }): boolean {
    const record = this.records.get(id)
    if (record === undefined || record.retiredAt !== undefined) return false
    record.body = { ...record.body, ...display }
    return true
  }

  /** The endpoint is closed; its record stays. */
  retire(id: string, now: number, reason: string): boolean {
    const record = this.records.get(id)
    if (record === undefined) return false
    if (record.retiredAt === undefined) Object.assign(record, { state: "closed", reason, retiredAt: now })
    return true
  }

  /** The record is gone, as after a lost lease. */
  forget(id: string): boolean {
    return this.records.delete(id)
  }

  get(id: string): EndpointRecord | undefined {
    return this.records.get(id)
  }

  list(): ReadonlyArray<EndpointRecord> {
    return [...this.records.values()]
  }

  /** The answer to a registration. */
  registered(record: EndpointRecord, nodeId: string) {
    const { body, endpointId, nickname, registeredAt } = record
    return {
      endpoint_id: endpointId,
      node_id: nodeId,
      display_label: body.display_label,
      heartbeat_after_seconds: this.rules.heartbeatMs / 1000,
      lease_ttl_seconds: this.rules.leaseMs / 1000,
      soft_retention_seconds: this.rules.retentionMs / 1000,
      registered_at: new Date(registeredAt).toISOString(),
      ...present({
        runtime_capabilities: body.runtime_capabilities,
        execution_surface: body.execution_surface,
        background_exchange_mode: body.background_exchange_mode
      }),
      session_naming: { nickname, owner_edited_name: null }
    }
  }

  /** What its owner sees of it. */
  ownedView({ body, endpointId, registeredAt, retiredAt, state }: EndpointRecord, nodeId: string) {
    return {
      endpoint_id: endpointId,
      node_id: nodeId,
      runtime_kind: body.runtime_kind,
      display_label: body.display_label,
      ...present({
        workspace: body.workspace,
        tracking_ref: body.tracking_ref,
        session_name: body.session_name,
        task_hint: body.task_hint,
        runtime_session_id: body.runtime_session_id,
        runtime_capabilities: body.runtime_capabilities
      }),
      state,
      registered_at: new Date(registeredAt).toISOString(),
      ...(retiredAt === undefined ? {} : { retired_at: new Date(retiredAt).toISOString() }),
      is_self: false
    }
  }
}

const present = (values: object) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
