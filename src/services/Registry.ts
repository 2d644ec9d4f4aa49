/**
 * What happens to endpoints: their states and their grace periods.
 *
 * Every transition is decided by `model/EndpointLifecycle`; the registry writes it into the `Directory` and the store and
 * performs its effects. A transition and its effects happen in one turn; what the outside sees of it follows the commit.
 */

import type { Effect } from "effect"
import { Context } from "effect"
import type { Channel } from "./Channels.js"
import type { Endpoint } from "./Directory.js"
import type { ProcessStart } from "./Liveness.js"
import type { EndpointEvent, Transition } from "./model/EndpointLifecycle.js"
import type { StoreUnavailable } from "./model/Errors.js"
import type { EndpointId } from "./model/Ids.js"
import type { Session } from "./model/Session.js"
import type { Transaction } from "./Store.js"

export interface NewEndpoint {
  readonly id: EndpointId
  readonly nonce: string
  readonly ownerToken: string
  readonly pluginPid: number
  /** Of the plugin's process; `undefined` when the broker cannot see it, and then it is never found dead. */
  readonly processStart: ProcessStart | undefined
  readonly session: Session
  /** What the channel that registered it announced. */
  readonly capabilities: ReadonlySet<string>
  /** The rhythm the platform wants, milliseconds. */
  readonly heartbeatAfterMs: number | undefined
}

export class Registry extends Context.Tag("broker/Registry")<
  Registry,
  {
    /** Adds an endpoint: active on the channel, or waiting for its plugin when that is gone. */
    readonly unsafeAdd: (transaction: Transaction, endpoint: NewEndpoint, channel: Channel | undefined) => Endpoint
    /** Another process took the endpoint over. */
    readonly unsafeHandOver: (
      transaction: Transaction,
      endpoint: Endpoint,
      pluginPid: number,
      processStart: ProcessStart | undefined
    ) => void
    /**
     * The platform lost the endpoint's record and made it again: its id from now on, the old one stays an alias. Its state is
     * reported anew.
     */
    readonly unsafeRegisteredAgain: (
      transaction: Transaction,
      endpoint: Endpoint,
      given: { readonly id: EndpointId; readonly heartbeatAfterMs: number | undefined }
    ) => void
    readonly unsafeSetTaskHint: (transaction: Transaction, endpoint: Endpoint, taskHint: string) => void
    /** Something happened to the endpoint: decides and performs. */
    readonly unsafeApply: (transaction: Transaction, endpoint: Endpoint, event: EndpointEvent) => Transition
    /** A newer channel of the same plugin: it carries the endpoints on. Each is committed for itself. */
    readonly unsafeChannelReplaced: (from: Channel, to: Channel) => void
    /** A channel ended. Each of its endpoints is committed for itself. */
    readonly unsafeChannelClosed: (channel: Channel) => void
    /** Ends the endpoint as its plugin or owner wishes. Unknown ids are fine. Done when durable. */
    readonly unregister: (id: string) => Effect.Effect<void, StoreUnavailable>
  }
>() {}
