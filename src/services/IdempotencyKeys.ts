/**
 * What became of sends that named an `idempotency_key`, per endpoint: the latest 10,000, for 24 hours (settings), also over a
 * restart of the broker; old ones are swept away. The sender decides by it whether a repeated request is sent again.
 */
import { Context } from "effect"
import type { EndpointKey } from "./model/Ids.js"
import type { Transaction } from "./Store.js"

export interface RememberedSend {
  /** Of what was sent: another digest under the same key is another message. */
  readonly digest: string
  readonly messageId: string
  readonly correlationId: string
  /** What the plugin was answered; absent while the outcome is not known. */
  readonly answer?: { readonly status: "delivered" | "stored" | "queued"; readonly replyResolved?: boolean }
}

export class IdempotencyKeys extends Context.Tag("broker/IdempotencyKeys")<
  IdempotencyKeys,
  {
    readonly unsafeGet: (endpoint: EndpointKey, key: string) => RememberedSend | undefined
    readonly unsafePut: (transaction: Transaction, endpoint: EndpointKey, key: string, send: RememberedSend) => void
    /** It was surely not sent: the key is as good as new. */
    readonly unsafeRemove: (transaction: Transaction, endpoint: EndpointKey, key: string) => void
    /** The endpoint is gone. */
    readonly unsafeForget: (transaction: Transaction, endpoint: EndpointKey) => void
    /** After a start: all endpoints but these are gone. */
    readonly unsafeForgetOthers: (transaction: Transaction, isThere: (endpoint: EndpointKey) => boolean) => void
  }
>() {}
