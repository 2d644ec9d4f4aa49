/**
 * A gateway on a real WebSocket server on loopback. It answers as the protocol says until a test tells it otherwise, keeps what it
 * delivers until that is acknowledged, and remembers everything it hears.
 */
import type { IncomingMessage } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import { Effect, type Scope } from "effect"
import { type WebSocket, WebSocketServer } from "ws"

export type Frame = { readonly event: string; readonly [field: string]: any }

/** A message in the gateway's mailbox. */
interface Kept {
  readonly seq: number
  readonly frame: Frame
}

export class FakeGateway {
  readonly url: string
  /** Frames of all connections, in order; REGISTER frames apart. */
  readonly heard: Array<Frame> = []
  readonly registered: Array<Frame> = []
  /** How connections ended, as the other side said it. */
  readonly closes: Array<{ readonly code: number; readonly reason: string }> = []
  /** TCP connections that were opened, and those that asked to become WebSockets. */
  connections = 0
  handshakes = 0

  // -- what a test may change --------------------------------------------------------------------------------------------

  /** The answer to a registration; none for `undefined`. */
  register: (frame: Frame, attempt: number) => object | undefined = () => ({ status: "ok", protocolVersion: 4 })
  /** The answer to a send; none for `undefined`. */
  answer: (frame: Frame) => Frame | undefined = (frame) =>
    frame.to === "mstp://nobody"
      ? { event: "ERROR", messageId: frame.messageId, to: frame.to, code: "recipient_unknown", message: "nobody" }
      : { event: "SEND_ACK", messageId: frame.messageId, status: "stored" }
  /** What is done with a handshake: `hang` leaves it open, a number is the status it is refused with. */
  handshake: "take" | "hang" | number = "take"
  /** Numbers the messages; the older gateway does not. */
  numbers = true
  /** Sends what is kept when the connector registers or asks for it. */
  redelivers = true

  /** Pings that were heard. */
  pings = 0
  private pongs = 0

  private readonly server: WebSocketServer
  private readonly sockets = new Set<Socket>()
  private current: WebSocket | undefined
  private hanging: Socket | undefined
  private kept: Array<Kept> = []
  private last = 0

  static readonly make: Effect.Effect<FakeGateway, never, Scope.Scope> = Effect.acquireRelease(
    Effect.async<FakeGateway>((resume) => {
      const server: WebSocketServer = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 1 << 26 }, () =>
        resume(Effect.succeed(new FakeGateway(server)))
      )
    }),
    (gateway) => Effect.async<void>((resume) => gateway.stop(() => resume(Effect.void)))
  )

  private constructor(server: WebSocketServer) {
    this.server = server
    this.url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/gateway`
    server.shouldHandle = () => true
    const http = (server as unknown as { _server: import("node:http").Server })._server
    http.on("connection", (socket) => {
      this.connections++
      this.sockets.add(socket)
      socket.on("error", () => undefined)
      socket.on("close", () => this.sockets.delete(socket))
    })
    const [upgrade] = http.listeners("upgrade") as [(request: IncomingMessage, socket: Socket, head: Buffer) => void]
    http.removeAllListeners("upgrade")
    http.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
      this.handshakes++
      if (this.handshake === "take") return upgrade(request, socket, head)
      if (this.handshake === "hang") {
        this.hanging = socket
        return
      }
      socket.end(`HTTP/1.1 ${this.handshake} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`)
    })
    server.on("connection", (socket) => this.serve(socket))
  }

  private serve(socket: WebSocket) {
    socket.on("error", () => undefined)
    socket.on("close", (code, reason) => {
      this.closes.push({ code, reason: String(reason) })
      if (this.current === socket) this.current = undefined
    })
    socket.on("ping", () => this.pings++)
    socket.on("pong", () => this.pongs++)
    socket.on("message", (data) => {
      const frame = JSON.parse(String(data)) as Frame
      if (frame.event !== "REGISTER") {
        this.heard.push(frame)
        return this.hear(frame)
      }
      this.registered.push(frame)
      this.current = socket
      const answer = this.register(frame, this.registered.length)
      if (answer !== undefined) this.say({ event: "REGISTER_ACK", ...answer })
      if (this.redelivers) this.resend(frame.lastKnownSeq)
    })
  }

  private hear(frame: Frame) {
    if (frame.event === "SEND_MESSAGE") {
      const answer = this.answer(frame)
      if (answer !== undefined) this.say(answer)
    }
    if (frame.event === "DELIVERY_ACK" && this.numbers) this.kept = this.kept.filter(({ seq }) => seq > frame.upToSeq)
    if (frame.event === "REQUEST_GAP_FILL" && this.redelivers) this.resend(frame.sinceSeq)
  }

  private resend(since: number) {
    if (this.numbers) this.say(...this.kept.filter(({ seq }) => seq > since).map(({ frame }) => frame))
  }

  // -- what a test does with it ------------------------------------------------------------------------------------------

  /** These frames, in one write. */
  say(...frames: ReadonlyArray<object>): void {
    const socket = this.current
    if (socket === undefined) return
    const { _socket } = socket as unknown as { _socket: Socket }
    _socket.cork()
    for (const frame of frames) socket.send(JSON.stringify(frame))
    _socket.uncork()
  }

  /** Any text, or any bytes as a binary frame. */
  sayRaw(data: string | Uint8Array): void {
    this.current?.send(data)
  }

  /** Bytes on the connection that are no frame. */
  write(bytes: Uint8Array): void {
    ;(this.current as unknown as { _socket: Socket } | undefined)?._socket.write(bytes)
  }

  /** A part of an answer to the handshake that hangs. */
  dribble(text: string): void {
    this.hanging?.write(text)
  }

  /** A new message in the mailbox, not sent; it goes with the next redelivery. The content doubles as the id. */
  keep(content: string, given: object = {}): Frame {
    const seq = ++this.last
    const frame = {
      event: "MESSAGE_RECEIVED",
      messageId: content,
      from: "mstp://acme.example/bob",
      content,
      contentType: "text",
      ...(this.numbers ? { seq } : {}),
      ...given
    }
    this.kept.push({ seq, frame })
    return frame
  }

  /** New messages, sent at once where there is a connection. */
  deliver(...contents: ReadonlyArray<string>): void {
    this.say(...contents.map((content) => this.keep(content)))
  }

  close(code: number, reason = ""): void {
    this.current?.close(code, reason)
  }

  /** The connection is gone without a word. */
  cut(): void {
    this.current?.terminate()
  }

  /** Done when the other side has heard everything said so far, although nothing more is said. */
  readonly roundTrip: Effect.Effect<void> = Effect.suspend(() => {
    const before = this.pongs
    this.current?.ping()
    return until("the other side answered a ping", () => this.pongs > before)
  })

  /** Half-open: nothing is read any more, not even pings. */
  freeze(): void {
    this.current?.pause()
  }

  /** Frames of this event, over all connections. */
  of(event: string): ReadonlyArray<Frame> {
    return this.heard.filter((frame) => frame.event === event)
  }

  /** Numbers up to which messages were acknowledged, in order. */
  get acknowledged(): ReadonlyArray<number> {
    return this.of("DELIVERY_ACK").map(({ upToSeq }) => upToSeq)
  }

  /** Numbers after which the gateway was asked to fill in, in order. */
  get askedSince(): ReadonlyArray<number> {
    return this.of("REQUEST_GAP_FILL").map(({ sinceSeq }) => sinceSeq)
  }

  /** Contents of the messages the mailbox keeps. */
  get mailbox(): ReadonlyArray<string> {
    return this.kept.map(({ frame }) => frame.content)
  }

  private stop(done: () => void) {
    for (const client of this.server.clients) client.terminate()
    for (const socket of this.sockets) socket.destroy()
    this.server.close(() => done())
  }
}

/** Waits, by the real clock, until it is so. */
export const until = (what: string, isSo: () => boolean): Effect.Effect<void> =>
  Effect.promise(async () => {
    const deadline = Date.now() + 10_000
    while (!isSo()) {
      if (Date.now() > deadline) throw new Error(`it did not come to this: ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  })
