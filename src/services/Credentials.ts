/** Who this broker is on its network. */

import type { Redacted } from "effect"
import { Context, Data } from "effect"

export interface Identity {
  readonly accountId: string
  /** Bearer for the gateway and the platform; with the account it names the discovery directory. */
  readonly runtimeToken: Redacted.Redacted
  /** The gateway's WebSocket; empty on networks without one. */
  readonly connectorUrl: string
  /** The platform's origin, without a trailing slash; empty on networks without one. */
  readonly apiOrigin: string
}

/** No usable credentials. The message says what is wrong, where, and what to do, and contains the word "credentials". */
export class CredentialsError extends Data.TaggedError("CredentialsError")<{ readonly message: string }> {}

export class Credentials extends Context.Tag("broker/Credentials")<Credentials, Identity>() {}
