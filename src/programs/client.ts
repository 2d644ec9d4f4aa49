/**
 * The client SDK: what a plugin needs to have sessions at a broker. Plain promises; loads nothing of the broker and, once
 * connecting, no package but `ws`.
 */
import { BrokerClient } from "./client/BrokerClient.js"
import type { DiscoverOptions } from "./client/launchOptions.js"

export {
  BrokerClient,
  type CallOptions,
  type ClientEvents,
  type ConnectOptions,
  type ListUndispatchedOptions
} from "./client/BrokerClient.js"
export type { ConnectionState, Phase } from "./client/connection.js"
export type { MessageHandler } from "./client/deliveries.js"
export {
  BrokerClientError,
  BrokerRefusedError,
  BrokerTimeoutError,
  BrokerUnreachableError,
  ClientClosedError,
  ClientStateError,
  ConnectorSendOutcomeUnknownError,
  ConnectorUnavailableError
} from "./client/errors.js"
export { BrokerLaunchError } from "./client/launchErrors.js"
export type { DiscoverOptions, FoundBroker } from "./client/launchOptions.js"
export type { Delivery } from "./client/messageLoop.js"
export type { SendOptions } from "./client/sends.js"
export type {
  Initialized,
  KnownBroker,
  Metadata,
  NetworkPresence,
  ReceivedMessage,
  RegisterArguments,
  Registered,
  SendResult,
  UndispatchedList,
  UndispatchedMessage
} from "./client/wire.js"

/** `BrokerClient.discover`. */
export const discover = (options: DiscoverOptions): Promise<BrokerClient> => BrokerClient.discover(options)
