/** What an operator may ask a running broker. The CLI knows the broker only through this. */

import type { Effect } from "effect"
import { Context, Data } from "effect"
import type { Status } from "./ipc/OperatorGroup.js"

/** No broker answers. The message says where it was looked for. */
export class NoBroker extends Data.TaggedError("NoBroker")<{ readonly message: string }> {}

/** A broker is there, and the request did not work. The message says why. */
export class BrokerRefused extends Data.TaggedError("BrokerRefused")<{ readonly message: string }> {}

export type ClientError = NoBroker | BrokerRefused

export class BrokerClient extends Context.Tag("broker/BrokerClient")<
  BrokerClient,
  {
    readonly status: Effect.Effect<Status, ClientError>
    /** Done when the broker's process has ended. */
    readonly stop: Effect.Effect<{ readonly pid: number }, ClientError>
  }
>() {}
