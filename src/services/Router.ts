/**
 * Takes what the connector delivers, batch by batch, and hands each message to an endpoint's mailbox or to the inbox, as
 * `model/RoutePlan` says. Messages to one destination keep their order. What a full destination cannot take is held back at
 * the network and asked for again; other destinations go on.
 */
import { Context } from "effect"

export interface HeldBack {
  /** `inbox`, or the endpoint. */
  readonly destination: string
  /** Epoch milliseconds. */
  readonly since: number
  /** How many messages are known to wait. */
  readonly waiting: number
}

export interface RouterStatus {
  readonly heldBack: ReadonlyArray<HeldBack>
  /** So much was taken behind a held-back message that nothing more is. */
  readonly isStalled: boolean
  /** Messages with an `expires_at` that cannot be read. */
  readonly invalidExpiries: number
}

export class Router extends Context.Tag("broker/Router")<
  Router,
  {
    readonly unsafeStatus: () => RouterStatus
  }
>() {}
