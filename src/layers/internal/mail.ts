import type { MessageReceived } from "../../services/ipc/StreamFrame.js"
import type { EndpointKey, PushId } from "../../services/model/Ids.js"
import type { Letter, MailWindow, Place } from "../../services/model/Letter.js"
import type { Message } from "../../services/model/Message.js"
import { join, ordered, under } from "../../services/model/StoreKey.js"
import { type Key, type Store, table } from "../../services/Store.js"
import { idInKey } from "./idInKey.js"

/** A stored message of a mailbox. */
export interface MailRecord {
  readonly message: Message
  readonly failures: number
  /** It was pushed before it was written: its plugin may know it. */
  readonly pushed: boolean
}

/** All mailboxes; the keys of one lie together, in its order. */
export const mail = table<MailRecord>("mail", 1)

/** Of an ordered number. */
export const width = ordered(0).length

/** `<endpoint>/<place>/<bytes>/<id>`: what a start must know of stored mail is in its keys, and they are quickly read. */
export const keyOf = (endpoint: EndpointKey, { message, place }: Pick<Letter, "message" | "place">): Key =>
  join(ordered(endpoint), ordered(place), message.bytes.toString(36), idInKey(message.id))

export const placeOf = (key: Key): Place => Number.parseInt(key.slice(width + 1, 2 * width + 1), 36)

/** The keys of a mailbox behind that place. */
export const behind = (endpoint: EndpointKey, place: Place) => ({
  from: under(join(ordered(endpoint), ordered(place))).until,
  until: under(ordered(endpoint)).until
})

export const recordOf = ({ failures, message, pushedAt, redelivered }: Letter): MailRecord => ({
  message,
  failures,
  pushed: redelivered || pushedAt !== undefined
})

const letterOf = (place: Place, { failures, message, pushed }: MailRecord): Letter => ({
  message,
  place,
  token: undefined,
  isAccepted: true,
  stored: "written",
  redelivered: pushed,
  failures,
  pushedAt: undefined
})

/** The first of the mail behind that place, as much as the window holds. */
export const readMail = (
  store: Store["Type"],
  endpoint: EndpointKey,
  place: Place,
  { windowBytes: bytes, windowMessages: limit }: MailWindow
): ReadonlyArray<Letter> =>
  store
    .unsafeRange(mail, { ...behind(endpoint, place), limit, bytes })
    .map(([key, record]) => letterOf(placeOf(key), record))

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
