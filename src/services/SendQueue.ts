/**
 * Messages that plugins sent with `store` while the network could not be reached: kept, also over a restart, and sent in order
 * as soon as it can. One waits 24 hours at most (setting), then it is given up, with a line in the log and a count in status;
 * so is one that the network refuses, or whose outcome stays unknown where sends are not deduplicated. They lie in the store,
 * not in memory; 10,000 and 256 MiB at most (settings).
 */
import { Context } from "effect"
import type { OutboundMessage } from "./Connector.js"
import type { EndpointKey } from "./model/Ids.js"
import type { Transaction } from "./Store.js"

export interface SendQueueStatus {
  readonly waiting: number
  /** Since the broker started. */
  readonly givenUp: number
}

export class SendQueue extends Context.Tag("broker/SendQueue")<
  SendQueue,
  {
    /** False when it is full, or would be: then nothing was added. */
    readonly unsafeAdd: (transaction: Transaction, endpoint: EndpointKey, message: OutboundMessage) => boolean
    /** True when something of the endpoint waits: what it sends with `store` now belongs behind it. */
    readonly unsafeHas: (endpoint: EndpointKey) => boolean
    readonly unsafeStatus: () => SendQueueStatus
  }
>() {}
