/**
 * What a power cut may leave of files, from a recording made by `scripts/powercut/recordDisk.c`.
 *
 * The disk of this model keeps what was synced. Of the rest it keeps any subset, in sectors of 512 bytes; a sector is whole or
 * not written. Names are kept in the order they were changed in, as journals do: all before the last sync of a directory, then
 * as many as it likes.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"

const sector = 512
const headBytes = 25

/** Of a file that exists, or did. */
interface Disk {
  durable: Buffer
  /** Not synced, in order; a cut to a length has no bytes. */
  pending: Array<{ readonly at: number; readonly bytes: Buffer | undefined }>
}

type NameChange =
  | { readonly _tag: "Put"; readonly name: string; readonly file: Disk | "directory" }
  | { readonly _tag: "Remove"; readonly name: string }
  | { readonly _tag: "Rename"; readonly from: string; readonly to: string }

export interface Record {
  readonly kind: string
  readonly inode: bigint
  readonly at: number
  readonly payload: Buffer
}

/** The records of a log; the last may be torn. */
export const readLog = (file: string): ReadonlyArray<Record> => {
  const bytes = readFileSync(file)
  const records: Array<Record> = []
  for (let at = 0; at + headBytes <= bytes.length; ) {
    const end = at + headBytes + Number(bytes.readBigUInt64LE(at + 17))
    if (end > bytes.length) break
    const kind = String.fromCharCode(bytes[at]!)
    const place = Number(bytes.readBigUInt64LE(at + 9))
    records.push({
      kind,
      inode: bytes.readBigUInt64LE(at + 1),
      at: place,
      payload: bytes.subarray(at + headBytes, end)
    })
    at = end
  }
  return records
}

/** Files below one directory, as the recorded operations leave them one after the other. */
export class Replay {
  /** Everything said so far. */
  said = ""
  private readonly directory: string
  private readonly byInode = new Map<bigint, Disk>()
  private durableNames = new Map<string, Disk | "directory">()
  private pendingNames: Array<NameChange> = []

  /** `directory` was empty when the recording began, or held what an earlier recording left. */
  constructor(directory: string) {
    this.directory = directory
  }

  apply({ at, inode, kind, payload }: Record): void {
    const file = () => this.fileOf(inode)
    switch (kind) {
      case "c": {
        const fresh = { durable: Buffer.alloc(0), pending: [] }
        this.byInode.set(inode, fresh)
        this.pendingNames.push({ _tag: "Put", name: this.nameOf(payload), file: fresh })
        return
      }
      case "w":
        file().pending.push({ at, bytes: payload })
        return
      case "o":
      case "t":
        file().pending.push({ at, bytes: undefined })
        return
      case "s": {
        const synced = file()
        synced.durable = synced.pending.reduce((content, change) => changed(content, change), synced.durable)
        synced.pending = []
        return
      }
      case "r":
        syncRange(file(), at, Number(payload.readBigUInt64LE(0)))
        return
      case "S":
        this.durableNames = this.namesAfter(this.pendingNames.length)
        this.pendingNames = []
        return
      case "m":
        this.pendingNames.push({ _tag: "Put", name: this.nameOf(payload), file: "directory" })
        return
      case "u":
        this.pendingNames.push({ _tag: "Remove", name: this.nameOf(payload) })
        return
      case "n": {
        const zero = payload.indexOf(0)
        const [from, to] = [payload.subarray(0, zero), payload.subarray(zero + 1)].map((each) => this.nameOf(each))
        this.pendingNames.push({ _tag: "Rename", from: from!, to: to! })
        return
      }
      case "p":
        this.said += payload.toString()
        return
      default:
        throw new Error(`nobody can replay a record of kind ${kind}`)
    }
  }

  /** Writes what a cut at this moment leaves into `target`. `random` is uniform in [0, 1). */
  cut(target: string, random: () => number): void {
    mkdirSync(target, { recursive: true, mode: 0o700 })
    // Often all or nothing, else a part: by sectors, or by whole writes.
    const share = [0, 0.1, 0.5, 0.9, 1][Math.floor(random() * 5)]!
    const byWrites = random() < 0.3
    const names = this.namesAfter(Math.floor(random() * (this.pendingNames.length + 1)))
    for (const [name, file] of [...names].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const place = path.join(target, name)
      if (file === "directory") mkdirSync(place, { recursive: true, mode: 0o700 })
      else {
        mkdirSync(path.dirname(place), { recursive: true, mode: 0o700 })
        writeFileSync(place, leftOf(file, share, byWrites, random), { mode: 0o600 })
      }
    }
  }

  private fileOf(inode: bigint): Disk {
    const file = this.byInode.get(inode)
    if (file === undefined) throw new Error(`inode ${inode} was never created`)
    return file
  }

  private nameOf(bytes: Buffer): string {
    return path.relative(this.directory, bytes.toString())
  }

  /** The names, with so many of the changes that were not synced. */
  private namesAfter(count: number): Map<string, Disk | "directory"> {
    const names = new Map(this.durableNames)
    for (const change of this.pendingNames.slice(0, count)) {
      if (change._tag === "Put") names.set(change.name, change.file)
      else if (change._tag === "Remove") names.delete(change.name)
      else {
        for (const [name, file] of [...names]) {
          if (name !== change.from && !name.startsWith(`${change.from}/`)) continue
          names.delete(name)
          names.set(change.to + name.slice(change.from.length), file)
        }
      }
    }
    return names
  }
}

const changed = (content: Buffer, { at, bytes }: Disk["pending"][number]): Buffer => {
  if (bytes === undefined) return resized(content, at)
  const longer = at + bytes.length > content.length ? resized(content, at + bytes.length) : content
  bytes.copy(longer, at)
  return longer
}

const resized = (content: Buffer, length: number): Buffer => {
  const copy = Buffer.alloc(length)
  content.copy(copy, 0, 0, length)
  return copy
}

/** The last write was of this range, and is on the disk; nothing older comes over it. */
const syncRange = (file: Disk, at: number, length: number): void => {
  const written: Array<Disk["pending"][number]> = []
  while (written.reduce((sum, { bytes }) => sum + bytes!.length, 0) < length) written.unshift(file.pending.pop()!)
  for (const change of written) {
    file.durable = changed(file.durable, change)
    for (const { at: from, bytes } of file.pending) {
      const start = Math.max(from, change.at)
      const end = Math.min(from + (bytes?.length ?? 0), at + length)
      if (start < end) change.bytes!.copy(bytes!, start - from, start - change.at, end - change.at)
    }
  }
}

const leftOf = (file: Disk, share: number, byWrites: boolean, random: () => number): Buffer => {
  let content: Buffer = Buffer.from(file.durable)
  for (const { at, bytes } of file.pending) {
    if (bytes === undefined || byWrites) {
      if (random() < share) content = changed(content, { at, bytes })
      continue
    }
    for (let from = 0; from < bytes.length; ) {
      const until = Math.min(bytes.length, from + sector - ((at + from) % sector))
      if (random() < share) content = changed(content, { at: at + from, bytes: bytes.subarray(from, until) })
      from = until
    }
  }
  return content
}
