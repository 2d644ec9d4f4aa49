/**
 * Room in the file for the next commit, taken before the engine is asked to write.
 *
 * Where a page cannot be written the engine writes beyond a buffer of its own and may end the process. So the file reaches
 * further than its pages, and a byte is written to its end before each commit: a disk that is full or takes no writes is
 * noticed there. Failing flushes and meta pages are reported by the engine as they should be.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, writeSync } from "node:fs"
import { dataFile, type Engine, lastPage } from "./engine.js"

const KiB = 1_024
const MiB = 1_024 * KiB
const zeros = Buffer.alloc(256 * KiB)
const diskIsFull = new Set(["ENOSPC", "EDQUOT"])

/** The engine's own lists name pages, none of them all; a name takes eight bytes. */
const pagesOfLists = (pages: number, pageSize: number): number => 64 + Math.ceil((8 * pages) / pageSize)

/** A record of more bytes has pages to itself, which it fills; others may fill theirs by half only. */
export const large = 4_096

/** More pages than a commit of so many changes writes anew, in a file of `pages`. */
const pagesFor = (changes: number, bytes: number, largeBytes: number, pages: number, pageSize: number): number =>
  Math.ceil((2 * bytes - largeBytes) / pageSize) + 2 * Math.min(changes, pages) + pagesOfLists(pages, pageSize)

export class Reserve {
  private readonly fd: number
  private size: number

  constructor(directory: string) {
    this.fd = openSync(dataFile(directory), "r+")
    this.size = fstatSync(this.fd).size
  }

  /**
   * Room for a commit of so many changes with so many bytes, `largeBytes` of them in large records. Throws when there is none,
   * and when the disk takes no writes; what it took in vain it gives back. Returns by how much the file grew. Nothing else may
   * write to the file meanwhile.
   */
  take(engine: Engine, changes: number, bytes: number, largeBytes = 0): number {
    const { last, pageSize } = lastPage(engine)
    const before = this.size
    const end = (last + 2 + pagesFor(changes, bytes, largeBytes, last + 1, pageSize)) * pageSize
    if (before >= end) {
      writeSync(this.fd, zeros, 0, 1, before - 1)
      return 0
    }
    try {
      // A little more, not to do this for every commit.
      this.growTo(end + Math.min(4 * MiB, Math.max(256 * KiB, Math.floor(end / 8))))
    } catch (error) {
      const isEnough = this.size >= end && diskIsFull.has((error as NodeJS.ErrnoException).code ?? "")
      this.shrinkTo(isEnough ? end : before)
      if (!isEnough) throw error
    }
    return this.size - before
  }

  close(): void {
    closeSync(this.fd)
  }

  private growTo(until: number): void {
    while (this.size < until) {
      const length = Math.min(zeros.length, until - this.size)
      this.size += writeSync(this.fd, zeros, 0, length, this.size)
    }
  }

  private shrinkTo(until: number): void {
    ftruncateSync(this.fd, until)
    this.size = until
  }
}
