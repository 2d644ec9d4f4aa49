/** Outbound messages: the rules on their metadata, their correlation id, and what the network said. */

import type { Effect } from "effect"
import { Context } from "effect"
import type { SendReceipt } from "./Connector.js"
import type { Endpoint } from "./Directory.js"
import type {
  CorrelationIdForbidden,
  EndpointNotActive,
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
}

export interface Sent extends SendReceipt {
  /** With an `in_reply_to`: whether the message went out under that correlation id. */
  readonly replyResolved: boolean | undefined
}

export type SendRefusal =
  | EndpointNotActive
  | CorrelationIdForbidden
  | TargetEndpointIdForbidden
  | SourceEndpointIdMismatch
  | SendUnavailable
  | SendUnknown
  | SendRefused
  | StoreUnavailable

export class Sender extends Context.Tag("broker/Sender")<
  Sender,
  {
    /** Done when the network has taken the message and its correlation id is durable. */
    readonly send: (endpoint: Endpoint, request: SendRequest) => Effect.Effect<Sent, SendRefusal>
  }
>() {}
