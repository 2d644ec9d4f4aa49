/** What node and the platform leave to those who answer part by part. */
import type { Socket } from "node:net"
import type { HttpServerRequest } from "@effect/platform"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { Effect } from "effect"

type Request = HttpServerRequest.HttpServerRequest

/** What waits for its turn on a connection, and is given up when that ends: node tells nobody. */
const onEnd = new WeakMap<Socket, Set<() => void>>()

const waitersOf = (connection: Socket): Set<() => void> => {
  let waiters = onEnd.get(connection)
  if (waiters === undefined) {
    waiters = new Set()
    onEnd.set(connection, waiters)
    connection.once("close", () => {
      for (const giveUp of [...onEnd.get(connection)!]) giveUp()
    })
  }
  return waiters
}

/**
 * Done when all answers before it on its connection were given: one that is written earlier gathers in memory. Interrupted
 * when the connection ends before.
 */
export const awaitTurn = (request: Request): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const response = NodeHttpServerRequest.toServerResponse(request)
    if (response.socket !== null) return resume(Effect.void)
    const connection = NodeHttpServerRequest.toIncomingMessage(request).socket
    if (connection.destroyed) return resume(Effect.interrupt)
    const waiters = waitersOf(connection)
    const end = (result: Effect.Effect<void>) => {
      waiters.delete(giveUp)
      response.off("socket", begin)
      resume(result)
    }
    const begin = () => end(Effect.void)
    const giveUp = () => end(Effect.interrupt)
    waiters.add(giveUp)
    response.once("socket", begin)
    return Effect.sync(() => end(Effect.void))
  })

/** Ends the connection in the middle of an answer: the platform would end the answer as if it were whole. */
export const breakOff = (request: Request): void => {
  NodeHttpServerRequest.toServerResponse(request).destroy()
}
