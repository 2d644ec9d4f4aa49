/**
 * The gateway's older form: messages without numbers, and now and then the word "everything up to here, please acknowledge".
 * That word is answered once every message that came before it is safe.
 */
export class AnnouncedDeliveries {
  /** Messages in the broker's hands, with their place in the order of arrival. */
  private readonly places = new Map<unknown, number>()
  private readonly open = new Set<number>()
  private arrived = 0
  /** Everything before this place is safe. */
  private oldest = 1
  private announced: Array<{ readonly upTo: string; readonly after: number }> = []

  /** A message came, named by any token. */
  arrive(token: unknown): void {
    this.places.set(token, ++this.arrived)
    this.open.add(this.arrived)
  }

  /** The message is safe. */
  accept(token: unknown): void {
    const place = this.places.get(token)
    if (place === undefined) return
    this.places.delete(token)
    this.open.delete(place)
    while (this.oldest <= this.arrived && !this.open.has(this.oldest)) this.oldest++
  }

  /** The gateway wants to hear `upTo` when what came so far is safe. */
  announce(upTo: string): void {
    // Of several words after the same message the last says it all.
    if (this.announced.at(-1)?.after === this.arrived) this.announced.pop()
    this.announced.push({ upTo, after: this.arrived })
  }

  /** What the gateway may be told now, each word once. */
  due(): ReadonlyArray<string> {
    if (this.announced.length === 0) return []
    const waits = this.announced.findIndex(({ after }) => after >= this.oldest)
    return this.announced.splice(0, waits < 0 ? this.announced.length : waits).map(({ upTo }) => upTo)
  }

  /** The words of a connection end with it. */
  forget(): void {
    this.announced = []
  }
}
