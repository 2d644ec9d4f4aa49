/** What a start must know of stored mail, gathered from the keys alone. */
import type { Place } from "../../services/model/MailboxState.js"
import type { KeySummary } from "../../services/Store.js"
import { idInKey } from "./idInKey.js"
import { mail, width } from "./mail.js"

/** What the store holds of a mailbox. */
export interface StoredMail {
  count: number
  bytes: number
  /** Of its last message. */
  last: Place
}

/** What the store holds of all mailboxes. */
export interface AllStoredMail {
  /** By `ordered(endpoint)`. */
  readonly mailboxes: Map<string, StoredMail>
  readonly ids: StoredMailIds
  /** The mailbox whose keys come now: those of one lie together. */
  current: { readonly owner: string; readonly stored: StoredMail } | undefined
}

const slash = 47
const newline = 10

const slashFrom = (bytes: Uint8Array, start: number, end: number): number => {
  let at = start
  while (at < end && bytes[at] !== slash) at++
  return at
}

/** The number that digits spell, as `toString(36)` writes it. */
const numberIn = (bytes: Uint8Array, start: number, end: number): number => {
  let number = 0
  for (let at = start; at < end; at++) {
    const code = bytes[at]!
    number = number * 36 + (code < 58 ? code - 48 : code - 87)
  }
  return number
}

const startsWith = (bytes: Uint8Array, start: number, text: string): boolean => {
  for (let at = 0; at < text.length; at++) if (bytes[start + at] !== text.charCodeAt(at)) return false
  return true
}

/** The ids of stored mail, as `idInKey` has them; made a set when the first question comes, which takes longer than reading them. */
export class StoredMailIds {
  private text = Buffer.allocUnsafe(4_096)
  private length = 0
  private ids: Set<string> | undefined

  /** Takes in an id, which lies there. */
  add(bytes: Uint8Array, start: number, end: number): void {
    while (this.length + end - start >= this.text.length) {
      this.text = Buffer.concat([this.text], this.text.length * 2)
    }
    for (let at = start; at < end; at++) this.text[this.length++] = bytes[at]!
    this.text[this.length++] = newline
  }

  has(id: string): boolean {
    const ids = this.gathered()
    return ids.size > 0 && ids.has(idInKey(id))
  }

  delete(id: string): void {
    const ids = this.gathered()
    if (ids.size > 0) ids.delete(idInKey(id))
  }

  /** `delete` by what a key has of the id. */
  deleteKept(inKey: string): void {
    this.gathered().delete(inKey)
  }

  private gathered(): Set<string> {
    if (this.ids === undefined) {
      this.ids = new Set(this.text.toString("latin1", 0, this.length).split("\n"))
      this.ids.delete("")
      this.text = Buffer.alloc(0)
    }
    return this.ids
  }
}

/** A start does this for each message there is: it makes nothing new of a key. */
export const storedMail: KeySummary<AllStoredMail> = {
  table: mail.name,
  empty: () => ({ mailboxes: new Map(), ids: new StoredMailIds(), current: undefined }),
  add: (all, bytes, start, end) => {
    if (all.current === undefined || !startsWith(bytes, start, all.current.owner)) {
      const owner = Buffer.from(bytes.subarray(start, start + width)).toString("latin1")
      all.current = { owner, stored: { count: 0, bytes: 0, last: 0 } }
      all.mailboxes.set(owner, all.current.stored)
    }
    const { stored } = all.current
    const size = start + 2 * width + 2
    const sizeEnd = slashFrom(bytes, size, end)
    stored.count++
    stored.bytes += numberIn(bytes, size, sizeEnd)
    stored.last = numberIn(bytes, start + width + 1, size - 1)
    all.ids.add(bytes, sizeEnd + 1, end)
  }
}
