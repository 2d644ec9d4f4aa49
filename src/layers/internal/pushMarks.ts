import type { EndpointKey } from "../../services/model/Ids.js"
import type { Place } from "../../services/model/MailboxState.js"
import { ordered } from "../../services/model/StoreKey.js"
import { type Store, type Transaction, table } from "../../services/Store.js"

/** Up to where stored mail of an endpoint may have been pushed. */
const marks = table<{ readonly upTo: Place }>("mail_marks", 1)

/** So many places are marked ahead: a commit per push would cost too much. */
const ahead = 1_000

/**
 * Which stored mail a plugin may know. A push is not recorded; that it may happen is, durably, before it does. After a crash
 * everything up to the mark is pushed as redelivered.
 */
export class PushMarks {
  private readonly current = new Map<EndpointKey, Place>()
  /** Marks on their way into the store. */
  private readonly moving = new Set<EndpointKey>()
  private readonly store: Store["Type"]

  constructor(store: Store["Type"]) {
    this.store = store
  }

  /** What earlier lives of the broker may have pushed. */
  before(endpoint: EndpointKey): Place {
    return this.store.unsafeGet(marks, ordered(endpoint))?.upTo ?? 0
  }

  /** True when the message may be pushed now; else the mark moves, and `then` is called when it may. */
  allows(transaction: Transaction, endpoint: EndpointKey, place: Place, then: () => void): boolean {
    if (place <= (this.current.get(endpoint) ?? this.before(endpoint))) return true
    if (this.moving.has(endpoint)) return false
    this.moving.add(endpoint)
    const upTo = place + ahead
    transaction.put(marks, ordered(endpoint), { upTo })
    transaction.onDurable(() => {
      // The mailbox may have ended meanwhile.
      if (this.moving.delete(endpoint)) this.current.set(endpoint, upTo)
      then()
    })
    return false
  }

  forget(transaction: Transaction, endpoint: EndpointKey): void {
    this.current.delete(endpoint)
    this.moving.delete(endpoint)
    transaction.delete(marks, ordered(endpoint))
  }
}
