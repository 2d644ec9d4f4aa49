/** What a start must know of stored mail, gathered from the keys alone. */
import type { Key, KeySummary } from "../../services/Store.js"
import { idInKey } from "./idInKey.js"
import { mail, width } from "./mail.js"

/** What the store holds of a mailbox. */
export interface StoredMail {
  count: number
  bytes: number
  /** The key of its last message. */
  last: Key
}

/** What the store holds of all mailboxes. */
export interface AllStoredMail {
  /** By `ordered(endpoint)`. */
  readonly mailboxes: Map<string, StoredMail>
  readonly keys: Array<Key>
  /** The mailbox whose keys come now: those of one lie together. */
  current: { readonly owner: string; readonly stored: StoredMail } | undefined
}

const slash = 47

/** The number that digits spell, as `toString(36)` writes it, up to the next separator. */
const bytesOf = (key: Key): number => {
  let bytes = 0
  for (let at = 2 * width + 2; at < key.length; at++) {
    const code = key.charCodeAt(at)
    if (code === slash) break
    bytes = bytes * 36 + (code < 58 ? code - 48 : code - 87)
  }
  return bytes
}

/** A start does this for each message there is: it makes nothing new of a key. */
export const storedMail: KeySummary<AllStoredMail> = {
  table: mail.name,
  empty: () => ({ mailboxes: new Map(), keys: [], current: undefined }),
  add: (all, key) => {
    if (all.current === undefined || !key.startsWith(all.current.owner)) {
      const owner = key.slice(0, width)
      all.current = { owner, stored: { count: 0, bytes: 0, last: key } }
      all.mailboxes.set(owner, all.current.stored)
    }
    const { stored } = all.current
    stored.count++
    stored.bytes += bytesOf(key)
    stored.last = key
    all.keys.push(key)
  }
}

/** The ids of stored mail, as `idInKey` has them; gathered when the first question comes, which takes longer than reading the keys. */
export class StoredMailIds {
  private keys: ReadonlyArray<Key>
  private ids: Set<string> | undefined

  constructor(keys: ReadonlyArray<Key>) {
    this.keys = keys
  }

  has(id: string): boolean {
    const ids = this.gathered()
    return ids.size > 0 && ids.has(idInKey(id))
  }

  delete(id: string): void {
    const ids = this.gathered()
    if (ids.size > 0) ids.delete(idInKey(id))
  }

  private gathered(): Set<string> {
    if (this.ids === undefined) {
      this.ids = new Set(this.keys.map((key) => key.slice(key.indexOf("/", 2 * width + 2) + 1)))
      this.keys = []
    }
    return this.ids
  }
}
