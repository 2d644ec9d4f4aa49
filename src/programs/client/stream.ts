/** One WebSocket to the broker, from its opening to its end. */
import type { IncomingMessage } from "node:http"
import type { WebSocket } from "ws"
import { BrokerClientError } from "./errors.js"
import { announced, isRecord, type KnownBroker } from "./wire.js"

/** How the client finds out that a stream is dead. */
export interface Heartbeat {
  /** Between pings; zero or less: none are sent. */
  readonly intervalMs: number
  /** A ping not answered for so long is missed. */
  readonly timeoutMs: number
  /** So many in a row end the stream. */
  readonly misses: number
}

export interface StreamOptions {
  readonly broker: KnownBroker
  readonly pluginPid: number
  readonly heartbeat: Heartbeat
  /** The stream is open; frames come after this. */
  readonly onOpen: (stream: BrokerStream) => void
  /** A JSON object that came as a text frame. */
  readonly onFrame: (stream: BrokerStream, frame: Readonly<Record<string, unknown>>) => void
  /** The stream ended, whoever ended it; once, and only when it had been open. */
  readonly onEnd: (stream: BrokerStream) => void
  /** What went wrong on the way; the stream's end is told apart. */
  readonly onError: (error: Error) => void
}

const handshakeMs = 10_000
/** How long the broker has to answer the closing handshake. */
const closingMs = 1_000

/** The broker refused the stream, and says when to come again, if it does. */
export class StreamRefusedError extends BrokerClientError {
  readonly status: number
  readonly retryAfterMs: number
  constructor(status: number, retryAfterMs: number) {
    super(`The broker refused the stream with status ${status}.`, "stream_refused", true)
    this.status = status
    this.retryAfterMs = retryAfterMs
  }
}

export class BrokerStream {
  readonly #socket: WebSocket
  readonly #options: StreamOptions
  readonly #ended: Promise<void>
  #beats: NodeJS.Timeout | undefined
  #pong: NodeJS.Timeout | undefined
  #misses = 0
  #wasOpen = false

  private constructor(socket: WebSocket, options: StreamOptions) {
    this.#socket = socket
    this.#options = options
    this.#ended = new Promise((resolve) => socket.once("close", () => resolve()))
    socket.on("message", (data, isBinary) => this.#receive(String(data), isBinary))
    socket.on("pong", () => this.#alive())
  }

  /** Fails when the broker refuses or the signal comes first; nothing is left open then. */
  static async open(options: StreamOptions, signal: AbortSignal): Promise<BrokerStream> {
    const { WebSocket } = await import("ws")
    signal.throwIfAborted()
    const socket = new WebSocket(`${options.broker.ipcUrl.replace(/^http/, "ws")}/v1/stream`, {
      headers: {
        authorization: `Bearer ${options.broker.bearerToken}`,
        "x-plugin-pid": String(options.pluginPid),
        "x-masons-ipc-capabilities": announced.join(",")
      },
      handshakeTimeout: handshakeMs,
      perMessageDeflate: false
    })
    const stream = new BrokerStream(socket, options)
    await new Promise<void>((resolve, reject) => {
      const stop = () => {
        reject(signal.reason)
        socket.terminate()
      }
      signal.addEventListener("abort", stop, { once: true })
      socket.once("close", () => signal.removeEventListener("abort", stop))
      socket.on("error", (error) => {
        reject(error)
        // Before it was open the caller is told by the failure.
        if (stream.#wasOpen) options.onError(error)
      })
      socket.once("unexpected-response", (request, response) => {
        reject(new StreamRefusedError(response.statusCode ?? 0, retryAfterMs(response)))
        request.destroy()
      })
      socket.once("open", () => {
        signal.removeEventListener("abort", stop)
        stream.#opened()
        resolve()
      })
    })
    return stream
  }

  get isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN
  }

  /** False when the stream is not open; true says nothing about arrival. */
  send(frame: object): boolean {
    return this.sendText(JSON.stringify(frame))
  }

  sendText(frame: string): boolean {
    if (!this.isOpen) return false
    this.#socket.send(frame)
    return true
  }

  /** Says goodbye and waits for its answer, not for long. */
  async close(code: number, reason: string): Promise<void> {
    this.#stopBeats()
    this.#socket.close(code, reason)
    const late = setTimeout(() => this.#socket.terminate(), closingMs)
    await this.#ended
    clearTimeout(late)
  }

  #opened() {
    this.#wasOpen = true
    this.#socket.once("close", () => {
      this.#stopBeats()
      this.#options.onEnd(this)
    })
    this.#startBeats()
    this.#options.onOpen(this)
  }

  #receive(text: string, isBinary: boolean) {
    const frame = isBinary ? undefined : parse(text)
    if (isRecord(frame)) return this.#options.onFrame(this, frame)
    this.#options.onError(new Error(`The broker sent a frame of ${text.length} characters that is no JSON object.`))
  }

  #startBeats() {
    const { intervalMs, misses, timeoutMs } = this.#options.heartbeat
    if (!(intervalMs > 0 && Number.isFinite(intervalMs))) return
    this.#beats = setInterval(() => {
      if (this.#pong !== undefined || !this.isOpen) return
      this.#socket.ping()
      this.#pong = setTimeout(() => {
        this.#pong = undefined
        if (++this.#misses >= misses) this.#socket.terminate()
      }, timeoutMs)
    }, intervalMs)
  }

  #alive() {
    clearTimeout(this.#pong)
    this.#pong = undefined
    this.#misses = 0
  }

  #stopBeats() {
    clearInterval(this.#beats)
    clearTimeout(this.#pong)
  }
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const retryAfterMs = (response: IncomingMessage): number => {
  const seconds = Number(response.headers["retry-after"])
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : 0
}
