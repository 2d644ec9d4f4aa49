/** The socket of a fake plugin: remembers what was sent, and can be slow. */
import type { ChannelSocket } from "../../src/services/Channels.js"
import type { BrokerFrame } from "../../src/services/ipc/StreamFrame.js"

export class FakeSocket implements ChannelSocket {
  readonly frames: Array<BrokerFrame> = []
  closedWith: { readonly code: number; readonly reason: string } | undefined
  pings = 0
  isTerminated = false
  onEnd: ((code: number) => void) | undefined
  /** While false the peer reads nothing: frames stay in the backlog. */
  private isReading = true
  private unread: Array<{ readonly bytes: number; readonly written: () => void }> = []

  send(text: string, written: () => void): void {
    this.frames.push(JSON.parse(text))
    if (this.isReading) written()
    else this.unread.push({ bytes: text.length, written })
  }

  backlog(): number {
    return this.unread.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  stopReading(): void {
    this.isReading = false
  }

  /** Reads everything that waits, and on from there. */
  readOn(): void {
    this.isReading = true
    while (this.unread.length > 0) this.unread.shift()!.written()
  }

  isPaused = false
  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
  }

  ping(): void {
    this.pings++
  }

  /** The peer answers the closing handshake at once. */
  close(code: number, reason: string): void {
    this.closedWith = { code, reason }
    this.end(code)
  }

  terminate(): void {
    this.isTerminated = true
    this.end(1006)
  }

  end(code: number): void {
    const end = this.onEnd
    this.onEnd = undefined
    end?.(code)
  }
}
