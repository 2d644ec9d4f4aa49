/**
 * How far a stream of events is handled. Events may finish in any order; the position is the id of the last one before which
 * all are finished, so that a new subscription asks for every other again.
 */
export class EventPosition {
  private readonly open: Array<{ readonly id: string | undefined; isDone: boolean }> = []
  private at: string | undefined

  /** Everything up to `id` is handled. */
  constructor(id: string | undefined) {
    this.at = id
  }

  get id(): string | undefined {
    return this.at
  }

  /** How many began and count still. */
  get pending(): number {
    return this.open.length
  }

  /** An event arrived. Call what is returned when it is handled: it answers whether the position moved. */
  begin(id: string | undefined): () => boolean {
    const one = { id, isDone: false }
    this.open.push(one)
    return () => {
      one.isDone = true
      const before = this.at
      while (this.open[0]?.isDone === true) this.at = this.open.shift()!.id ?? this.at
      return this.at !== before
    }
  }
}
