/** What the broker writes into its log: named events with fields. State changes and lost work, not traffic. */
import { Context } from "effect"

export type LogLevel = "debug" | "info" | "warn" | "error"

/** Fields never hold tokens or message content. */
export type LogFields = { readonly [field: string]: string | number | boolean | null | undefined | object }

export class EventLog extends Context.Tag("broker/EventLog")<
  EventLog,
  {
    /**
     * Returns at once; the line is written later, in order. Lines that cannot be written, and those beyond what may wait for a
     * slow disk, are dropped and counted.
     */
    readonly unsafeLog: (level: LogLevel, event: string, fields?: LogFields) => void
    /** Lines lost so far. */
    readonly unsafeDropped: () => number
  }
>() {}
