import type { MessageReceived } from "../../services/ipc/StreamFrame.js"
import type { EndpointKey, MessageId, PushId } from "../../services/model/Ids.js"
import type { Letter, Place } from "../../services/model/MailboxState.js"
import type { Message } from "../../services/model/Message.js"
import { join, ordered, under } from "../../services/model/StoreKey.js"
import { type Store, table } from "../../services/Store.js"

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

/** What the store holds of a mailbox. */
export const measure = (store: Store["Type"], endpoint: EndpointKey) => {
  const { from, until } = under(ordered(endpoint))
  let [count, bytes, last] = [0, 0, 0]
  const ids: Array<MessageId> = []
  let after = from
  while (true) {
    const records = store.unsafeRange(mail, { after, until, limit: page })
    for (const [key, { message }] of records) {
      count++
      bytes += message.bytes
      ids.push(message.id)
      last = placeOf(key)
      after = key
    }
    if (records.length < page) return { count, bytes, last, ids }
  }
}
const page = 1_000

export const recordOf = ({ failures, message, pushedAt, redelivered }: Letter): MailRecord => ({
  message,
  failures,
  pushed: redelivered || pushedAt !== undefined
})

export const letterOf = (place: Place, { failures, message, pushed }: MailRecord, knownUpTo: Place): Letter => ({
  message,
  place,
  token: undefined,
  isAccepted: true,
  stored: "written",
  redelivered: pushed || place <= knownUpTo,
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
