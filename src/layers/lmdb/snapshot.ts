/**
 * The records of one moment, read a part at a time while others go on writing.
 *
 * The engine's own snapshots must not outlive a turn: it may map its file anew meanwhile, and reading on ends the process. So
 * each part is read as things are then, and what commits changed since is kept here as it was.
 */
import { Order, RedBlackTree } from "effect"
import { type Engine, firstKey } from "./engine.js"
import { Node } from "./Node.js"

type Bytes = Buffer | undefined

export class Snapshot {
  private readonly engine: () => Engine
  private readonly onEnd: (snapshot: Snapshot) => void
  private readonly mostBytes: number
  /** Records changed since, as they were; `undefined` was not there. */
  private before = RedBlackTree.empty<string, Bytes>(Order.string)
  private bytes = 0
  /** Everything up to here was taken. */
  private upTo = ""
  private isWhole = false
  private ended: string | undefined

  /** Keeps at most so many bytes of changed records. `onEnd` is called once, when it is over. */
  constructor(engine: () => Engine, mostBytes: number, onEnd: (snapshot: Snapshot) => void) {
    this.engine = engine
    this.mostBytes = mostBytes
    this.onEnd = onEnd
  }

  /** A commit is about to change the record; from now on it is what it is now. */
  keep(key: string): void {
    if (this.ended !== undefined || key <= this.upTo || RedBlackTree.has(this.before, key)) return
    const value = this.engine().getBinary(key)
    this.before = RedBlackTree.insert(this.before, key, value)
    this.bytes += key.length + (value?.length ?? 0) + overhead
    if (this.bytes > this.mostBytes) this.end("too much of it was changed meanwhile")
  }

  /** About so many more records and bytes, in key order; `undefined` at the end. Throws when the snapshot is over. */
  take(count: number, bytes: number): ReadonlyArray<Node> | undefined {
    if (this.ended !== undefined) throw new Error(this.ended)
    if (this.isWhole) return undefined
    const present = this.read(count, bytes)
    const last = this.isWhole ? undefined : present[present.length - 1]!.key
    const was = this.changed(last)
    const keys = new Set(was.map(({ key }) => key))
    const unchanged = present.filter(({ key }) => !keys.has(key))
    if (last !== undefined) this.upTo = last
    return [...unchanged, ...was.filter(({ value }) => value !== undefined)].sort((a, b) => (a.key < b.key ? -1 : 1))
  }

  /** Nothing is taken or kept any more. */
  end(why: string): void {
    if (this.ended !== undefined) return
    this.ended = why
    this.before = RedBlackTree.empty(Order.string)
    this.onEnd(this)
  }

  private read(count: number, bytes: number): Array<Node> {
    const nodes: Array<Node> = []
    let size = 0
    const start = this.upTo === "" ? firstKey : `${this.upTo}\u0000`
    for (const { key, value } of this.engine().getRange({ start })) {
      nodes.push(Node.of(key, value))
      size += value.length
      if (nodes.length >= count || size >= bytes) return nodes
    }
    this.isWhole = true
    return nodes
  }

  /** What was changed of the records after `upTo`, as far as `last`. */
  private changed(last: string | undefined): ReadonlyArray<Node> {
    const nodes: Array<Node> = []
    for (const [key, value] of RedBlackTree.greaterThan(this.before, this.upTo)) {
      if (last !== undefined && key > last) break
      nodes.push(Node.of(key, value))
    }
    for (const { key, value } of nodes) {
      this.before = RedBlackTree.removeFirst(this.before, key)
      this.bytes -= key.length + (value?.length ?? 0) + overhead
    }
    return nodes
  }
}

/** Of keeping a record. */
const overhead = 100
