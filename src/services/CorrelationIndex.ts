/**
 * Which endpoints sent a correlation id: how replies find their way back.
 *
 * Looking up takes the same time however many endpoints there are. An endpoint keeps its latest ids, up to the settings
 * `correlations` and `correlationMs`; old ones are swept away.
 */
import { Context } from "effect"
import type { EndpointKey } from "./model/Ids.js"
import type { Transaction } from "./Store.js"

export class CorrelationIndex extends Context.Tag("broker/CorrelationIndex")<
  CorrelationIndex,
  {
    readonly unsafeAdd: (transaction: Transaction, endpoint: EndpointKey, correlationId: string) => void
    /** The message it belonged to was surely not sent. */
    readonly unsafeRemove: (transaction: Transaction, endpoint: EndpointKey, correlationId: string) => void
    /** The endpoints that sent it, the first to send it first. */
    readonly unsafeSenders: (correlationId: string) => ReadonlyArray<EndpointKey>
    /** The endpoint is gone. */
    readonly unsafeForget: (transaction: Transaction, endpoint: EndpointKey) => void
    /** After a start: all endpoints but these are gone. */
    readonly unsafeForgetOthers: (transaction: Transaction, isThere: (endpoint: EndpointKey) => boolean) => void
  }
>() {}
