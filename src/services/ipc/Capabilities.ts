/** What this broker can do beyond the first protocol, as it announces it. */
export const capabilities = {
  endpoint_metadata_v1: true,
  undispatched_inbox_v1: true,
  structured_workspace_v1: true,
  push_receipt_ack_v1: true,
  push_nack_v1: true,
  endpoint_owner_token_v1: true,
  endpoint_resume_v1: true,
  send_idempotency_v1: true,
  stream_send_v1: true,
  drain_notice_v1: true,
  remote_spawn_v1: true
} as const

/** Capabilities a plugin announces for its channel in `x-masons-ipc-capabilities`. */
export const channelCapabilities = {
  /** It acknowledges pushes. */
  receipts: "push_receipt_ack_v1",
  /** It may refuse pushes. */
  nacks: "push_nack_v1",
  /** Its endpoints demand their owner token. */
  ownerToken: "endpoint_owner_token_v1",
  /** Its endpoints wait for it also when its process dies. */
  resume: "endpoint_resume_v1",
  /** It wants to be told that the broker begins to leave. */
  drainNotice: "drain_notice_v1"
} as const

/** The protocol of the IPC surface, `major.minor`. */
export const protocolVersion = "1.1"

/** How the broker names its version on the wire. Not a plain version: launchers of other brokers leave it alone. */
export const serverVersion = (version: string): string => `runtime-broker/${version}`
