/**
 * A cloud for development and tests, on this machine: gateway and platform for several accounts, and faults to order.
 *
 * Its mail, endpoints and control events are in memory. Everything it does can be told over HTTP too, see
 * `layers/devCloud/commands.ts`.
 */

import type { Effect } from "effect"
import { Context, Data } from "effect"
import type { Modes } from "./devCloud/Account.js"
import type {
  ControlCommand,
  CutCommand,
  FrameCommand,
  InjectMessage,
  ModesCommand,
  RawControlCommand,
  SkipCommand
} from "./devCloud/Commands.js"
import type { ActiveFault, Fault } from "./devCloud/Faults.js"
import type { Happening, HappeningFilter } from "./devCloud/Journal.js"

/** An account, with all a broker needs to run for it. */
export interface DevAccount {
  readonly name: string
  /** `mstp://dev/<name>`; `mstp://dev/<name>/<endpoint id>` is one endpoint of it. */
  readonly address: string
  /** Always the same for a name, so that a broker finds its state again after the cloud was restarted. */
  readonly token: string
  /** Who it is at the platform. */
  readonly subjectId: string
  readonly connectorUrl: string
  readonly apiHost: string
}

export interface ConnectionView {
  readonly connection: number
  readonly opened_at: number
  readonly registered: boolean
  readonly stalled: boolean
  readonly runtime_session_id: string | null
}

/** What the cloud knows of an account now. */
export interface AccountView {
  readonly account: string
  readonly address: string
  readonly subject_id: string
  readonly modes: Modes
  readonly connections: ReadonlyArray<ConnectionView>
  readonly control_subscribers: number
  /** How many frames of each kind came in and went out. */
  readonly frames: {
    readonly in: { readonly [event: string]: number }
    readonly out: { readonly [event: string]: number }
  }
  readonly mail: { readonly last_seq: number; readonly acknowledged_seq: number; readonly waiting: number }
  readonly presence: string | null
  /** Undispatched messages of its broker, by what that reported. */
  readonly undispatched: ReadonlyArray<{ readonly undispatched_id: string }>
  readonly endpoints: ReadonlyArray<{
    readonly endpoint_id: string
    readonly display_label: string
    readonly state: string
    readonly reason: string
    readonly lease_until: number
    readonly retired: boolean
  }>
}

/** The cloud cannot do that. The message says why. */
export class DevCloudError extends Data.TaggedError("DevCloudError")<{ readonly message: string }> {}

export class DevCloud extends Context.Tag("broker/DevCloud")<
  DevCloud,
  {
    /** The origin of everything it serves, on 127.0.0.1. */
    readonly url: string
    readonly accounts: ReadonlyArray<DevAccount>
    readonly view: (account: string) => Effect.Effect<AccountView, DevCloudError>

    /** What happened, in order: calls to the platform, frames, connections, control events. At least the latest 20,000. */
    readonly happened: (filter?: HappeningFilter) => Effect.Effect<ReadonlyArray<Happening>>
    /** The first happening that is so, of the past or to come. Asked again when a call gets its answer. Waits as long as it takes. */
    readonly awaitHappening: (isIt: (happening: Happening) => boolean) => Effect.Effect<Happening>

    /** A message from an outside peer. It waits at the gateway until its runtime has acknowledged it. */
    readonly inject: (
      message: InjectMessage
    ) => Effect.Effect<{ readonly message_id: string; readonly seq: number }, DevCloudError>
    /** The owner dismisses a message that waits: DELIVERY_SKIP in its place. */
    readonly skip: (command: SkipCommand) => Effect.Effect<void, DevCloudError>
    /** Sends DELIVERY_CURSOR to the account's runtime. */
    readonly announce: (account: string) => Effect.Effect<void, DevCloudError>
    /** Sends any frame, or any text, to the account's runtime. */
    readonly frame: (command: FrameCommand) => Effect.Effect<void, DevCloudError>
    /** Changes how the gateway treats an account. */
    readonly configure: (command: ModesCommand) => Effect.Effect<Modes, DevCloudError>

    /** Sends a control event to those subscribed; kept for those who subscribe later. */
    readonly control: (
      command: ControlCommand
    ) => Effect.Effect<{ readonly id: string; readonly idempotency_key: string }, DevCloudError>
    /** Writes bytes on the stream of control events. */
    readonly rawControl: (command: RawControlCommand) => Effect.Effect<void, DevCloudError>

    /** The owner closes an endpoint: its record says so from now on. */
    readonly retire: (endpointId: string) => Effect.Effect<void, DevCloudError>
    /** The endpoint's record is lost: heartbeats answer 404, and its nonce makes a new endpoint. */
    readonly forget: (endpointId: string) => Effect.Effect<void, DevCloudError>

    /** Ends connections and subscriptions that are open now. Answers how many there were. */
    readonly cut: (command?: CutCommand) => Effect.Effect<number, DevCloudError>
    /** Another runtime takes over: close code 4001, "Replaced by new Runtime". Answers how many there were. */
    readonly replace: (account: string) => Effect.Effect<number, DevCloudError>

    /** From now on this goes wrong, until it is cleared or has struck `times`. */
    readonly fault: (fault: Fault) => Effect.Effect<ActiveFault, DevCloudError>
    readonly faults: Effect.Effect<ReadonlyArray<ActiveFault>>
    /** Ends a fault, or all; what was held back goes on. Answers how many there were. */
    readonly clear: (id?: number) => Effect.Effect<number>
  }
>() {}
