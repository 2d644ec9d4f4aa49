/** How much room the disk of a store has, against the limit below which no new mail is taken. */
import { statfs } from "node:fs/promises"

/** What the file system says; `undefined` where it cannot be told. */
export const freeDisk = (directory: string): Promise<number | undefined> =>
  statfs(directory).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => undefined
  )

const MiB = 2 ** 20

export interface Shortage {
  /** Epoch milliseconds. */
  readonly since: number
  readonly reason: string
}

/** The room there was when it was last looked at, less what the store has taken since. */
export class Room {
  private readonly directory: string
  private readonly limit: number
  private readonly now: () => number
  private free: number | undefined
  private since: number | undefined

  constructor(directory: string, limit: number, now: () => number) {
    this.directory = directory
    this.limit = limit
    this.now = now
  }

  /** So many bytes are free now. */
  seen(free: number | undefined): void {
    this.free = free
    this.since = free !== undefined && free < this.limit ? (this.since ?? this.now()) : undefined
  }

  /** The store's files grew by so many bytes. */
  taken(bytes: number): void {
    if (this.free !== undefined && bytes !== 0) this.seen(this.free - bytes)
  }

  /** `undefined` while there is enough. */
  shortage(): Shortage | undefined {
    if (this.since === undefined) return undefined
    const free = Math.max(0, Math.floor(this.free! / MiB))
    return {
      since: this.since,
      reason: `the disk of ${this.directory} has ${free} MiB free, and new mail needs ${Math.ceil(this.limit / MiB)} MiB (setting freeDiskBytes)`
    }
  }
}
