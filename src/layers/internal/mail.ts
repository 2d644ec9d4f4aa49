import type { MessageReceived } from "../../services/ipc/StreamFrame.js"
import type { EndpointKey, PushId } from "../../services/model/Ids.js"
import type { Letter, Place } from "../../services/model/MailboxState.js"
import type { Message } from "../../services/model/Message.js"
import { join, ordered } from "../../services/model/StoreKey.js"
import { table } from "../../services/Store.js"

/** A stored message of a mailbox. */
export interface MailRecord {
  readonly message: Message
  readonly failures: number
  /** It was pushed before it was written: its plugin may know it. */
  readonly pushed: boolean
}

/** All mailboxes; the keys of one lie together, in its order. */
export const mail = table<MailRecord>("mail", 1)

export const keyOf = (endpoint: EndpointKey, place: Place): string => join(ordered(endpoint), ordered(place))

export const placeOf = (key: string): Place => Number.parseInt(key.split("/")[1]!, 36)

export const letterOf = (place: Place, { failures, message, pushed }: MailRecord): Letter => ({
  message,
  place,
  token: undefined,
  isAccepted: true,
  stored: "written",
  redelivered: pushed,
  failures,
  pushedAt: undefined
})

export const frameOf = ({ message, redelivered }: Letter, pushId: PushId | undefined): string => {
  const frame: MessageReceived = {
    event: "message_received",
    ...(pushId === undefined ? {} : { push_id: pushId }),
    from: message.from,
    content: message.content,
    contentType: message.contentType,
    metadata: message.metadata,
    sourceMessageId: message.id,
    ...(redelivered ? { redelivered: true as const } : {})
  }
  return JSON.stringify(frame)
}
