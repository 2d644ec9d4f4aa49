/**
 * Offers to upgrade a connection that this server does not take, as HTTP/2's `h2c` that some clients make with every first
 * request. HTTP lets a server ignore them; node hands such a request over as a bare socket, like a WebSocket's.
 */
import type { IncomingMessage, Server } from "node:http"
import type { Duplex } from "node:stream"

/** True for an upgrade that is asked for, not merely offered. */
export const asksForWebSocket = ({ headers }: IncomingMessage): boolean =>
  (headers.upgrade ?? "").split(",").some((name) => name.trim().toLowerCase() === "websocket")

const ofTheOffer = ["upgrade", "http2-settings"]

/** The lines of the request without what offers the upgrade. */
const headOf = ({ httpVersion, method, rawHeaders, url }: IncomingMessage): string => {
  const lines = [`${method} ${url} HTTP/${httpVersion}`]
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name, value] = [rawHeaders[at]!, rawHeaders[at + 1]!]
    if (ofTheOffer.includes(name.toLowerCase())) continue
    if (name.toLowerCase() !== "connection") lines.push(`${name}: ${value}`)
    else {
      const kept = value.split(",").filter((option) => !ofTheOffer.includes(option.trim().toLowerCase()))
      if (kept.length > 0) lines.push(`${name}: ${kept.join(",")}`)
    }
  }
  return [...lines, "", ""].join("\r\n")
}

/** Puts the request back on its connection as an ordinary one. `head` is what node has read behind it. */
export const ignoreOffer = (server: Server, request: IncomingMessage, socket: Duplex, head: Buffer): void => {
  socket.unshift(Buffer.concat([Buffer.from(headOf(request), "latin1"), head]))
  server.emit("connection", socket)
}
