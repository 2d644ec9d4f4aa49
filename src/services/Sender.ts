/** Outbound messages: the rules on their metadata, their correlation id, and what the network said. */

import type { Effect } from "effect"
import { Context } from "effect"
import type { SendReceipt } from "./Connector.js"
import type { Endpoint } from "./Directory.js"
import type {
  CorrelationIdForbidden,
  EndpointNotActive,
  IdempotencyConflict,
  SendRefused,
  SendUnavailable,
  SendUnknown,
  SourceEndpointIdMismatch,
  StoreUnavailable,
  TargetEndpointIdForbidden
} from "./model/Errors.js"
import type { Metadata } from "./model/Metadata.js"

export interface SendRequest {
  readonly to: string
  readonly content: string
  readonly contentType: string
  readonly metadata: Metadata
  readonly requireLive: boolean
  /** The same key again is the same message: it is sent at most once and answered alike. */
  readonly idempotencyKey: string | undefined
  /** Where the network cannot be reached the message waits for it, instead of being refused. */
  readonly store: boolean
}

export interface Sent {
  readonly messageId: string
  /** `queued`: it waits here for the network. */
  readonly status: SendReceipt["status"] | "queued"
  /** With an `in_reply_to`: whether the message went out under that correlation id. */
  readonly replyResolved: boolean | undefined
}

export type SendRefusal =
  | EndpointNotActive
  | CorrelationIdForbidden
  | TargetEndpointIdForbidden
  | SourceEndpointIdMismatch
  | IdempotencyConflict
  | SendUnavailable
  | SendUnknown
  | SendRefused
  | StoreUnavailable

export class Sender extends Context.Tag("broker/Sender")<
  Sender,
  {
    /**
     * Done when the network has taken the message, or with `store` when it durably waits for it, and its correlation id is
     * durable. `connector_unavailable` where the network is away and the message may not wait, or too many do.
     */
    readonly send: (endpoint: Endpoint, request: SendRequest) => Effect.Effect<Sent, SendRefusal>
  }
>() {}
