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

const steps = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1
  return c >>> 0
})

/** For versions of node without their own. */
export const plainCrc32 = (data: Uint8Array, start = 0): number => {
  let c = ~start
  for (const byte of data) c = steps[(c ^ byte) & 255]! ^ (c >>> 8)
  return ~c >>> 0
}

type Crc32 = (data: Uint8Array, start?: number) => number
export const crc32: Crc32 = (zlib as unknown as { readonly crc32?: Crc32 }).crc32 ?? plainCrc32

/** Of characters as bytes; for a short text, making a buffer of it would take longer than this. */
const crcOfText = (text: string): number => {
  let c = -1
  for (let at = 0; at < text.length; at++) c = steps[(c ^ text.charCodeAt(at)) & 255]! ^ (c >>> 8)
  return ~c >>> 0
}

/** Of a text that lies from `start` to `end`. */
const crcOfBytes = (bytes: Uint8Array, start: number, end: number): number => {
  let c = -1
  for (let at = start; at < end; at++) c = steps[(c ^ bytes[at]!) & 255]! ^ (c >>> 8)
  return ~c >>> 0
}

/** `<crc32 of key and the rest, 8 hex digits> <version> <JSON>` */
const checksumLength = 9
const blank = 32

/** Of a record that lies from `start` to `end`; its text begins behind the place of its checksum. */
const checksum = (ofKey: number, { buffer, byteOffset }: Uint8Array, start: number, end: number): number =>
  crc32(new Uint8Array(buffer, byteOffset + start + checksumLength, end - start - checksumLength), ofKey)

export const encode = (full: string, version: number, value: unknown): Buffer => {
  const text = `${version} ${JSON.stringify(value)}`
  const bytes = Buffer.allocUnsafe(checksumLength + Buffer.byteLength(text))
  bytes.write(text, checksumLength)
  const sum = checksum(crcOfText(full), bytes, 0, bytes.length)
  bytes.write(`${sum.toString(16).padStart(8, "0")} `, 0, "latin1")
  return bytes
}

/** The number that 8 bytes spell; `undefined` where they spell none. */
const writtenChecksum = (bytes: Buffer, start: number): number | undefined => {
  let sum = 0
  for (let at = start; at < start + checksumLength - 1; at++) {
    const code = bytes[at]!
    const digit = code < 58 ? code - 48 : code - 87
    if (digit < 0 || digit > 15 || (code >= 58 && digit < 10)) return undefined
    sum = sum * 16 + digit
  }
  return sum
}

const isWritten = (ofKey: number, bytes: Buffer, start: number, end: number): boolean =>
  end - start > checksumLength + 1 &&
  bytes[start + checksumLength - 1] === blank &&
  writtenChecksum(bytes, start) === checksum(ofKey, bytes, start, end)

/** Whether key and value are what was written. */
export const isWhole = (full: string, value: Buffer): boolean => isWritten(crcOfText(full), value, 0, value.length)

/** The same of a key that lies as text from `keyStart` to `keyEnd`, and a value from `start` to `end`. */
export const isWholeIn = (
  keys: Buffer,
  keyStart: number,
  keyEnd: number,
  values: Buffer,
  start: number,
  end: number
): boolean => isWritten(crcOfBytes(keys, keyStart, keyEnd), values, start, end)

/** The version of a whole record that begins at `start`. */
export const recordVersion = (bytes: Buffer, start = 0): number => {
  let version = 0
  for (let at = start + checksumLength; at < bytes.length && bytes[at] !== blank; at++)
    version = version * 10 + bytes[at]! - 48
  return version
}

/** The value of a whole record. */
export const recordValue = (bytes: Buffer): unknown =>
  JSON.parse(bytes.toString("utf8", bytes.indexOf(blank, checksumLength) + 1, bytes.length))

/** A whole record as a line of JSON `{"table","key","version","value"}`, its value as it was written. */
export const exportLine = (full: string, bytes: Buffer): string => {
  const { key, table } = partsOf(full)
  const value = bytes.toString("utf8", bytes.indexOf(blank, checksumLength) + 1, bytes.length)
  return `{"table":${JSON.stringify(table)},"key":${JSON.stringify(key)},"version":${recordVersion(bytes)},"value":${value}}\n`
}
