/** What the limits of the IPC surface are at: how often each turned something away, and how many connections are open. */
import { Context } from "effect"

/** A limit, as status names it. */
export type LimitName =
  | "sockets"
  | "channels"
  | "channel_contention"
  | "endpoints"
  | "slow_requests"
  | "requests"
  | "body_bytes"
  | "request_bytes"
  | "json_depth"
  | "frame_bytes"
  | "inbox_lists"
  | "unread_answers"

export class Limits extends Context.Tag("broker/Limits")<
  Limits,
  {
    /** Something was turned away at the limit. */
    readonly unsafeHit: (limit: LimitName) => void
    /** How often, since the broker started; a limit that was never hit is absent. */
    readonly unsafeHits: () => { readonly [limit: string]: number }
    /** A connection was opened. */
    readonly unsafeConnected: () => void
    /** One ended. */
    readonly unsafeDisconnected: () => void
    readonly unsafeSockets: () => number
  }
>() {}
