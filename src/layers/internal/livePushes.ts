import type { Letter } from "../../services/model/MailboxState.js"

export interface LivePushLimits {
  /** A push without a receipt for so long is stored, milliseconds. */
  readonly receiptMs: number
  /** So is one this old when `spillAfterAccepted` later messages are accepted: it holds up the network's cursor. */
  readonly spillAgeMs: number
  readonly spillAfterAccepted: number
}

interface LivePush<A> {
  readonly owner: A
  readonly letter: Letter
  /** How many messages the broker had taken before it, accepted or not. */
  readonly before: number
}

/** Live pushes the connector has not been told about, in order of arrival, and when each must be stored instead. */
export class LivePushes<A> {
  private readonly limits: LivePushLimits
  /** Those no longer live are skipped. */
  private pushes: Array<LivePush<A>> = []
  private count = 0

  constructor(limits: LivePushLimits) {
    this.limits = limits
  }

  /** The letter was just pushed; so many messages are accepted so far. Returns when to look at it. */
  add(owner: A, letter: Letter, accepted: number): number {
    this.pushes.push({ owner, letter, before: accepted + this.count })
    this.count++
    return letter.pushedAt! + this.limits.spillAgeMs
  }

  /** One of them is accepted. */
  accepted(): void {
    this.count--
  }

  /** Those to be stored now, the oldest first, and when to look again. */
  due(at: number, accepted: number): { readonly due: ReadonlyArray<LivePush<A>>; readonly next: number | undefined } {
    const { receiptMs, spillAfterAccepted, spillAgeMs } = this.limits
    const due: Array<LivePush<A>> = []
    for (const [index, push] of this.pushes.entries()) {
      const { before, letter } = push
      if (letter.stored !== "live" || letter.isAccepted) continue
      const age = at - letter.pushedAt!
      // Everything taken before the oldest live push is accepted: what is accepted beyond that came later.
      const holdsUpOthers = age >= spillAgeMs && accepted - before >= spillAfterAccepted
      if (age < receiptMs && !holdsUpOthers) {
        this.pushes = this.pushes.slice(index)
        return { due, next: Math.min(letter.pushedAt! + receiptMs, at + spillAgeMs) }
      }
      due.push(push)
    }
    this.pushes = []
    return { due, next: undefined }
  }

  /** They could not be stored: they stay due. */
  putBack(pushes: ReadonlyArray<LivePush<A>>): void {
    this.pushes = [...pushes, ...this.pushes]
  }
}
