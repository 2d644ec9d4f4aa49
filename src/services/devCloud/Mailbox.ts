/** An account's mail at the gateway: numbered in order of arrival, kept until its runtime acknowledges it. */

export interface NewMail {
  readonly messageId: string
  readonly from: string
  readonly content: string
  readonly contentType: string
  readonly metadata: { readonly [key: string]: unknown }
  /** ISO time. */
  readonly sentAt: string
  /** The account to tell when it is delivered; absent where nobody waits for that. */
  readonly notify?: string
}

export interface Mail extends NewMail {
  readonly seq: number
  /** The owner dismissed it: its number stays, the message does not. */
  readonly isSkipped: boolean
}

export class Mailbox {
  private entries = new Map<number, Mail>()
  private lastSeq = 0
  private acknowledgedSeq = 0

  /** The highest number there is. */
  get last(): number {
    return this.lastSeq
  }

  /** Everything up to here was acknowledged. */
  get acknowledged(): number {
    return this.acknowledgedSeq
  }

  get waiting(): number {
    return this.entries.size
  }

  add(mail: NewMail): Mail {
    const entry = { ...mail, seq: ++this.lastSeq, isSkipped: false }
    this.entries.set(entry.seq, entry)
    return entry
  }

  /** What waits with a higher number, in order. */
  after(seq: number): ReadonlyArray<Mail> {
    return [...this.entries.values()].filter((mail) => mail.seq > seq)
  }

  /** Answers what is done now, or `undefined` for a number that was never given. */
  acknowledge(upTo: number): ReadonlyArray<Mail> | undefined {
    if (upTo > this.lastSeq) return undefined
    const done: Array<Mail> = []
    for (const mail of this.entries.values()) {
      if (mail.seq > upTo) break
      this.entries.delete(mail.seq)
      done.push(mail)
    }
    this.acknowledgedSeq = Math.max(this.acknowledgedSeq, upTo)
    return done
  }

  /** The owner dismissed the message. `undefined` when it does not wait. */
  skip(seq: number): Mail | undefined {
    const mail = this.entries.get(seq)
    if (mail === undefined) return undefined
    const skipped = { ...mail, isSkipped: true }
    this.entries.set(seq, skipped)
    return skipped
  }

  /** A runtime that has seen higher numbers than were given here knew an earlier cloud: counting goes on from there. */
  adopt(lastKnownSeq: number): void {
    if (lastKnownSeq <= this.lastSeq) return
    const waiting = [...this.entries.values()]
    this.entries = new Map()
    this.lastSeq = lastKnownSeq
    this.acknowledgedSeq = lastKnownSeq
    for (const { isSkipped, seq, ...mail } of waiting) if (!isSkipped) this.add(mail)
  }
}
