import type { MailboxState } from "../../services/model/MailboxState.js"

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

  /** True, once, when there is room again where some was refused. */
  frees(mailbox: Counted): boolean {
    const isFreed = (mailbox.isRefusing && this.hasRoomIn(mailbox, 1)) || (this.isRefusing && this.hasRoom(1))
    if (isFreed) this.forgive(mailbox)
    return isFreed
  }

  /** The mailbox ended; true when something may be asked for that was refused. */
  ends(mailbox: Counted): boolean {
    const refused = mailbox.isRefusing || this.isRefusing
    this.forgive(mailbox)
    return refused
  }

  private forgive(mailbox: Counted): void {
    mailbox.isRefusing = false
    this.isRefusing = false
  }

  private hasRoom(bytes: number): boolean {
    return this.messages < this.limits.totalMessages && this.bytes + bytes <= this.limits.totalBytes
  }

  private hasRoomIn({ state }: Counted, bytes: number): boolean {
    const { mailboxBytes, mailboxMessages } = this.limits
    return state.count < mailboxMessages && state.bytes + bytes <= mailboxBytes
  }
}
