/** How a record lies in the file: its key behind the name of its table, its value as JSON behind checksum and version. */
import * as zlib from "node:zlib"
import type { Key } from "../../services/Store.js"

/** Between table and key: smaller than any character of a key, so that a table's records lie together, in key order. */
const separator = "\u0001"

export const fullKey = (table: string, key: Key): string => `${table}${separator}${key}`

/** Table and key of a record; the table is empty where the text is no such key. */
export const partsOf = (full: string): { readonly table: string; readonly key: Key } => {
  const end = full.indexOf(separator)
  return end < 0 ? { table: "", key: full } : { table: full.slice(0, end), key: full.slice(end + 1) }
}

const tableOf256 = () =>
  Uint32Array.from({ length: 256 }, (_, n) => {
    let c = n
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1
    return c >>> 0
  })

/** For versions of node without their own. */
export const plainCrc32 = () => {
  const steps = tableOf256()
  return (data: Uint8Array, start = 0): number => {
    let c = ~start
    for (const byte of data) c = steps[(c ^ byte) & 255]! ^ (c >>> 8)
    return ~c >>> 0
  }
}

type Crc32 = (data: Uint8Array, start?: number) => number
export const crc32: Crc32 = (zlib as unknown as { readonly crc32?: Crc32 }).crc32 ?? plainCrc32()

/** `<crc32 of key and the rest, 8 hex digits> <version> <JSON>` */
const checksumLength = 9

const checksum = (full: string, rest: Uint8Array) => crc32(rest, crc32(Buffer.from(full, "latin1")))

export const encode = (full: string, version: number, value: unknown): Buffer => {
  const text = `${version} ${JSON.stringify(value)}`
  const bytes = Buffer.allocUnsafe(checksumLength + Buffer.byteLength(text))
  bytes.write(text, checksumLength)
  const sum = checksum(full, bytes.subarray(checksumLength))
  bytes.write(`${sum.toString(16).padStart(8, "0")} `, 0, "latin1")
  return bytes
}

/** Whether key and value are what was written. */
export const isWhole = (full: string, bytes: Buffer): boolean =>
  bytes.length > checksumLength + 1 &&
  Number.parseInt(bytes.toString("latin1", 0, 8), 16) === checksum(full, bytes.subarray(checksumLength)) &&
  bytes[8] === 32

/** The version of a whole record. */
export const recordVersion = (bytes: Buffer): number =>
  Number(bytes.toString("latin1", checksumLength, bytes.indexOf(32, checksumLength)))

/** The value of a whole record. */
export const recordValue = (bytes: Buffer): unknown =>
  JSON.parse(bytes.toString("utf8", bytes.indexOf(32, checksumLength) + 1, bytes.length))

/** A whole record as a line of JSON `{"table","key","version","value"}`, its value as it was written. */
export const exportLine = (full: string, bytes: Buffer): string => {
  const { key, table } = partsOf(full)
  const value = bytes.toString("utf8", bytes.indexOf(32, checksumLength) + 1, bytes.length)
  return `{"table":${JSON.stringify(table)},"key":${JSON.stringify(key)},"version":${recordVersion(bytes)},"value":${value}}\n`
}
