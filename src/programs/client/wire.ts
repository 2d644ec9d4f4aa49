/** What travels between client and broker, taken from the broker's own schemas. Types only: nothing of them is loaded. */
import type { RegisterRequest, RegisterResponse } from "../../services/ipc/EndpointGroup.js"
import type { Initialized as InitializedSchema } from "../../services/ipc/HealthGroup.js"
import type {
  SendQueued,
  SendRequest,
  SendResponse,
  UndispatchedList as UndispatchedListSchema,
  UndispatchedMessage as UndispatchedMessageSchema
} from "../../services/ipc/MessageGroup.js"
import type { MessageReceived, PresenceChanged } from "../../services/ipc/StreamFrame.js"

/** What a session says of itself. `plugin_pid` is this process's unless given. */
export type RegisterArguments = Omit<typeof RegisterRequest.Encoded, "plugin_pid"> & { readonly plugin_pid?: number }
export type Registered = typeof RegisterResponse.Encoded
export type Initialized = typeof InitializedSchema.Encoded
export type SendBody = typeof SendRequest.Encoded
export type SendResult = typeof SendResponse.Encoded | typeof SendQueued.Encoded
export type UndispatchedList = typeof UndispatchedListSchema.Encoded
export type UndispatchedMessage = typeof UndispatchedMessageSchema.Encoded
export type Metadata = Readonly<Record<string, unknown>>
export type NetworkPresence = PresenceChanged["presence"]

/** A message as the application gets it. `redelivered`: an earlier life of this process may have had it. */
export type ReceivedMessage = Omit<MessageReceived, "event" | "push_id">

/** Where a broker is, and the token it takes. */
export interface KnownBroker {
  readonly ipcUrl: string
  readonly bearerToken: string
}

export const protocolVersion = "1.1"

/** What this client announces for its stream. */
export const announced: ReadonlyArray<string> = [
  "endpoint_resume_v1",
  "endpoint_owner_token_v1",
  "push_receipt_ack_v1",
  "push_nack_v1",
  "endpoint_metadata_v1",
  "drain_notice_v1",
  "stream_send_v1"
]

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
