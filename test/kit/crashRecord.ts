/**
 * What was promised while a broker was killed again and again, and what came of it. `check` proves: accepted is delivered or
 * listed, at the right place, in order, and twice only over a kill, and then marked.
 */
import { assert } from "@effect/vitest"
import type { MessageReceived } from "../../src/services/ipc/StreamFrame.js"

interface Given {
  readonly stream: string
  readonly n: number
  /** The endpoint it is for; `undefined` for the inbox. */
  readonly to: string | undefined
  isPromised: boolean
  /** Endpoints the inbox was asked to hand it to, and whether that was confirmed. */
  readonly dispatches: Map<string, boolean>
}

interface Came {
  readonly endpoint: string
  readonly content: string
  readonly life: number
  readonly isMarked: boolean
}

/** An entry of the inbox: its content names the message. */
export interface Listed {
  readonly content: string
}

export class CrashRecord {
  private readonly given = new Map<string, Given>()
  private readonly came: Array<Came> = []
  private readonly counts = new Map<string, number>()
  /** Lives at whose end the broker had had the time to write everything. */
  private readonly settledLives: Array<number> = []

  /** A new message of a stream that gives them one after the other; returns its content. */
  give(stream: string, to: string | undefined, isPromised: boolean): string {
    const n = this.counts.get(stream) ?? 0
    this.counts.set(stream, n + 1)
    const content = `${stream} ${n}`
    this.given.set(content, { stream, n, to, isPromised, dispatches: new Map() })
    return content
  }

  /** It was accepted: it may not be lost from now on. */
  promise(content: string): void {
    this.given.get(content)!.isPromised = true
  }

  /** The inbox was asked to hand it over; `isDone` when it said it did. */
  dispatch(content: string, to: string, isDone: boolean): void {
    this.given.get(content)!.dispatches.set(to, isDone)
  }

  /** An endpoint got these in a life of the broker. */
  arrive(endpoint: string, life: number, messages: ReadonlyArray<MessageReceived>): void {
    for (const { content, redelivered } of messages) {
      this.came.push({ endpoint, content, life, isMarked: redelivered === true })
    }
  }

  /** Everything that came in this life was acknowledged and written: none of it may come again. */
  settled(life: number): void {
    this.settledLives.push(life)
  }

  get figures() {
    const contents = new Set(this.came.map(({ content }) => content))
    const promised = [...this.given.values()].filter(({ isPromised }) => isPromised).length
    const marked = this.came.filter(({ isMarked }) => isMarked).length
    const twice = this.came.length - contents.size
    return {
      given: this.given.size,
      promised,
      arrived: contents.size,
      twice,
      marked,
      settled: this.settledLives.length
    }
  }

  /** `inbox` is what is listed at the end. */
  check(inbox: ReadonlyArray<Listed>): void {
    const at = new Map<string, Came>()
    const order = new Map<string, Array<number>>()
    for (const one of this.came) {
      const message = this.given.get(one.content)
      assert.isDefined(message, `nobody sent ${one.content}`)
      const isMeant = message.to === one.endpoint || message.dispatches.has(one.endpoint)
      assert.isTrue(isMeant, `it came to another than it was for: ${JSON.stringify(one)}`)
      const before = at.get(one.content)
      if (before !== undefined) this.checkAgain(before, one)
      else if (message.to !== undefined) {
        const key = `${message.stream} to ${one.endpoint}`
        order.set(key, [...(order.get(key) ?? []), message.n])
      }
      at.set(one.content, one)
    }
    for (const [key, numbers] of order)
      assert.deepStrictEqual(
        numbers,
        numbers.toSorted((a, b) => a - b),
        key
      )

    const listed = new Set(inbox.map(({ content }) => content))
    assert.strictEqual(listed.size, inbox.length, "something is listed twice")
    const lost: Array<string> = []
    for (const [content, { dispatches, isPromised, to }] of this.given) {
      const hasCome = at.has(content)
      assert.isFalse(hasCome && listed.has(content), `${content} came, and is still listed`)
      assert.isFalse(to !== undefined && listed.has(content), `${content} was for ${to}, and is in the inbox`)
      const mustCome = to !== undefined ? isPromised : [...dispatches.values()].includes(true)
      if (mustCome ? !hasCome : isPromised && !hasCome && !listed.has(content)) lost.push(content)
    }
    assert.deepStrictEqual(lost, [], "accepted, and lost")
  }

  private checkAgain(before: Came, again: Came): void {
    const both = JSON.stringify([before, again])
    assert.strictEqual(again.endpoint, before.endpoint, both)
    assert.isAbove(again.life, before.life, `it came twice in one life: ${both}`)
    assert.isTrue(again.isMarked, `it comes again as if it were new: ${both}`)
    const isLate = this.settledLives.some((life) => before.life <= life && life < again.life)
    assert.isFalse(isLate, `it comes again long after it was acknowledged: ${both}`)
  }
}
