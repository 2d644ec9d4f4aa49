/** Publishes this broker so that plugins and operators find it. */

import type { Effect, Redacted } from "effect"
import { Context, Data } from "effect"

export interface Published {
  readonly url: string
  /** For plugins: in the discovery file. */
  readonly bearerToken: Redacted.Redacted
  /** For operators: in a file beside it. */
  readonly operatorToken: Redacted.Redacted
}

/** The files could not be written. The message says which and why. */
export class DiscoveryError extends Data.TaggedError("DiscoveryError")<{ readonly message: string }> {}

export class Discovery extends Context.Tag("broker/Discovery")<
  Discovery,
  {
    /**
     * Writes both files; they appear whole or not at all, readable by this user only. Ends once begun, so that they can be
     * withdrawn. Should one of them be removed or torn afterwards, both are written again within seconds (setting
     * `discoveryCheckMs`); one that tells of another broker is left as it is.
     */
    readonly publish: (published: Published) => Effect.Effect<void, DiscoveryError>
    /** Removes them, if they are still this broker's. */
    readonly withdraw: Effect.Effect<void>
  }
>() {}
