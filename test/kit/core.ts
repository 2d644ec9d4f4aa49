/** A broker within the test, without its HTTP surface: real services, a fake network, plugins on fake sockets. */
import { Effect, Layer, Redacted } from "effect"
import { inOrder } from "../../src/layers/inOrder.js"
import { makePluginChannels, type PluginChannel } from "../../src/layers/ipc/pluginChannel.js"
import * as PlatformApiLocal from "../../src/layers/PlatformApiLocal.js"
import * as StoreMemory from "../../src/layers/StoreMemory.js"
import { coreWith, type Variants } from "../../src/programs/Graph.js"
import { BrokerConfig, defaults, type Settings } from "../../src/services/BrokerConfig.js"
import { Connector } from "../../src/services/Connector.js"
import { Credentials } from "../../src/services/Credentials.js"
import { EventLog, type LogFields, type LogLevel } from "../../src/services/EventLog.js"
import type { MessageReceived } from "../../src/services/ipc/StreamFrame.js"
import { Liveness } from "../../src/services/Liveness.js"
import { type Registered, type RegisterRequest, Registration } from "../../src/services/Registration.js"
import { FakeNetwork } from "./FakeNetwork.js"
import { FakeSocket } from "./FakeSocket.js"
import { pathsLayer } from "./ground.js"

export interface LogLine {
  readonly level: LogLevel
  readonly event: string
  readonly fields: LogFields
}

/** Collects what is logged. */
export const collectedLog = (lines: Array<LogLine> = []) =>
  Layer.succeed(EventLog, {
    unsafeLog: (level, event, fields = {}) => {
      lines.push({ level, event, fields })
    },
    unsafeDropped: () => 0
  })

/** Processes are alive until a test says otherwise. */
export class FakeProcesses {
  readonly dead = new Set<number>()
  readonly layer = Layer.succeed(Liveness, {
    unsafeIsAlive: (pid) => !this.dead.has(pid),
    startOf: (pid) => Effect.succeed(`start of ${pid}`)
  })
}

export interface CoreOptions {
  readonly settings?: Partial<Settings>
  readonly processes?: FakeProcesses
  readonly log?: Array<LogLine>
  readonly network?: FakeNetwork
  readonly variants?: Partial<Variants<never>>
}

export const groundWith = ({ log, processes = new FakeProcesses(), settings }: CoreOptions = {}) =>
  inOrder(
    Layer.succeed(BrokerConfig, { ...defaults, ...settings }),
    Layer.succeed(Credentials, {
      accountId: "default",
      runtimeToken: Redacted.make("token"),
      connectorUrl: "",
      apiOrigin: ""
    }),
    collectedLog(log),
    pathsLayer("/nonexistent"),
    processes.layer
  )

/** All services of the broker, on a fake network unless another connector is given. */
export const core = (options: CoreOptions = {}) =>
  inOrder(
    groundWith(options),
    coreWith({
      store: StoreMemory.layer,
      platform: PlatformApiLocal.layer,
      connector: Layer.succeed(Connector, (options.network ?? new FakeNetwork()).connector),
      ...options.variants
    })
  )

export const withReceipts = ["push_receipt_ack_v1", "push_nack_v1"]

/** A plugin process: a fake socket, and what a plugin does with it. */
export class FakePlugin {
  socket!: FakeSocket
  private channel!: PluginChannel
  readonly pid: number
  private readonly capabilities: ReadonlyArray<string>

  constructor(pid: number, capabilities: ReadonlyArray<string> = withReceipts) {
    this.pid = pid
    this.capabilities = capabilities
  }

  /** Opens a stream, replacing the one it has. */
  readonly open = Effect.flatMap(makePluginChannels, (openChannel) =>
    Effect.sync(() => {
      const socket = new FakeSocket()
      this.socket = socket
      const channel = openChannel(this.pid, new Set(this.capabilities), socket)
      this.channel = channel
      socket.onEnd = channel.closed
      return socket
    })
  )

  register(given: Partial<RegisterRequest> = {}): Effect.Effect<Registered, unknown, Registration> {
    return Effect.flatMap(Registration, (registration) =>
      registration.register({ agent_id: "agent", plugin_pid: this.pid, kind: "test", ...given })
    )
  }

  /** Messages pushed over the current socket, the oldest first. */
  get received(): ReadonlyArray<MessageReceived> {
    return this.socket.frames.filter((frame): frame is MessageReceived => frame.event === "message_received")
  }

  get contents(): ReadonlyArray<string> {
    return this.received.map(({ content }) => content)
  }

  acknowledge(...frames: ReadonlyArray<MessageReceived>): void {
    this.channel.receive(frames.map(({ push_id }) => JSON.stringify({ event: "push_ack", push_id })))
  }

  refuse(frame: MessageReceived, reason = "busy"): void {
    this.channel.receive([JSON.stringify({ event: "push_nack", push_id: frame.push_id, reason })])
  }

  say(text: string): void {
    this.channel.receive([text])
  }

  alive(): void {
    this.channel.heard()
  }

  /** The connection ends. */
  drop(): void {
    this.socket.end(1006)
  }
}

/** Lets everything that is ready run: commits, fibers, callbacks. */
export const settle: Effect.Effect<void> = Effect.promise(async () => {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
})
