/** The tokens of this broker process, minted at its start: who shows one is admitted in its role. */
import { Context, type Redacted } from "effect"

export class IpcTokens extends Context.Tag("broker/IpcTokens")<
  IpcTokens,
  {
    /** Of the discovery file. Opens the routes of plugins. */
    readonly plugin: Redacted.Redacted
    /** Of the operator file. Opens every route. */
    readonly operator: Redacted.Redacted
  }
>() {}
