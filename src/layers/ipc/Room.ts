/** A limit that all connections share, beside a part that each has for itself: who takes much leaves the others theirs. */
import type { Duplex } from "node:stream"

export class Room {
  private left: number
  private readonly own: number
  private readonly taken = new Map<Duplex, number>()

  constructor(shared: number, own: number) {
    this.left = shared
    this.own = own
  }

  /** False where there is not as much. */
  take(socket: Duplex, amount: number): boolean {
    const taken = this.taken.get(socket) ?? 0
    const more = this.beyondOwn(taken + amount) - this.beyondOwn(taken)
    if (more > this.left) return false
    this.left -= more
    this.taken.set(socket, taken + amount)
    return true
  }

  give(socket: Duplex, amount: number): void {
    const taken = this.taken.get(socket)
    // Its connection has ended before.
    if (taken === undefined) return
    this.left += this.beyondOwn(taken) - this.beyondOwn(taken - amount)
    if (taken === amount) this.taken.delete(socket)
    else this.taken.set(socket, taken - amount)
  }

  /** The connection has ended: of answers that waited for others of it, node tells no end. */
  giveAll(socket: Duplex): void {
    this.give(socket, this.taken.get(socket) ?? 0)
  }

  private beyondOwn(amount: number): number {
    return Math.max(0, amount - this.own)
  }
}
