/**
 * The platform keeps an endpoint's record only while it hears of it. The broker sends the heartbeats itself, as often as the
 * platform wants; where a record is gone nevertheless, the endpoint is registered again with its old nonce. A new id that the
 * platform gives it then becomes its id; the old one stays an alias on every route and in routing.
 */
import type { Effect } from "effect"
import { Context } from "effect"
import type { Endpoint } from "./Directory.js"
import type { PlatformError } from "./PlatformApi.js"

export class Leases extends Context.Tag("broker/Leases")<
  Leases,
  {
    /** The endpoint is new here: heartbeats begin, where the platform wants them, until it ends. */
    readonly unsafeWatch: (endpoint: Endpoint) => void
    /**
     * The plugin of an endpoint of the broker's last life is back: the platform may have ended its record meanwhile, which a
     * heartbeat at once finds out and makes good.
     */
    readonly unsafeResume: (endpoint: Endpoint) => void
    /** A heartbeat now. A lost record is registered again before it is done. */
    readonly heartbeat: (endpoint: Endpoint) => Effect.Effect<void, PlatformError>
  }
>() {}
