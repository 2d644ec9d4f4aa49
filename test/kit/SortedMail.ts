/** The store under a `MailboxDriver`: a sorted array, and commits on their way into it. */
import { strict as assert } from "node:assert"
import type { Place } from "../../src/services/model/MailboxState.js"
import type { Message } from "../../src/services/model/Message.js"

export interface MailRecord {
  readonly place: Place
  readonly message: Message
  readonly failures: number
  readonly pushed: boolean
}

export class Commit {
  readonly puts: Array<MailRecord> = []
  readonly deletes: Array<Place> = []
  readonly effects: Array<() => void> = []
  isDurable = false
  /** Complete after all before it, also without records. */
  isBarrier = false
}

export class SortedMail {
  readonly records: Array<MailRecord> = []
  private readonly commits: Array<Commit> = []

  get isWriting(): boolean {
    return this.commits.length > 0
  }

  /** Takes the commit; one without records is complete at once. */
  commit(commit: Commit): void {
    const waits = commit.isBarrier && this.isWriting
    if (commit.puts.length + commit.deletes.length > 0 || waits) this.commits.push(commit)
    else for (const effect of commit.effects) effect()
  }

  /** The oldest commit that is not durable becomes so; nobody has been told yet. */
  durable(): void {
    const commit = this.commits.find(({ isDurable }) => !isDurable)
    if (commit === undefined) return
    commit.isDurable = true
    for (const record of commit.puts) {
      const at = this.records.findIndex(({ place }) => place >= record.place)
      const there = at >= 0 && this.records[at]!.place === record.place ? this.records[at] : undefined
      const isAnother = there !== undefined && there.message !== record.message
      assert.ok(!isAnother, `two messages have the place ${record.place}`)
      this.records.splice(at < 0 ? this.records.length : at, there === undefined ? 0 : 1, record)
    }
    for (const place of commit.deletes) {
      const at = this.records.findIndex((record) => record.place === place)
      assert.ok(at >= 0, `nothing is stored at ${place}`)
      this.records.splice(at, 1)
    }
  }

  /** The oldest commit is complete: those who wait for it are told. */
  complete(): void {
    if (this.commits[0]?.isDurable === false) this.durable()
    for (const effect of this.commits.shift()?.effects ?? []) effect()
  }

  /** Records behind `after`, in order. */
  behind(after: Place): ReadonlyArray<MailRecord> {
    return this.records.filter(({ place }) => place > after)
  }
}
