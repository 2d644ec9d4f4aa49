/** One runtime's connection to the gateway: what leaves it, under faults, and what it counts. */
import { WebSocket } from "ws"
import type { Account } from "../../services/devCloud/Account.js"
import { defaultNonsense } from "../../services/devCloud/Faults.js"
import type { Mail } from "../../services/devCloud/Mailbox.js"
import { Outflow } from "../../services/devCloud/Outflow.js"
import type { World } from "./world.js"

export type GatewayFrame = { readonly event: string; readonly [field: string]: unknown }

/** What a journal keeps of a frame. */
export const withoutContent = ({ content, event, token, ...fields }: GatewayFrame): Record<string, unknown> =>
  typeof content === "string" ? { ...fields, bytes: Buffer.byteLength(content) } : fields

export class Connection {
  readonly id: number
  readonly openedAt: number
  account: Account | undefined
  scope: string | undefined
  /** Where the runtime was when it registered. */
  lastKnownSeq = 0
  /** The answer to REGISTER has left. */
  isReady = false
  /** Answers to REGISTER and SEND_MESSAGE. */
  readonly answers: Outflow<GatewayFrame>
  readonly deliveries: Outflow<Mail>
  private readonly world: World
  private readonly socket: WebSocket
  /** What a half-open connection would have sent. */
  private stalledFor: Array<string> | undefined
  /** The highest number sent in the older form, and whether DELIVERY_PENDING is due for it. */
  private sentUpTo = 0
  private isPendingDue = false

  constructor(world: World, socket: WebSocket, onReady: (connection: Connection) => void) {
    this.world = world
    this.socket = socket
    this.id = world.nextConnection()
    this.openedAt = world.now()
    const garble = (text = defaultNonsense) => this.transmit(text)
    const cut = () => this.cut()
    const { board, later } = world
    this.answers = new Outflow<GatewayFrame>(
      board,
      {
        write: (frame) => {
          this.send(frame)
          if (frame.event !== "REGISTER_ACK" || frame.status !== "ok" || this.isReady) return
          this.isReady = true
          onReady(this)
        },
        garble,
        cut
      },
      later
    )
    this.deliveries = new Outflow<Mail>(board, { write: (mail) => this.deliver(mail), garble, cut }, later)
  }

  get isOpen(): boolean {
    return this.socket.readyState === WebSocket.OPEN
  }

  get isStalled(): boolean {
    return this.stalledFor !== undefined
  }

  send(frame: GatewayFrame): void {
    if (!this.isOpen) return
    this.account?.counted("out", frame.event)
    this.world.journal.add(this.account?.name ?? null, {
      kind: "frame",
      direction: "out",
      connection: this.id,
      event: frame.event,
      fields: withoutContent(frame)
    })
    this.transmit(JSON.stringify(frame))
  }

  error(code: string, message: string, about: { readonly messageId?: string; readonly to?: string } = {}): void {
    this.send({ event: "ERROR", code, message, ...about })
  }

  /** Ends it with a close frame; one that is half-open hears nothing of it. */
  close(code: number, reason: string): void {
    if (this.isStalled) this.socket.terminate()
    else this.socket.close(code, reason)
  }

  /** Ends it without a word. */
  cut(): void {
    this.socket.terminate()
  }

  /** Half-open: nothing is read, answered or sent. */
  stall(): void {
    this.stalledFor ??= []
    this.socket.pause()
  }

  unstall(): void {
    const texts = this.stalledFor
    if (texts === undefined) return
    this.stalledFor = undefined
    this.socket.resume()
    for (const text of texts) this.transmit(text)
  }

  /** It has ended: nothing leaves any more. */
  forget(): void {
    this.isReady = false
    this.answers.close()
    this.deliveries.close()
  }

  private get scoped() {
    return this.scope === undefined ? {} : { runtimeSessionId: this.scope }
  }

  /** Where the mailbox is: what exists, and what was acknowledged. */
  announce(): void {
    const { acknowledged, last } = this.account!.mailbox
    this.send({ event: "DELIVERY_CURSOR", deliverySeq: last, deliveredSeq: acknowledged, ...this.scoped })
  }

  transmit(text: string): void {
    if (this.stalledFor !== undefined) this.stalledFor.push(text)
    else if (this.isOpen) this.socket.send(text)
  }

  private deliver({ isSkipped, notify, seq, ...message }: Mail): void {
    const isNumbered = this.account?.modes.form !== "pending"
    if (!isNumbered) {
      if (isSkipped) return
      this.send({ event: "MESSAGE_RECEIVED", ...message })
      this.sentUpTo = Math.max(this.sentUpTo, seq)
      this.pending()
    } else if (isSkipped) {
      const { messageId } = message
      this.send({ event: "DELIVERY_SKIP", seq, reason: "runtime_mailbox_dismissed", messageId, ...this.scoped })
    } else {
      this.send({ event: "MESSAGE_RECEIVED", ...message, seq, ...this.scoped })
    }
  }

  /** The older form: after the messages of a turn, how many wait and what to acknowledge. */
  private pending(): void {
    if (this.isPendingDue) return
    this.isPendingDue = true
    setImmediate(() => {
      this.isPendingDue = false
      const count = this.account!.mailbox.waiting
      this.send({ event: "DELIVERY_PENDING", count, upTo: pendingMark(this.sentUpTo) })
    })
  }
}

/** What the older form calls a place in the mailbox. */
export const pendingMark = (seq: number): string => `cur-${seq}`

export const seqOfMark = (mark: string): number | undefined => {
  const match = /^cur-(\d{1,15})$/.exec(mark)
  return match === null ? undefined : Number(match[1])
}
