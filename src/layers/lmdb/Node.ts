/** A record as the file has it. */
import { isWholeIn, recordVersion } from "./record.js"

/** It lies where it was read, its key as text. A start looks at each of them: what is cut out of the page is made when it is asked for. */
export class Node {
  readonly page: Buffer
  /** Where its key lies in `page`. */
  readonly keyStart: number
  readonly keyEnd: number
  private readonly bytes: Buffer | undefined
  private readonly start: number
  private readonly end: number

  /** Without bytes where the pages of a large value cannot be read. */
  constructor(
    page: Buffer,
    keyStart: number,
    keyEnd: number,
    bytes: Buffer | undefined,
    start = 0,
    end = bytes?.length ?? 0
  ) {
    this.page = page
    this.keyStart = keyStart
    this.keyEnd = keyEnd
    this.bytes = bytes
    this.start = start
    this.end = end
  }

  static of(key: string, value: Buffer | undefined): Node {
    return new Node(Buffer.from(key, "latin1"), 0, key.length, value)
  }

  /** Bytes as characters. */
  get key(): string {
    return this.page.toString("latin1", this.keyStart, this.keyEnd)
  }

  get value(): Buffer | undefined {
    return this.bytes?.subarray(this.start, this.end)
  }

  /** Of key and value, bytes. */
  get size(): number {
    return this.keyEnd - this.keyStart + this.end - this.start
  }

  /** Key and value are what was written. */
  get isWhole(): boolean {
    return (
      this.bytes !== undefined && isWholeIn(this.page, this.keyStart, this.keyEnd, this.bytes, this.start, this.end)
    )
  }

  /** Of a whole record. */
  get version(): number {
    return recordVersion(this.bytes!, this.start)
  }

  /** What is read over later, kept. */
  copy(): Node {
    return Node.of(this.key, this.value === undefined ? undefined : Buffer.from(this.value))
  }

  keyStartsWith(text: string): boolean {
    if (this.keyEnd - this.keyStart < text.length) return false
    for (let at = 0; at < text.length; at++) {
      if (this.page[this.keyStart + at] !== text.charCodeAt(at)) return false
    }
    return true
  }

  isBefore(key: string): boolean {
    const length = Math.min(this.keyEnd - this.keyStart, key.length)
    for (let at = 0; at < length; at++) {
      const difference = this.page[this.keyStart + at]! - key.charCodeAt(at)
      if (difference !== 0) return difference < 0
    }
    return length < key.length
  }

  isBehind({ keyEnd, keyStart, page }: Node): boolean {
    const length = Math.min(this.keyEnd - this.keyStart, keyEnd - keyStart)
    for (let at = 0; at < length; at++) {
      const difference = this.page[this.keyStart + at]! - page[keyStart + at]!
      if (difference !== 0) return difference > 0
    }
    return this.keyEnd - this.keyStart > length
  }
}
