/**
 * Room in the file for the next commit, taken before the engine is asked to write.
 *
 * Where a page cannot be written the engine writes beyond a buffer of its own and may end the process. So the file reaches
 * further than its pages, and a byte is written to its end before each commit: a disk that is full or takes no writes is
 * noticed there. Failing flushes and meta pages are reported by the engine as they should be.
 */
import { closeSync, fstatSync, openSync, writeSync } from "node:fs"
import { dataFile, type Engine, lastPage } from "./engine.js"

const KiB = 1_024
const MiB = 1_024 * KiB
/** A commit that may need more relies on the limit of free disk. */
const most = 16 * MiB
/** The engine's own lists. */
const spare = 64
const zeros = Buffer.alloc(256 * KiB)

/** More pages than a commit of so many changes with so many bytes writes anew, in a file of `pages`. */
const pagesFor = (changes: number, bytes: number, pages: number, pageSize: number): number =>
  Math.ceil((2 * bytes) / pageSize) + 2 * Math.min(changes, pages) + spare

export class Reserve {
  private readonly fd: number
  private size: number

  constructor(directory: string) {
    this.fd = openSync(dataFile(directory), "r+")
    this.size = fstatSync(this.fd).size
  }

  /** Throws when there is no room, and when the disk takes no writes. Nothing else may write to the file meanwhile. */
  take(engine: Engine, changes: number, bytes: number): void {
    const { last, pageSize } = lastPage(engine)
    const needed = Math.min(most, pagesFor(changes, bytes, last + 1, pageSize) * pageSize)
    const end = (last + 2) * pageSize + needed
    const isEnough = this.size >= end
    const until = isEnough ? this.size : end + Math.min(4 * MiB, Math.max(256 * KiB, Math.floor(end / 8)))
    if (isEnough) writeSync(this.fd, zeros, 0, 1, until - 1)
    while (this.size < until) {
      const length = Math.min(zeros.length, until - this.size)
      this.size += writeSync(this.fd, zeros, 0, length, this.size)
    }
  }

  close(): void {
    closeSync(this.fd)
  }
}
