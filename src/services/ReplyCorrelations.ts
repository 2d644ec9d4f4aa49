/**
 * Which correlation ids an endpoint received, and may therefore answer under.
 *
 * Several endpoints may have received the same one; each may answer. An endpoint keeps its latest ids, up to the settings
 * `correlations` and `correlationMs`; old ones are swept away.
 */
import { Context } from "effect"
import type { EndpointKey } from "./model/Ids.js"
import type { Transaction } from "./Store.js"

export type Resolution = "resolved" | "unknown_correlation_id" | "wrong_endpoint" | "ttl_expired"

export class ReplyCorrelations extends Context.Tag("broker/ReplyCorrelations")<
  ReplyCorrelations,
  {
    /** The endpoint received a message with this id. The time counts from the latest. */
    readonly unsafeRecord: (transaction: Transaction, endpoint: EndpointKey, correlationId: string) => void
    /** May the endpoint answer under this id? `wrong_endpoint`: only others received it. */
    readonly unsafeResolve: (endpoint: EndpointKey, correlationId: string) => Resolution
    /** The endpoint is gone. */
    readonly unsafeForget: (transaction: Transaction, endpoint: EndpointKey) => void
    /** After a start: all endpoints but these are gone. */
    readonly unsafeForgetOthers: (transaction: Transaction, isThere: (endpoint: EndpointKey) => boolean) => void
  }
>() {}
