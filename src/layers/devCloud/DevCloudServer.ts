/** The development cloud in one process on 127.0.0.1: gateway, platform and command surface on one port. */
import { randomUUID } from "node:crypto"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import type { Scope } from "effect"
import { Data, Effect, FiberSet, Layer } from "effect"
import { DevCloud } from "../../services/DevCloud.js"
import { Account } from "../../services/devCloud/Account.js"
import { ControlLog } from "../../services/devCloud/ControlLog.js"
import { Endpoints, type LeaseRules } from "../../services/devCloud/Endpoints.js"
import { FaultBoard } from "../../services/devCloud/Faults.js"
import { Journal } from "../../services/devCloud/Journal.js"
import { Mailbox } from "../../services/devCloud/Mailbox.js"
import { makeCommands } from "./commands.js"
import { makeSubscriptions } from "./events.js"
import { gatewayPath, makeGateway } from "./gateway.js"
import { isFromOutside, readJson, refusal, reply, urlOf } from "./http.js"
import { makePlatform } from "./platform.js"
import { makeService } from "./service.js"
import type { World } from "./world.js"

export interface DevCloudOptions extends Partial<LeaseRules> {
  /** 0, and absent: the system chooses. */
  readonly port?: number
  /** Names of accounts: letters, digits, `.`, `_` and `-`. */
  readonly accounts?: ReadonlyArray<string>
}

/** The development cloud could not be started. */
export class DevCloudStartError extends Data.TaggedError("DevCloudStartError")<{ readonly message: string }> {}

export const defaultAccounts: ReadonlyArray<string> = ["alice", "bob"]

const defaultLeases: LeaseRules = { heartbeatMs: 30_000, leaseMs: 90_000, retentionMs: 86_400_000 }

/** Known to everybody: it opens nothing beyond this machine. */
export const tokenOf = (name: string): string => `rk_dev_${name}`

const listen = (port: number): Effect.Effect<Server, DevCloudStartError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Server, DevCloudStartError>((resume) => {
      const server = createServer()
      server.once("error", (error) =>
        resume(new DevCloudStartError({ message: `Port ${port} on 127.0.0.1 cannot be used: ${error.message}.` }))
      )
      server.listen({ host: "127.0.0.1", port }, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )

const namesFrom = (names: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, DevCloudStartError> => {
  const wrong = names.find((name) => !/^[A-Za-z0-9._-]{1,64}$/.test(name))
  if (wrong !== undefined) {
    return new DevCloudStartError({
      message: `"${wrong}" is no name for an account; use up to 64 letters, digits, dots, dashes and underscores.`
    })
  }
  return names.length === 0
    ? new DevCloudStartError({ message: "The development cloud needs at least one account." })
    : Effect.succeed([...new Set(names)])
}

export const make = (options: DevCloudOptions = {}): Effect.Effect<DevCloud["Type"], DevCloudStartError, Scope.Scope> =>
  Effect.gen(function* () {
    const names = yield* namesFrom(options.accounts ?? defaultAccounts)
    const leases = { ...defaultLeases, ...options }
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()

    // First, so that it is released last: its end waits for connections that the parts below close.
    const server = yield* listen(options.port ?? 0)
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const run = yield* FiberSet.makeRuntime<never>()

    const accounts = new Map(
      names.map((name) => {
        const endpoints = new Endpoints(leases, () => `ep_${randomUUID().slice(0, 8)}`)
        return [name, new Account(name, tokenOf(name), new Mailbox(), endpoints, new ControlLog(now()))]
      })
    )
    const byToken = new Map([...accounts.values()].map((account) => [account.token, account]))
    let connections = 0
    const world: World = {
      accounts,
      accountOfToken: (token) => byToken.get(token),
      board: new FaultBoard(),
      journal: new Journal(now),
      later: (ms, callback) => void run(Effect.delay(Effect.sync(callback), ms)),
      now,
      nextConnection: () => ++connections
    }
    const gateway = makeGateway(world)
    const subscriptions = makeSubscriptions(world)
    const platform = makePlatform(world, subscriptions)
    const cloud = makeService(world, gateway, subscriptions, {
      url,
      accounts: [...accounts.values()].map(({ address, name, subjectId, token }) => ({
        name,
        address,
        token,
        subjectId,
        connectorUrl: `${url.replace("http:", "ws:")}${gatewayPath}/${name}`,
        apiHost: url
      }))
    })
    const commands = makeCommands(cloud)

    const serve = async (request: IncomingMessage, response: ServerResponse) => {
      const target = urlOf(request)
      if (target === undefined) return reply(response, refusal(400, "bad_request", "The request target is malformed."))
      if (isFromOutside(request)) return reply(response, refusal(403, "forbidden", "This is for this machine only."))
      const isCommand = target.pathname === "/dev" || target.pathname.startsWith("/dev/")
      if (!isCommand) return platform(request, response, target)
      const body = await readJson(request)
      if (!("json" in body)) return reply(response, body)
      const answer = commands(request.method ?? "GET", target, body.json)
      run(Effect.map(answer, (answer) => reply(response, answer)))
    }
    // Upgraded connections are no longer the server's own.
    const sockets = new Set<Socket>()
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        server.on("connection", (socket) => {
          sockets.add(socket)
          socket.on("close", () => sockets.delete(socket))
        })
        server.on("request", (request, response) => {
          response.on("error", () => undefined)
          // Whoever hangs up in the middle of a body gets no answer.
          serve(request, response).catch(() => response.destroy())
        })
        server.on("upgrade", gateway.upgrade)
        server.on("clientError", (_, socket) => socket.destroy())
        server.on("error", () => undefined)
      }),
      () =>
        Effect.sync(() => {
          gateway.close()
          subscriptions.end()
          for (const socket of sockets) socket.destroy()
        })
    )
    return cloud
  })

/** A cloud of its own for each build. */
export const layer = (options: DevCloudOptions = {}): Layer.Layer<DevCloud, DevCloudStartError> =>
  Layer.scoped(DevCloud, make(options))
