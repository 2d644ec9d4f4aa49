import type { MailboxState } from "../../services/model/MailboxState.js"
import type { Transaction } from "../../services/Store.js"

export interface MailLimits {
  readonly mailboxMessages: number
  readonly mailboxBytes: number
  readonly totalMessages: number
  readonly totalBytes: number
}

interface Counted {
  readonly state: MailboxState
  /** It refused mail since it last had room. */
  isRefusing: boolean
}

/** How much mail there is in all mailboxes, and whether more may enter one. */
export class MailQuota {
  messages = 0
  bytes = 0
  /** Mail was refused since all mailboxes together last had room. */
  private isRefusing = false
  private readonly limits: MailLimits
  private readonly listeners: Array<() => void> = []

  constructor(limits: MailLimits) {
    this.limits = limits
  }

  /** So much more, or less, is stored. */
  add(messages: number, bytes: number): void {
    this.messages += messages
    this.bytes += bytes
  }

  /** True when new mail of that size may enter. */
  admits(mailbox: Counted, bytes: number): boolean {
    const hasTotalRoom = this.hasRoom(bytes)
    if (!hasTotalRoom) this.isRefusing = true
    else if (!this.hasRoomIn(mailbox, bytes)) mailbox.isRefusing = true
    else return true
    return false
  }

  /** Calls `listener` whenever there is room again where some was refused. */
  onSpace(listener: () => void): void {
    this.listeners.push(listener)
  }

  /** Something left the mailbox: what was refused is asked for once that is durable, if there is room for it now. */
  frees(transaction: Transaction, mailbox: Counted): void {
    const hasRoom = (mailbox.isRefusing && this.hasRoomIn(mailbox, 1)) || (this.isRefusing && this.hasRoom(1))
    if (hasRoom) this.announce(transaction, mailbox)
  }

  /** The mailbox ends: what was refused goes elsewhere. */
  ends(transaction: Transaction, mailbox: Counted): void {
    if (mailbox.isRefusing || this.isRefusing) this.announce(transaction, mailbox)
  }

  private announce(transaction: Transaction, mailbox: Counted): void {
    mailbox.isRefusing = false
    this.isRefusing = false
    transaction.onDurable(() => {
      for (const listener of this.listeners) listener()
    })
  }

  private hasRoom(bytes: number): boolean {
    return this.messages < this.limits.totalMessages && this.bytes + bytes <= this.limits.totalBytes
  }

  private hasRoomIn({ state }: Counted, bytes: number): boolean {
    const { mailboxBytes, mailboxMessages } = this.limits
    return state.count < mailboxMessages && state.bytes + bytes <= mailboxBytes
  }
}
