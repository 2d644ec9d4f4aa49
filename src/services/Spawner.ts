/**
 * Starts sessions for the owner and finds them again when they register.
 *
 * A session is started at most once per token: that it is being started is durable before it is. From then on the spawn is
 * pending, also in the next life of the broker, until a session registers with its token, its command fails, or the time for it
 * is over; the outcome is then remembered and acknowledged.
 */

import type { Effect } from "effect"
import { Context, Data } from "effect"
import type { SpawnRequest } from "./model/SpawnPlan.js"
import type { Transaction } from "./Store.js"

export interface SpawnOrder extends SpawnRequest {
  readonly kind: string
  /** An undispatched message the new session is to get, see `unsafeOnRegistered`. */
  readonly undispatchedId?: string
}

/** Nothing was started, and nothing is remembered. The detail is the platform's word for why. */
export class SpawnRefused extends Data.TaggedError("SpawnRefused")<{ readonly detail: string }> {
  override get message() {
    return `No session was started (${this.detail}).`
  }
}

export class Spawner extends Context.Tag("broker/Spawner")<
  Spawner,
  {
    /** Done when the session is started, and that is remembered under its token and its acknowledgement owed. */
    readonly spawn: (order: SpawnOrder) => Effect.Effect<void, SpawnRefused>
    /** Whether sessions of this kind could be started. The answer may be a minute old; it comes in bounded time. */
    readonly isAvailable: (kind: string) => Effect.Effect<boolean>
    /**
     * A session registered with this token; part of the registration's transaction. `false`: no spawn with that token is pending.
     */
    readonly unsafeRegistered: (transaction: Transaction, token: string, endpointId: string) => boolean
    /**
     * Calls `listener` once the registration of a spawned session is durable, with the message its order named. Until the broker
     * ends.
     */
    readonly unsafeOnRegistered: (listener: (endpointId: string, undispatchedId: string | undefined) => void) => void
  }
>() {}
