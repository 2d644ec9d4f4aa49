/**
 * Server-sent events, from bytes to frames. What a chunk ends in the middle of (a character, a CR LF pair, a line, a frame)
 * goes on with the next one; what the stream ends in the middle of is discarded.
 */

export type StreamItem =
  /** A frame with data; its lines are joined with LF. */
  | { readonly _tag: "Event"; readonly id: string | undefined; readonly data: string }
  /** A frame without data that names a position. */
  | { readonly _tag: "Position"; readonly id: string }
  /** The server wishes to be left alone so long after the connection is lost, milliseconds. */
  | { readonly _tag: "Retry"; readonly ms: number }
  /** A frame with more data than is read. It was dropped; nothing of it is kept but its id. */
  | { readonly _tag: "TooLarge"; readonly id: string | undefined }

/** What an overlong line is known by. */
const nameLength = 16

/** One connection's stream. Holds never more than `limit` characters of data and as many of an unfinished line. */
export class EventStreamParser {
  private readonly limit: number
  // Drops a byte order mark at the very beginning, and puts U+FFFD for what is no UTF-8.
  private readonly decoder = new TextDecoder("utf-8")
  private line = ""
  private isLineTooLong = false
  /** The line feed that may come next belongs to a carriage return that has ended its line already. */
  private isAfterReturn = false
  private id: string | undefined
  private data: Array<string> = []
  private size = 0
  private isTooLarge = false
  private items: Array<StreamItem> = []

  constructor(limit: number) {
    this.limit = limit
  }

  /** What the bytes complete, in order. */
  push(bytes: Uint8Array): ReadonlyArray<StreamItem> {
    const text = this.decoder.decode(bytes, { stream: true })
    this.items = []
    let from = 0
    if (this.isAfterReturn && text !== "") {
      this.isAfterReturn = false
      if (text.startsWith("\n")) from = 1
    }
    const ends = /\r\n|\r|\n/g
    ends.lastIndex = from
    for (let end = ends.exec(text); end !== null; end = ends.exec(text)) {
      this.append(text.slice(from, end.index))
      this.endLine()
      from = ends.lastIndex
      this.isAfterReturn = end[0] === "\r" && from === text.length
    }
    this.append(text.slice(from))
    return this.items
  }

  private append(text: string): void {
    if (this.isLineTooLong || text === "") return
    this.line += text
    if (this.line.length <= this.limit) return
    this.isLineTooLong = true
    this.line = this.line.slice(0, nameLength)
  }

  private endLine(): void {
    const { isLineTooLong, line } = this
    this.line = ""
    this.isLineTooLong = false
    if (line === "") this.endFrame()
    else if (!line.startsWith(":")) this.addField(line, isLineTooLong)
  }

  /** Of a line that is too long only the beginning is there: data is missed, anything else is not needed. */
  private addField(line: string, isCut: boolean): void {
    const colon = line.indexOf(":")
    const name = colon === -1 ? line : line.slice(0, colon)
    const rest = colon === -1 ? "" : line.slice(colon + 1)
    const value = rest.startsWith(" ") ? rest.slice(1) : rest
    if (name === "data") this.addData(isCut ? undefined : value)
    if (name === "id" && !isCut && value !== "" && !value.includes("\0")) this.id = value
    if (name === "retry" && !isCut && /^\d{1,9}$/.test(value)) this.items.push({ _tag: "Retry", ms: Number(value) })
  }

  private addData(value: string | undefined): void {
    this.size += value === undefined ? this.limit : value.length + (this.data.length === 0 ? 0 : 1)
    if (value !== undefined && this.size <= this.limit && !this.isTooLarge) {
      this.data.push(value)
      return
    }
    this.isTooLarge = true
    this.data = []
  }

  private endFrame(): void {
    const { data, id, isTooLarge } = this
    this.id = undefined
    this.data = []
    this.size = 0
    this.isTooLarge = false
    if (isTooLarge) this.items.push({ _tag: "TooLarge", id })
    else if (data.length > 0) this.items.push({ _tag: "Event", id, data: data.join("\n") })
    else if (id !== undefined) this.items.push({ _tag: "Position", id })
  }
}

/** True for ids a request header can repeat. */
export const isPosition = (id: string | undefined): id is string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for.
  id !== undefined && id !== "" && id.length <= 512 && !/[\u0000-\u001f\u007f]/.test(id) && id.trim() === id
