/** What an operator may ask a running broker. The CLI asks one only through this. */

import type { Effect, Stream } from "effect"
import { Context, Data } from "effect"
import type { DeadEntry, DeadRetried, DeadSummary } from "./ipc/DeadLetterGroup.js"
import type { Status } from "./ipc/OperatorGroup.js"
import type { Audit, Inspection, Verification } from "./ipc/StoreGroup.js"

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
    /** The same; with `restart` it makes place for the next broker, and the platform keeps the endpoints. */
    readonly drain: (restart: boolean) => Effect.Effect<{ readonly pid: number }, ClientError>
    readonly store: StoreClient
    readonly deadLetters: DeadLetterClient
  }
>() {}

/** The store and the books of the running broker. */
export interface StoreClient {
  readonly inspect: Effect.Effect<Inspection, ClientError>
  readonly verify: Effect.Effect<Verification, ClientError>
  /** JSON lines, in parts of any length. Fails when the export breaks off. */
  readonly exported: Stream.Stream<Uint8Array, ClientError>
  readonly audit: Effect.Effect<Audit, ClientError>
}

/** What the running broker gave up on: messages and platform reports. */
export interface DeadLetterClient {
  readonly list: Effect.Effect<ReadonlyArray<DeadSummary>, ClientError>
  readonly show: (id: string) => Effect.Effect<DeadEntry, ClientError>
  readonly retry: (id: string) => Effect.Effect<DeadRetried, ClientError>
  readonly purge: (id: string) => Effect.Effect<void, ClientError>
  /** How many there were. */
  readonly purgeAll: Effect.Effect<number, ClientError>
}
