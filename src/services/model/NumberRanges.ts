/** A set of whole numbers that come mostly in runs: it takes memory per run, not per number. */

/** First and last number of a run. */
export type Run = readonly [first: number, last: number]

export class NumberRanges {
  private readonly firsts: Array<number> = []
  private readonly lasts: Array<number> = []
  private count = 0

  /** `runs` ascend and do not touch each other. */
  constructor(runs: Iterable<Run> = []) {
    for (const [first, last] of runs) {
      this.firsts.push(first)
      this.lasts.push(last)
      this.count += last - first + 1
    }
  }

  /** How many numbers there are. */
  get size(): number {
    return this.count
  }

  /** In ascending order. */
  runs(): ReadonlyArray<Run> {
    return this.firsts.map((first, index) => [first, this.lasts[index]!])
  }

  has(number: number): boolean {
    return this.endOfRun(number) >= number
  }

  /** The last number of the run `number` is in; the number before it when it is in none. */
  endOfRun(number: number): number {
    const index = this.find(number)
    const last = index < 0 ? Number.NEGATIVE_INFINITY : this.lasts[index]!
    return last >= number ? last : number - 1
  }

  /** Adds the number; nothing happens when it is there already. */
  add(number: number): void {
    const before = this.find(number)
    const { firsts, lasts } = this
    if (before >= 0 && lasts[before]! >= number) return
    this.count++
    const touchesBefore = before >= 0 && lasts[before] === number - 1
    const touchesAfter = firsts[before + 1] === number + 1
    if (touchesBefore && touchesAfter) {
      lasts.splice(before, 1)
      firsts.splice(before + 1, 1)
    } else if (touchesBefore) lasts[before] = number
    else if (touchesAfter) firsts[before + 1] = number
    else {
      firsts.splice(before + 1, 0, number)
      lasts.splice(before + 1, 0, number)
    }
  }

  /** Removes every number up to this one. */
  deleteUpTo(number: number): void {
    const { firsts, lasts } = this
    let gone = 0
    while (gone < lasts.length && lasts[gone]! <= number) {
      this.count -= lasts[gone]! - firsts[gone]! + 1
      gone++
    }
    firsts.splice(0, gone)
    lasts.splice(0, gone)
    if (firsts.length > 0 && firsts[0]! <= number) {
      this.count -= number - firsts[0]! + 1
      firsts[0] = number + 1
    }
  }

  /** Index of the last run that begins at or before `number`; −1 when there is none. */
  private find(number: number): number {
    let low = 0
    let high = this.firsts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.firsts[middle]! <= number) low = middle + 1
      else high = middle
    }
    return low - 1
  }
}
