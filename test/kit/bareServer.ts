/** A server of node's own, for what stands between it and the broker. */
import { createServer, type RequestListener } from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"
import { Effect } from "effect"

/** Serves on a port of its own while the scope is open; `onConnection` sees each connection when it begins. */
export const bareServer = (onRequest: RequestListener, onConnection: (socket: Socket) => void) =>
  Effect.gen(function* () {
    const server = createServer(onRequest).on("connection", onConnection)
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.sync(() => {
          server.closeAllConnections()
          server.close()
        })
    )
    const { port } = server.address() as AddressInfo
    /** A connection to it. */
    const client = Effect.acquireRelease(
      Effect.sync(() => connect(port, "127.0.0.1").on("error", () => undefined)),
      (socket) => Effect.sync(() => socket.destroy())
    )
    return { client }
  })
