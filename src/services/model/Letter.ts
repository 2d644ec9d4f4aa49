/** A message in a mailbox, and what of a mailbox lies in the store or is held in memory. */
import type { Message } from "./Message.js"

/** Where a message stands in its mailbox: behind everything that arrived before it. Counted from 1. */
export type Place = number

/** A message in a mailbox. */
export interface Letter {
  readonly message: Message
  readonly place: Place
  /** What the connector is told when the message is safe; `undefined` once told, or when there is nobody to tell. */
  token: unknown
  /** The broker has taken it for good, though the connector may not have been told yet. */
  isAccepted: boolean
  /** `live`: only in memory. `writing`: its commit is under way. `written`: durable. */
  stored: "live" | "writing" | "written"
  /** It was pushed before without a receipt: the plugin may know it. */
  redelivered: boolean
  /** Nacks, and channel ends at which it was the oldest in flight. */
  failures: number
  /** When it was last pushed, epoch milliseconds; absent while it never was. */
  pushedAt: number | undefined
}

/** What the store holds of a mailbox from before. */
export interface StoredMailbox {
  readonly count: number
  readonly bytes: number
  /** Of its last message. */
  readonly last: Place
  /** Mail up to here may have been pushed; new mail stands behind it, whether it is still there or not. */
  readonly knownUpTo: Place
}

/** How much of a mailbox may be in flight, and as much again be held in memory behind it. */
export interface MailWindow {
  /** Messages at most. */
  readonly windowMessages: number
  /** Bytes at most; a single message may be larger. */
  readonly windowBytes: number
}

export const exceeds = ({ windowBytes, windowMessages }: MailWindow, messages: number, bytes: number): boolean =>
  messages > windowMessages || bytes > windowBytes

/** Letters in order of their places, no more than a window of them, but always one. */
export class HeldLetters {
  private readonly letters: Array<Letter> = []
  private bytes = 0
  private readonly window: MailWindow

  constructor(window: MailWindow) {
    this.window = window
  }

  get all(): ReadonlyArray<Letter> {
    return this.letters
  }

  get first(): Letter | undefined {
    return this.letters[0]
  }

  isFullFor({ message }: Letter): boolean {
    return this.letters.length > 0 && exceeds(this.window, this.letters.length + 1, this.bytes + message.bytes)
  }

  /** Takes it in where it belongs. Returns the newest ones that have to give way. */
  add(letter: Letter): ReadonlyArray<Letter> {
    let at = this.letters.length
    while (at > 0 && letter.place < this.letters[at - 1]!.place) at--
    this.letters.splice(at, 0, letter)
    this.bytes += letter.message.bytes
    const ousted: Array<Letter> = []
    while (this.letters.length > 1 && exceeds(this.window, this.letters.length, this.bytes)) {
      ousted.push(this.removeAt(this.letters.length - 1))
    }
    return ousted
  }

  /** False when nothing of that place is held. */
  remove(place: Place): boolean {
    const at = this.letters.findIndex((letter) => letter.place === place)
    if (at >= 0) this.removeAt(at)
    return at >= 0
  }

  clear(): void {
    this.letters.length = 0
    this.bytes = 0
  }

  private removeAt(at: number): Letter {
    const letter = this.letters[at]!
    this.letters.splice(at, 1)
    this.bytes -= letter.message.bytes
    return letter
  }
}
