/** Control events of an account: what was sent, for those who subscribe again. */

export interface ControlEntry {
  /** Counts up, over restarts of the cloud too. */
  readonly id: number
  readonly idempotencyKey: string
  /** The data of the event, one line. */
  readonly data: string
}

const kept = 1_000

export class ControlLog {
  private entries: Array<ControlEntry> = []
  private readonly acknowledged = new Set<string>()
  private last: number

  /** Ids are higher than `after`. */
  constructor(after: number) {
    this.last = after
  }

  add(idempotencyKey: string, event: object): ControlEntry {
    const entry = { id: ++this.last, idempotencyKey, data: JSON.stringify(event) }
    this.entries.push(entry)
    if (this.entries.length >= 2 * kept) this.entries = this.entries.slice(-kept)
    return entry
  }

  acknowledge(idempotencyKey: string): void {
    this.acknowledged.add(idempotencyKey)
  }

  /**
   * What a subscriber gets first: everything after the id it has seen. One that has seen nothing, or an id that was never given
   * here, gets what nobody acknowledged.
   */
  replay(lastEventId: string | undefined): ReadonlyArray<ControlEntry> {
    const seen = Number(lastEventId || Number.NaN)
    return Number.isNaN(seen) || seen > this.last
      ? this.entries.filter(({ idempotencyKey }) => !this.acknowledged.has(idempotencyKey))
      : this.entries.filter(({ id }) => id > seen)
  }
}
