import { EndpointKey } from "../../services/model/Ids.js"
import { ordered } from "../../services/model/StoreKey.js"
import type { Store } from "../../services/Store.js"
import { type StoredMail, type StoredMailIds, storedMail } from "./storedMail.js"

/** What an earlier life of the broker left in the mailboxes, until somebody takes it over. */
export class FoundMail {
  /** Of all of it that is still here: the network may deliver it once more. */
  readonly ids: StoredMailIds
  /** The greatest key of an endpoint that had mail; 0 when there was none. */
  readonly lastKey: number
  private readonly mailboxes: Map<string, StoredMail>

  constructor(store: Store["Type"]) {
    const { ids, mailboxes } = store.unsafeSummary(storedMail)
    this.ids = ids
    this.mailboxes = mailboxes
    // They come in order.
    this.lastKey = this.owners().at(-1) ?? 0
  }

  take(owner: EndpointKey): StoredMail {
    const stored = this.mailboxes.get(ordered(owner))
    this.mailboxes.delete(ordered(owner))
    return stored ?? { bytes: 0, count: 0, last: 0 }
  }

  /** Whose mail nobody took. */
  owners(): Array<EndpointKey> {
    return Array.from(this.mailboxes.keys(), (owner) => EndpointKey(Number.parseInt(owner, 36)))
  }
}
