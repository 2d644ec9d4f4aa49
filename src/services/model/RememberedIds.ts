/**
 * The ids that came last, a bounded number of them: the next one takes the place of the oldest. Those from before are asked for
 * when the first question comes.
 */
export class RememberedIds {
  private readonly limit: number
  private readonly before: () => Iterable<string>
  private gathered: { readonly known: Set<string>; readonly circle: Array<string> } | undefined
  /** The place of the oldest in the circle, or of the first that is not there yet. */
  private next = 0

  /** `before` gives the oldest first. */
  constructor(limit: number, before: () => Iterable<string> = () => []) {
    this.limit = limit
    this.before = before
  }

  has(id: string): boolean {
    return this.gather().known.has(id)
  }

  /** False for one that is remembered already: it stays as old as it is. */
  add(id: string): boolean {
    const { circle, known } = this.gather()
    if (known.has(id)) return false
    const oldest = circle[this.next]
    if (oldest !== undefined) known.delete(oldest)
    circle[this.next] = id
    this.next = (this.next + 1) % this.limit
    known.add(id)
    return true
  }

  private gather() {
    if (this.gathered === undefined) {
      const all = new Set(this.before())
      const circle = [...all].slice(-this.limit)
      this.gathered = { known: all.size > this.limit ? new Set(circle) : all, circle }
      this.next = circle.length % this.limit
    }
    return this.gathered
  }
}
