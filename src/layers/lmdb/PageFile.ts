/**
 * The database file read as bytes, without the engine: a damaged file can end the process that maps it, and never one that
 * reads it. The words are the engine's: pages, of which the first two are meta pages that name the roots of two trees, the
 * free pages and the records. Little-endian, 64 bits.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs"
import { endianness } from "node:os"

export const headerSize = 24
const chunkSize = 65_536
const chunksKept = 64

export const PageFlag = { Branch: 1, Leaf: 2, Overflow: 4, Meta: 8 } as const

/** The machine's engine writes files that this can read. */
export const canReadPages = endianness() === "LE" && /64|s390x/.test(process.arch)

/** A number beyond 2⁵³ is none that occurs: it reads as infinite. */
export const u64 = (bytes: Buffer, at: number): number => {
  const high = bytes.readUInt32LE(at + 4)
  return high >= 0x20_0000 ? Number.POSITIVE_INFINITY : high * 0x1_0000_0000 + bytes.readUInt32LE(at)
}

/** One tree, as its meta page describes it. */
export interface TreeMeta {
  readonly flags: number
  readonly depth: number
  readonly branchPages: number
  readonly leafPages: number
  readonly overflowPages: number
  readonly entries: number
  /** Infinite when the tree is empty. */
  readonly root: number
}

export interface Meta {
  readonly isMeta: boolean
  readonly dataVersion: number
  readonly mapSize: number
  readonly pageSize: number
  readonly free: TreeMeta
  readonly main: TreeMeta
  readonly lastPage: number
  readonly txn: number
}

const treeMetaAt = (page: Buffer, at: number): TreeMeta => ({
  flags: page.readUInt16LE(at + 4),
  depth: page.readUInt16LE(at + 6),
  branchPages: u64(page, at + 8),
  leafPages: u64(page, at + 16),
  overflowPages: u64(page, at + 24),
  entries: u64(page, at + 32),
  root: u64(page, at + 40)
})

const metaOf = (page: Buffer): Meta => ({
  isMeta: page.readUInt16LE(18) === PageFlag.Meta && page.readUInt32LE(24) === 0xbeefc0de,
  dataVersion: page.readUInt32LE(28) & 0xffff,
  mapSize: u64(page, 40),
  pageSize: page.readUInt32LE(48),
  free: treeMetaAt(page, 48),
  main: treeMetaAt(page, 96),
  lastPage: u64(page, 144),
  txn: u64(page, 152)
})

const isPageSize = (size: number) => size >= 512 && size <= 65_536 && (size & (size - 1)) === 0

export class PageFile {
  readonly size: number
  readonly pageSize: number
  /** `undefined` where the file ends before it. */
  readonly metas: readonly [Meta | undefined, Meta | undefined]
  private readonly fd: number
  private readonly chunks = new Map<number, Buffer>()
  /** Gone from `chunks`, but what was given out of them may still be in use. */
  private readonly retired: Array<Buffer> = []
  /** To be read into again: new memory for each chunk would take longer than reading it. */
  private readonly spare: Array<Buffer> = []

  private constructor(fd: number) {
    this.fd = fd
    this.size = fstatSync(fd).size
    const first = this.size >= 176 ? metaOf(this.bytes(0, 176)!) : undefined
    this.pageSize = first !== undefined && isPageSize(first.pageSize) ? first.pageSize : this.guessPageSize()
    const second = this.bytes(this.pageSize, 176)
    this.metas = [first, second === undefined ? undefined : metaOf(second)]
  }

  static open(file: string): PageFile {
    const fd = openSync(file, "r")
    try {
      return new PageFile(fd)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** What was given out before is not looked at any more. */
  release(): void {
    if (this.retired.length > 0) this.spare.push(...this.retired.splice(0))
  }

  close(): void {
    this.chunks.clear()
    closeSync(this.fd)
  }

  /** Whole pages there are. */
  get pages(): number {
    return Math.floor(this.size / this.pageSize)
  }

  /** `undefined` where the file ends before it, and where the disk does not give it back. */
  page(number: number): Buffer | undefined {
    return number < this.pages ? this.bytes(number * this.pageSize, this.pageSize) : undefined
  }

  bytes(offset: number, length: number): Buffer | undefined {
    if (!(offset + length <= this.size)) return undefined
    const index = Math.floor(offset / chunkSize)
    const within = offset - index * chunkSize
    if (within + length > chunkSize) return this.read(offset, length)
    const chunk = this.chunk(index)
    return chunk === undefined || within + length > chunk.length
      ? this.read(offset, length)
      : chunk.subarray(within, within + length)
  }

  private chunk(index: number): Buffer | undefined {
    const kept = this.chunks.get(index)
    if (kept !== undefined) return kept
    const offset = index * chunkSize
    const length = Math.min(chunkSize, this.size - offset)
    const chunk = this.read(offset, length, length === chunkSize ? this.spare.pop() : undefined)
    if (chunk === undefined) return undefined
    if (this.chunks.size >= chunksKept) {
      const [oldest, bytes] = this.chunks.entries().next().value!
      this.chunks.delete(oldest)
      if (bytes.length === chunkSize) this.retired.push(bytes)
    }
    this.chunks.set(index, chunk)
    return chunk
  }

  private read(offset: number, length: number, into?: Buffer): Buffer | undefined {
    const bytes = into ?? Buffer.allocUnsafeSlow(length)
    try {
      let done = 0
      while (done < length) {
        const count = readSync(this.fd, bytes, done, length - done, offset + done)
        if (count === 0) return undefined
        done += count
      }
      return bytes
    } catch {
      return undefined
    }
  }

  /** The second meta page says it as well, and lies where it says. */
  private guessPageSize(): number {
    for (let size = 512; size <= 65_536; size *= 2) {
      const bytes = this.bytes(size, 176)
      if (bytes !== undefined && metaOf(bytes).isMeta && metaOf(bytes).pageSize === size) return size
    }
    return 4_096
  }
}
