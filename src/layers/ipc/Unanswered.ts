/** The requests that have no answer yet: how many there may be, and when those of a connection are over. */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { Room } from "./Room.js"

export class Unanswered {
  private readonly room: Room
  /** Of each connection, the last one. */
  private readonly last = new Map<Duplex, ServerResponse<IncomingMessage>>()
  /** The same, whether it is over or not. */
  private readonly newest = new Map<Duplex, ServerResponse<IncomingMessage>>()

  /** So many, and one of each connection beside them. */
  constructor(limit: number) {
    this.room = new Room(limit, 1)
  }

  /** A request has come. False where it is one too many, and is refused: also then it is over when that is written. */
  begin({ socket }: IncomingMessage, response: ServerResponse): boolean {
    const isTaken = this.room.take(socket, 1)
    this.last.set(socket, response)
    this.newest.set(socket, response)
    // Node lets go of a connection only then: that all is handed over, as `writableFinished` says, is too early.
    response.once("close", () => {
      if (isTaken) this.room.give(socket, 1)
      if (this.last.get(socket) === response) this.last.delete(socket)
    })
    return isTaken
  }

  /** The last request of this connection, while it has no answer that is written. */
  of(socket: Duplex): ServerResponse | undefined {
    return this.last.get(socket)
  }

  /** The last request of this connection, while its body is not whole; its answer may be there before. */
  incomplete(socket: Duplex): ServerResponse | undefined {
    const newest = this.newest.get(socket)
    return newest?.req.complete === false ? newest : undefined
  }

  /** Calls `next` when all requests of this connection are over: now, or then. */
  whenOver(socket: Duplex, next: () => void): void {
    const last = this.last.get(socket)
    if (last === undefined) next()
    else last.once("close", next)
  }

  /** The connection has ended. */
  ended(socket: Duplex): void {
    this.last.delete(socket)
    this.newest.delete(socket)
    this.room.giveAll(socket)
  }
}
