/**
 * Messages on their way from the stream to the application: handed over one after the other in the order in which they came,
 * each answered with a receipt or a refusal once the application is done with it, and not before.
 */
import { asError } from "./errors.js"
import type { BrokerStream } from "./stream.js"
import { isRecord, type ReceivedMessage } from "./wire.js"

/** Takes a message: done when the promise is, refused when it fails. */
export type MessageHandler = (message: ReceivedMessage) => void | Promise<void>

/** A handler fails with it to refuse a message on purpose: the broker is told, and nobody else. */
export class Refused extends Error {}

/** A handler fails with it to leave a message untouched: whoever takes messages next gets it first. */
export class PutBack extends Error {}

export interface DeliveriesOptions {
  /** Hands a message to the listeners, which throw to refuse it. */
  readonly tellListeners: (message: ReceivedMessage) => void
  readonly hasListeners: () => boolean
  /** The application failed with a message. */
  readonly onFailure: (error: Error) => void
  /** There is room again for what was turned away: the broker pushes it on a new stream. */
  readonly onRoom: () => void
  /** How many messages, and how many characters of them, wait here at most. */
  readonly maxWaiting?: number
  readonly maxCharacters?: number
}

interface Waiting {
  readonly key: string | undefined
  readonly message: ReceivedMessage
  /** Where the receipt goes: the latest push of this message. */
  pushId: string | undefined
  stream: BrokerStream
}

/** As many as a broker may push again after a crash, several times over. */
const rememberedReceipts = 10_000
const longestReason = 500

export class Deliveries {
  readonly #options: DeliveriesOptions
  readonly #maxWaiting: number
  readonly #maxCharacters: number
  readonly #queue: Array<Waiting> = []
  #characters = 0
  #isHandingOver = false
  /** Waiting or in hand, by what tells messages apart. */
  readonly #open = new Map<string, Waiting>()
  /** What the application has taken; the oldest first. */
  readonly #taken = new Set<string>()
  #handler: MessageHandler | undefined
  /** Something was turned away: what comes after it must not overtake it. */
  #isOverfull = false
  #isClosed = false

  constructor(options: DeliveriesOptions) {
    this.#options = options
    this.#maxWaiting = options.maxWaiting ?? 10_000
    this.#maxCharacters = options.maxCharacters ?? 64 * 1024 * 1024
  }

  /** A `message_received` frame. */
  receive(stream: BrokerStream, frame: Readonly<Record<string, unknown>>): void {
    const { event: _, push_id, ...rest } = frame
    const pushId = typeof push_id === "string" ? push_id : undefined
    const message = rest as ReceivedMessage
    const key = keyOf(message)
    if (key !== undefined && this.#taken.has(key)) {
      acknowledge({ stream, pushId })
      return
    }
    const open = key === undefined ? undefined : this.#open.get(key)
    if (open !== undefined) {
      open.stream = stream
      open.pushId = pushId
      return
    }
    const waiting = { key, message, pushId, stream }
    const characters = this.#characters + lengthOf(waiting)
    this.#isOverfull ||= this.#queue.length >= this.#maxWaiting || characters > this.#maxCharacters
    if (this.#isOverfull) {
      if (pushId === undefined) this.#options.onFailure(new Error(`A message from ${message.from} found no room.`))
      return
    }
    this.#queue.push(waiting)
    this.#characters = characters
    if (key !== undefined) this.#open.set(key, waiting)
    this.wake()
  }

  /**
   * The stream is gone, and the broker pushes again whatever it has no receipt for. Messages that wait here are forgotten, so
   * that they are handled once even when the broker gives them to another session meanwhile; a broker without receipts counts
   * them as delivered, and they stay.
   */
  streamEnded(): void {
    const kept = this.#queue.filter(({ pushId }) => pushId === undefined)
    for (const { key, pushId } of this.#queue) if (key !== undefined && pushId !== undefined) this.#open.delete(key)
    this.#queue.splice(0, this.#queue.length, ...kept)
    this.#characters = kept.reduce((sum, waiting) => sum + lengthOf(waiting), 0)
    this.#isOverfull = false
  }

  /** Makes this the one handler. The answer takes it away again. */
  handleWith(handler: MessageHandler): () => void {
    if (this.#handler !== undefined) {
      throw new Error("Messages have a handler already: one onMessage or one loop over messages() at a time.")
    }
    this.#handler = handler
    queueMicrotask(() => this.wake())
    return () => {
      if (this.#handler === handler) this.#handler = undefined
    }
  }

  /** Goes on when there is somebody to hand messages to. */
  wake(): void {
    if (!this.#isHandingOver) void this.#handOver()
  }

  /** Nothing is handed over from now on. */
  close(): void {
    this.#isClosed = true
    this.#queue.length = 0
  }

  async #handOver() {
    this.#isHandingOver = true
    while (!this.#isClosed && (this.#handler !== undefined || this.#options.hasListeners())) {
      const next = this.#queue.shift()
      if (next === undefined) break
      this.#characters -= lengthOf(next)
      try {
        this.#options.tellListeners(next.message)
        await this.#handler?.(next.message)
        this.#take(next)
      } catch (error) {
        if (error instanceof PutBack) this.#putBack(next)
        else this.#refuse(next, asError(error))
      }
      if (this.#isOverfull && this.#queue.length === 0) this.#options.onRoom()
    }
    this.#isHandingOver = false
  }

  #putBack(waiting: Waiting) {
    this.#queue.unshift(waiting)
    this.#characters += lengthOf(waiting)
  }

  #take(waiting: Waiting) {
    if (waiting.key !== undefined) {
      this.#open.delete(waiting.key)
      this.#taken.add(waiting.key)
      if (this.#taken.size > rememberedReceipts) this.#taken.delete(this.#taken.values().next().value!)
    }
    acknowledge(waiting)
  }

  #refuse({ key, pushId, stream }: Waiting, error: Error) {
    if (key !== undefined) this.#open.delete(key)
    if (pushId !== undefined) {
      stream.send({ event: "push_nack", push_id: pushId, reason: error.message.slice(0, longestReason) })
    }
    if (!(error instanceof Refused)) this.#options.onFailure(error)
  }
}

const lengthOf = ({ message }: Waiting): number => String(message.content).length

const acknowledge = ({ pushId, stream }: Pick<Waiting, "pushId" | "stream">) => {
  if (pushId !== undefined) stream.send({ event: "push_ack", push_id: pushId })
}

/** A message that its owner dispatched is another delivery than the one before. Undefined when brokers give no ids. */
const keyOf = ({ from, metadata, sourceMessageId }: ReceivedMessage): string | undefined =>
  sourceMessageId === undefined
    ? undefined
    : JSON.stringify([from, sourceMessageId, isRecord(metadata) ? metadata.dispatched_from : undefined])
