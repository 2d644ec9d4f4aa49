/**
 * Node hands a request that offers another protocol, as HTTP/2's `h2c` that some clients offer with the first request of a
 * connection, to whoever takes WebSockets. HTTP lets a server ignore such an offer: here node sees an upgrade only where a
 * WebSocket is asked for.
 */
import { IncomingMessage } from "node:http"

/** True for an upgrade that is asked for, not merely offered. */
const asksForWebSocket = ({ headers }: IncomingMessage): boolean =>
  (headers.upgrade ?? "").split(",").some((name) => name.trim().toLowerCase() === "websocket")

export class Request extends IncomingMessage {
  /** What node's parser found. */
  declare private found: boolean | null

  get upgrade(): boolean {
    return this.found === true && (this.method === "CONNECT" || asksForWebSocket(this))
  }

  set upgrade(found: boolean | null) {
    this.found = found
  }

  /** It offers an upgrade that is ignored. What is behind it on its connection may be lost: node's parser stops there. */
  get isOffer(): boolean {
    return this.found === true && !this.upgrade
  }
}
