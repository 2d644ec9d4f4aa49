/**
 * The endpoints registered here, as everybody sees them. Only the registry writes.
 */
import { Context } from "effect"
import type { EndpointState } from "./model/EndpointLifecycle.js"
import type { EndpointId, EndpointKey } from "./model/Ids.js"
import type { Session } from "./model/Session.js"

export interface Endpoint {
  /** Its current id. Earlier ones stay valid as aliases. */
  readonly id: EndpointId
  readonly aliases: ReadonlyArray<EndpointId>
  readonly key: EndpointKey
  /** The agent it speaks for: its `agent_id`, or the account. */
  readonly agent: string
  readonly pluginPid: number
  readonly session: Session
  readonly state: EndpointState
  /** Epoch milliseconds. */
  readonly stateSince: number
  readonly registeredAt: number
  /** Proves ownership where the channel announced `endpoint_owner_token_v1`, and resumes from another process. */
  readonly ownerToken: string
  readonly demandsToken: boolean
  /** Names the registration towards the platform. */
  readonly nonce: string
  /** How often the platform wants to hear of it, milliseconds; absent where it does not care. */
  readonly heartbeatAfterMs: number | undefined
}

export class Directory extends Context.Tag("broker/Directory")<
  Directory,
  {
    /** The endpoint with this id or alias, active or reconnecting. */
    readonly unsafeGet: (id: string) => Endpoint | undefined
    readonly unsafeByKey: (key: EndpointKey) => Endpoint | undefined
    /** True for ids of the last 10,000 endpoints that ended here. */
    readonly unsafeHasEnded: (id: string) => boolean
    readonly unsafeCount: () => number
    /** In order of registration. */
    readonly unsafeAll: () => Iterable<Endpoint>
    /** True for agents of the endpoints that are here, and the last 10,000 that have none any more. */
    readonly unsafeKnowsAgent: (agent: string) => boolean
    /** Adds the endpoint, or makes known what changed of it. */
    readonly unsafePut: (endpoint: Endpoint) => void
    readonly unsafeRemove: (endpoint: Endpoint) => void
  }
>() {}
