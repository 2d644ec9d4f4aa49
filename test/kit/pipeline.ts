/** Many HTTP requests over one socket, written as bytes, and the answers read back in order. */
import { connect, type Socket } from "node:net"
import { Effect, type Scope } from "effect"

export interface PipelinedAnswer {
  readonly status: number
  /** Names in lower case. */
  readonly headers: { readonly [name: string]: string | undefined }
  readonly text: string
}

/** What was received is no HTTP answer. */
export class NoAnswer extends Error {}

/** Reads answers from the bytes of a connection. Answers to HEAD have no body, so it must know the methods asked with. */
export class AnswerReader {
  readonly answers: Array<PipelinedAnswer> = []
  private bytes: Buffer = Buffer.alloc(0)
  private readonly methods: Array<string>

  constructor(methods: ReadonlyArray<string> = []) {
    this.methods = [...methods]
  }

  expect(methods: ReadonlyArray<string>): void {
    this.methods.push(...methods)
  }

  push(chunk: Buffer): void {
    this.bytes = this.bytes.length === 0 ? chunk : Buffer.concat([this.bytes, chunk])
    while (this.readOne()) {
      // Until what is left is not a whole answer.
    }
  }

  private readOne(): boolean {
    const end = this.bytes.indexOf("\r\n\r\n")
    if (end < 0) return false
    const [statusLine, ...lines] = this.bytes.subarray(0, end).toString("latin1").split("\r\n")
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine!)?.[1])
    if (Number.isNaN(status)) {
      const before = this.answers.at(-1)
      throw new NoAnswer(`This is no answer: ${JSON.stringify(statusLine)}, after ${JSON.stringify(before)}`)
    }
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()])
    )
    const rest = this.bytes.subarray(end + 4)
    if (status === 100) {
      this.bytes = rest
      return true
    }
    const hasBody = status !== 101 && status !== 204 && status !== 304 && this.methods[0] !== "HEAD"
    const body = hasBody ? bodyIn(rest, headers) : { bytes: Buffer.alloc(0), length: 0 }
    if (body === undefined) return false
    this.methods.shift()
    this.bytes = rest.subarray(body.length)
    this.answers.push({ status, headers, text: body.bytes.toString("utf8") })
    // What follows is another protocol.
    if (status === 101) this.bytes = Buffer.alloc(0)
    return status !== 101
  }
}

/** The body at the beginning of `bytes`, once it is whole, and how many bytes it takes there. */
const bodyIn = (bytes: Buffer, headers: PipelinedAnswer["headers"]): { bytes: Buffer; length: number } | undefined => {
  if (headers["transfer-encoding"] !== "chunked") {
    const length = Number(headers["content-length"] ?? 0)
    return bytes.length < length ? undefined : { bytes: bytes.subarray(0, length), length }
  }
  const parts: Array<Buffer> = []
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf("\r\n", at)
    if (lineEnd < 0) return undefined
    const size = Number.parseInt(bytes.subarray(at, lineEnd).toString("latin1"), 16)
    const next = lineEnd + 2 + size + 2
    if (bytes.length < next) return undefined
    if (size === 0) return { bytes: Buffer.concat(parts), length: next }
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size))
    at = next
  }
}

/** How long a connection may say nothing before the test gives up on it. */
const patienceMs = 15_000

/** A connection that is kept; requests go out in batches. */
export class Pipeline {
  isOpen = true
  private readonly socket: Socket
  private readonly reader = new AnswerReader()
  private onChange: (() => void) | undefined
  private failure: Error | undefined

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1")
    this.socket.setNoDelay(true)
    this.socket.on("data", (chunk: Buffer) => {
      try {
        this.reader.push(chunk)
      } catch (error) {
        this.failure = error as Error
      }
      this.onChange?.()
    })
    this.socket.on("error", () => undefined)
    this.socket.on("close", () => {
      this.isOpen = false
      this.onChange?.()
    })
  }

  /** Sends the bytes of as many requests as there are methods, and reads as many answers; fewer when it is closed. */
  exchange(bytes: Buffer, methods: ReadonlyArray<string>): Promise<ReadonlyArray<PipelinedAnswer>> {
    return new Promise((resolve, reject) => {
      const { answers } = this.reader
      const finish = (end: () => void) => {
        clearTimeout(timer)
        this.onChange = undefined
        end()
      }
      const timer = setTimeout(
        () => finish(() => reject(new NoAnswer(`${answers.length} of ${methods.length} answers came`))),
        patienceMs
      )
      this.onChange = () => {
        if (this.failure !== undefined) return finish(() => reject(this.failure))
        if (answers.length < methods.length && this.isOpen) return
        finish(() => resolve(answers.splice(0)))
      }
      this.reader.expect(methods)
      this.socket.write(bytes)
      this.onChange()
    })
  }

  close(): void {
    this.socket.destroy()
  }
}

/** How a client leaves a connection: by the book, at once, or with a reset. */
export type Ending = "end" | "destroy" | "reset"

/** Sends the pieces over a connection of their own, leaves it as told, and returns what was answered until it was closed. */
export const converse = (
  port: number,
  pieces: ReadonlyArray<Buffer>,
  ending: Ending
): Promise<ReadonlyArray<PipelinedAnswer>> =>
  new Promise((resolve, reject) => {
    const reader = new AnswerReader()
    let isOther = false
    const socket = connect(port, "127.0.0.1")
    socket.setNoDelay(true)
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new NoAnswer(`neither answered nor closed after "${ending}"`))
    }, patienceMs)
    const leave = () => {
      if (ending === "end") socket.end()
      else if (ending === "destroy") socket.destroy()
      else socket.resetAndDestroy()
    }
    const write = (n: number) => {
      if (socket.destroyed) return
      const piece = pieces[n]
      if (piece === undefined) return leave()
      socket.write(piece, () => setImmediate(write, n + 1))
    }
    socket.on("connect", () => write(0))
    socket.on("data", (chunk: Buffer) => {
      try {
        if (!isOther) reader.push(chunk)
        isOther = reader.answers.some(({ status }) => status === 101)
      } catch (error) {
        clearTimeout(timer)
        socket.destroy()
        reject(error)
      }
    })
    socket.on("error", () => undefined)
    socket.on("close", () => {
      clearTimeout(timer)
      resolve(reader.answers)
    })
  })

/** Sends the text over a connection that the client, whatever it is answered, does not end until the test does. */
export const staysOpen = (port: number, text: string): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Socket>((resume) => {
      const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true })
      socket.on("error", () => undefined)
      socket.on("connect", () => socket.write(text))
      socket.once("data", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  ).pipe(Effect.asVoid)
