/** The built broker as a child process, and plugins that talk to it over real sockets. */
import { existsSync, mkdtempSync, readFileSync } from "node:fs"
import * as http from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Scope } from "effect"
import { Effect } from "effect"
import { WebSocket } from "ws"
import { environmentName, type SettingName } from "../../src/services/BrokerConfig.js"
import type { Status } from "../../src/services/ipc/OperatorGroup.js"
import type { BrokerFrame, MessageReceived } from "../../src/services/ipc/StreamFrame.js"
import { onOwnDisk, seenFromOutside } from "./ownDisk.js"
import { removed } from "./removed.js"
import { type Exited, idleProcess, type StartedProcess, startProcess } from "./startedProcess.js"

export type { Exited } from "./startedProcess.js"

export const dist = (path: string) => fileURLToPath(new URL(`../../dist/${path}`, import.meta.url))

if (!existsSync(dist("programs/broker.js"))) throw new Error("There is no dist; run `npm run build` first.")

/** A directory of its own for the test, gone afterwards. */
export const temporaryDirectory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "runtime-broker-test-"))),
  removed
)

/** Settings as environment variables of a child process; nothing of the test's own environment but PATH and HOME. */
export const environmentOf = (
  userData: string,
  settings: { readonly [Name in SettingName]?: string | number | boolean }
): Record<string, string> => ({
  PATH: process.env.PATH ?? "",
  HOME: userData,
  MASONS_BROKER_USER_DATA: userData,
  ...Object.fromEntries(
    Object.entries({ connector: "loopback", ...settings }).map(([name, value]) => [
      environmentName(name as SettingName),
      String(value)
    ])
  )
})

/** Runs a built program to its end. */
export const runProgram = (
  program: string,
  args: ReadonlyArray<string>,
  env: Record<string, string>
): Effect.Effect<Exited> =>
  startProcess({ command: process.execPath, args: [dist(program), ...args], env }).pipe(
    Effect.flatMap(({ ended }) => ended),
    Effect.scoped
  )

export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: any
}

export interface RunningBroker {
  readonly userData: string
  readonly directory: string
  readonly url: string
  readonly port: number
  readonly pid: number
  readonly token: string
  readonly operatorToken: string
  readonly logFile: string
  readonly process: StartedProcess
  /** A request with the plugin token; `headers` add to or replace the usual ones. */
  readonly call: (
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>
  ) => Effect.Effect<Answer>
  readonly operator: (method: string, path: string) => Effect.Effect<Answer>
  readonly status: Effect.Effect<Status>
  readonly logLines: () => ReadonlyArray<{ readonly msg: string; readonly [field: string]: unknown }>
  /** Sends the signal and waits for the end. */
  readonly end: (signal: NodeJS.Signals) => Effect.Effect<Exited>
  readonly exited: Effect.Effect<Exited>
}

export interface BrokerOptions {
  readonly settings?: { readonly [Name in SettingName]?: string | number | boolean }
  /** Where it keeps its files; its own directory when absent. */
  readonly userData?: string
  /** Further environment variables. */
  readonly environment?: Record<string, string>
  /** Another program than the built broker. */
  readonly program?: string
  /** Its files lie on a disk of its own, of so many bytes, which is gone when it ends; only where `unshare -rm` is allowed. */
  readonly diskBytes?: number
}

/** Connections are kept, and given up before the broker does so. */
const agent = new http.Agent({ keepAlive: true, timeout: 2_000 })

/** Not by `fetch`, which computes longer: the tests ask thousands of times. */
const request = (
  url: string,
  method: string,
  path: string,
  headers: Record<string, string>,
  body: unknown
): Effect.Effect<Answer> =>
  Effect.async<Answer, Error>((resume) => {
    const asking = http.request(url + path, { method, headers, agent }, (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk) => {
        text += chunk
      })
      response.on("error", (error) => resume(Effect.fail(error)))
      response.on("end", () => {
        let parsed: unknown = text
        try {
          parsed = JSON.parse(text)
        } catch {
          // Not every answer is JSON; the test sees the text.
        }
        resume(Effect.succeed({ status: response.statusCode!, headers: response.headers, body: parsed }))
      })
    })
    asking.on("error", (error) => resume(Effect.fail(error)))
    asking.end(body === undefined || typeof body === "string" ? body : JSON.stringify(body))
  }).pipe(Effect.orDie)

/** Starts the built broker and waits until it is ready; it is killed when the test ends. */
export const startBroker = (options: BrokerOptions = {}): Effect.Effect<RunningBroker, never, Scope.Scope> =>
  Effect.gen(function* () {
    const userData = options.userData ?? (yield* temporaryDirectory)
    const { diskBytes } = options
    const program = [process.execPath, options.program ?? dist("programs/broker.js")]
    const [command, ...args] = diskBytes === undefined ? program : onOwnDisk(userData, diskBytes, program)
    const child = yield* startProcess({
      command: command!,
      args,
      env: { ...environmentOf(userData, options.settings ?? {}), ...options.environment }
    })
    const line = yield* child.firstLine
    if (line === undefined) {
      const { code, stderr } = yield* child.ended
      throw new Error(`the broker ended with ${code}: ${stderr}`)
    }
    /** Where the test finds what the broker calls that. */
    const seen = (path: string) => (diskBytes === undefined ? path : seenFromOutside(child.pid, path))
    const ready: { readonly url: string; readonly discoveryFile: string; readonly logFile: string } = JSON.parse(line)
    const directory = seen(ready.discoveryFile.slice(0, -"/discovery.json".length))
    const logFile = seen(ready.logFile)
    const token: string = JSON.parse(readFileSync(join(directory, "discovery.json"), "utf8")).bearerToken
    const operatorToken: string = JSON.parse(readFileSync(join(directory, "operator.json"), "utf8")).operatorToken
    const operator = (method: string, path: string) =>
      request(ready.url, method, path, { authorization: `Bearer ${operatorToken}` }, undefined)

    return {
      userData,
      directory,
      url: ready.url,
      port: Number(new URL(ready.url).port),
      pid: child.pid,
      token,
      operatorToken,
      logFile,
      process: child,
      call: (method, path, body, headers = {}) =>
        request(ready.url, method, path, { authorization: `Bearer ${token}`, ...headers }, body),
      operator,
      status: Effect.map(operator("GET", "/v1/operator/status"), ({ body }) => body as Status),
      logLines: () =>
        readFileSync(logFile, "utf8")
          .split("\n")
          .filter((line) => line !== "")
          .map((line) => JSON.parse(line)),
      end: (signal) =>
        Effect.zipRight(
          Effect.sync(() => child.kill(signal)),
          child.ended
        ),
      exited: child.ended
    }
  })

export interface Plugin {
  readonly pid: number
  readonly process: StartedProcess
  /** Every frame that came, over whichever stream. */
  readonly frames: ReadonlyArray<BrokerFrame>
  readonly messages: ReadonlyArray<MessageReceived>
  /** The close of the latest stream, once it came. */
  readonly closed: () => { readonly code: number; readonly reason: string } | undefined
  /** Opens a stream; an earlier one stays as it is. */
  readonly open: Effect.Effect<WebSocket>
  /** Cuts the latest stream without a closing handshake. */
  readonly drop: Effect.Effect<void>
  /** A request that says which process it comes from. */
  readonly call: (
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>
  ) => Effect.Effect<Answer>
  /** Registers a session and returns the endpoint id. */
  readonly register: (given?: Record<string, unknown>) => Effect.Effect<string>
  /** The next messages that are pushed, in order; fails when they do not come in time. */
  readonly take: (count: number, withinMs?: number) => Effect.Effect<ReadonlyArray<MessageReceived>>
}

export interface PluginOptions {
  readonly capabilities?: ReadonlyArray<string>
  /** Acknowledges every push at once. */
  readonly acknowledges?: boolean
  /** The process the plugin claims to be; one of its own when absent. */
  readonly process?: StartedProcess
}

export const startPlugin = (
  broker: RunningBroker,
  { acknowledges = true, capabilities = ["push_receipt_ack_v1", "push_nack_v1"], ...options }: PluginOptions = {}
): Effect.Effect<Plugin, never, Scope.Scope> =>
  Effect.gen(function* () {
    const child = options.process ?? (yield* idleProcess)
    const { pid } = child
    const sockets: Array<WebSocket> = []
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const socket of sockets) socket.terminate()
      })
    )
    const frames: Array<BrokerFrame> = []
    const messages: Array<MessageReceived> = []
    let taken = 0
    let closed: { readonly code: number; readonly reason: string } | undefined
    let onMessage: (() => void) | undefined

    const open = Effect.async<WebSocket>((resume) => {
      const socket = new WebSocket(`${broker.url.replace("http", "ws")}/v1/stream`, {
        headers: {
          authorization: `Bearer ${broker.token}`,
          "x-plugin-pid": String(pid),
          "x-masons-ipc-capabilities": capabilities.join(",")
        }
      })
      sockets.push(socket)
      closed = undefined
      socket.once("open", () => resume(Effect.succeed(socket)))
      socket.on("error", (error) => resume(Effect.die(error)))
      socket.on("close", (code, reason) => {
        if (sockets.at(-1) === socket) closed = { code, reason: reason.toString() }
      })
      socket.on("message", (data) => {
        const frame: BrokerFrame = JSON.parse(String(data))
        frames.push(frame)
        if (frame.event !== "message_received") return
        messages.push(frame)
        if (acknowledges && frame.push_id !== undefined) {
          socket.send(JSON.stringify({ event: "push_ack", push_id: frame.push_id }))
        }
        onMessage?.()
      })
    })

    const call: Plugin["call"] = (method, path, body, headers = {}) =>
      broker.call(method, path, body, { "x-plugin-pid": String(pid), ...headers })

    return {
      pid,
      process: child,
      frames,
      messages,
      closed: () => closed,
      open,
      drop: Effect.sync(() => sockets.at(-1)?.terminate()),
      call,
      register: (given = {}) =>
        Effect.map(
          call("POST", "/v1/endpoint/register", { agent_id: "agent", plugin_pid: pid, kind: "test", ...given }),
          ({ body, status }) => {
            if (status !== 200) throw new Error(`register: ${status} ${JSON.stringify(body)}`)
            return body.endpoint_id as string
          }
        ),
      take: (count, withinMs = 5_000) =>
        Effect.async<ReadonlyArray<MessageReceived>>((resume) => {
          const deliver = () => {
            if (messages.length < taken + count) return
            onMessage = undefined
            const next = messages.slice(taken, taken + count)
            taken += count
            resume(Effect.succeed(next))
          }
          onMessage = deliver
          deliver()
        }).pipe(
          Effect.timeoutFail({
            duration: withinMs,
            onTimeout: () =>
              new Error(`only ${messages.length - taken} of ${count} messages came within ${withinMs} ms`)
          }),
          Effect.orDie
        )
    }
  })

/** Waits until `condition` holds of what `look` sees. For what happens soon, at a moment the test cannot name. */
export const eventually = <A>(
  look: Effect.Effect<A>,
  condition: (value: A) => boolean,
  withinMs = 5_000
): Effect.Effect<A> =>
  Effect.gen(function* () {
    // What takes longer is looked at less often: each look costs the broker something.
    for (let looks = 0; ; looks++) {
      const seen = yield* look
      if (condition(seen)) return seen
      yield* Effect.sleep(looks < 25 ? "20 millis" : "50 millis")
    }
  }).pipe(
    Effect.timeoutFail({ duration: withinMs, onTimeout: () => new Error(`it did not happen within ${withinMs} ms`) }),
    Effect.orDie
  )
