/** The client of a plugin: plain promises and events over one stream to the broker. */
import { EventEmitter } from "node:events"
import { version } from "../../services/model/Version.js"
import { Connection, type ConnectionSettings, type ConnectionState, type Find, type Session } from "./connection.js"
import { Deliveries, type MessageHandler } from "./deliveries.js"
import { Endpoints, pathOf } from "./endpoints.js"
import { asError, errorOf } from "./errors.js"
import type { Request } from "./http.js"
import type { DiscoverOptions, FoundBroker } from "./launchOptions.js"
import { type Delivery, messageLoop } from "./messageLoop.js"
import { type SendOptions, Sends } from "./sends.js"
import type { BrokerStream } from "./stream.js"
import { warn } from "./waiting.js"
import type {
  Initialized,
  KnownBroker,
  Metadata,
  NetworkPresence,
  ReceivedMessage,
  RegisterArguments,
  Registered,
  SendResult,
  UndispatchedList
} from "./wire.js"

export interface ConnectOptions {
  /** The process the sessions belong to; this one. */
  readonly pluginPid?: number
  /** What the plugin is, for example `claude-code`. */
  readonly clientKind?: string
  readonly clientVersion?: string
  /** Between pings of the stream, 30,000; zero switches them off. */
  readonly heartbeatIntervalMs?: number
  /** 5,000. */
  readonly heartbeatTimeoutMs?: number
  /** 2. */
  readonly heartbeatMissesBeforeDisconnect?: number
  /** The first wait before connecting again, 1,000; doubles. */
  readonly reconnectBackoffInitialMs?: number
  /** The longest, 30,000. */
  readonly reconnectBackoffMaxMs?: number
  /** How long the broker may take over an answer, 60,000. */
  readonly requestTimeoutMs?: number
  /** How long a call waits, and a send is repeated, while the broker cannot be reached, 30,000. */
  readonly retryForMs?: number
  /** As `onMessage`. */
  readonly onMessage?: MessageHandler
}

export interface CallOptions {
  /** Gives the call up with the signal's reason; what the broker has begun it may finish. */
  readonly signal?: AbortSignal
}

export interface ListUndispatchedOptions extends CallOptions {
  /** As this endpoint. */
  readonly endpointId?: string
  /** So many messages at most, 1 to 1000. */
  readonly limit?: number
  /** The `next` of the list before. */
  readonly after?: string
}

export interface ClientEvents {
  message_received: [message: ReceivedMessage]
  presence: [presence: NetworkPresence, reason?: string]
  connectionstate: [state: ConnectionState]
  disconnected: []
  error: [error: Error]
}

/** How long leaving may take. */
const goodbyeMs = 2_000

const presences: ReadonlyArray<unknown> = ["online", "reconnecting", "offline"] satisfies Array<NetworkPresence>

/**
 * Sessions of this process at a broker. One connected client for a process: the broker knows processes, and the stream of a
 * second one takes the place of the first.
 *
 * Once connected it stays so: a stream that breaks is opened again for as long as the client is not closed, and every endpoint
 * comes back with its mail, or is registered anew where the broker has forgotten it. Ids given out before stay valid.
 *
 * A message is acknowledged when the application is done with it: when the handler's promise is fulfilled, the loop asks for the
 * next one, or the listeners of `message_received` returned. While there is none of the three it waits. A handler or listener
 * that throws refuses the message: it comes again after a while, behind what was on its way already. Messages are handed over
 * one at a time in the order in which they came, each once, also when the broker has to send it again.
 *
 * Errors nobody listens for do not end the process.
 */
export class BrokerClient extends EventEmitter<ClientEvents> {
  readonly #connection: Connection
  readonly #endpoints: Endpoints
  readonly #sends: Sends
  readonly #deliveries: Deliveries
  #initialized: Initialized | undefined
  #presence: NetworkPresence | undefined
  #broker: (KnownBroker & { readonly spawned?: boolean }) | undefined

  /** `find` says where the broker is; it is asked again before each attempt to connect. */
  constructor(find: (signal: AbortSignal) => Promise<KnownBroker & { readonly spawned?: boolean }>) {
    super()
    const remember: Find = async (signal) => {
      const broker = await find(signal)
      this.#broker = broker
      return broker
    }
    this.#deliveries = new Deliveries({
      hasListeners: () => this.listenerCount("message_received") > 0,
      // Unlike other events: what listeners throw refuses the message.
      tellListeners: (message) => super.emit("message_received", message),
      onFailure: (error) => this.#failed(error),
      onRoom: () => {
        const session = this.#connection.session
        if (session !== undefined) this.#connection.lost(session, "messages_turned_away")
      }
    })
    this.#connection = new Connection(remember, {
      onState: (state) => this.#tell("connectionstate", state),
      onSession: (session) => this.#began(session),
      onEnd: (unexpected) => {
        this.#deliveries.streamEnded()
        if (unexpected) this.#tell("disconnected")
      },
      onFrame: (stream, frame) => this.#receive(stream, frame),
      onError: (error) => this.#report(error)
    })
    this.#endpoints = new Endpoints(this.#connection, (error) => this.#report(error))
    this.#sends = new Sends(this.#connection, this.#endpoints)
    ;(this as EventEmitter).on("newListener", (event) => {
      // The listener is there after this.
      if (event === "message_received") queueMicrotask(() => this.#deliveries.wake())
    })
  }

  /**
   * A client of the account's broker, which is started when it does not run; the same is done before each attempt to connect
   * again. Fails with `BrokerLaunchError` or the signal's reason.
   */
  static async discover(options: DiscoverOptions): Promise<BrokerClient> {
    // The launcher costs more to load than the rest; clients of a known broker never need it.
    const { findOrLaunch } = await import("./launch.js")
    const first = await findOrLaunch(options)
    let unused: FoundBroker | undefined = first
    const client = new BrokerClient((signal) => {
      const found = unused
      unused = undefined
      // The caller's signal was for the first one.
      return found === undefined ? findOrLaunch({ ...options, signal }) : Promise.resolve(found)
    })
    client.#broker = first
    return client
  }

  /** A client of the broker at this place, which must be known to be the right one. */
  static at(broker: KnownBroker): BrokerClient {
    const client = new BrokerClient(async () => broker)
    client.#broker = broker
    return client
  }

  /** Whether the broker was started for this client. */
  get spawnedNew(): boolean {
    return this.#broker?.spawned === true
  }

  /** Undefined before a broker was found. */
  get ipcUrl(): string | undefined {
    return this.#broker?.ipcUrl
  }

  get sessionId(): string | undefined {
    return this.#initialized?.session_id
  }

  get networkPresence(): NetworkPresence | undefined {
    return this.#presence
  }

  get serverCapabilities(): Readonly<Record<string, boolean>> | undefined {
    return this.#initialized?.server_capabilities
  }

  get serverVersion(): string | undefined {
    return this.#initialized?.server_version
  }

  get connectionState(): ConnectionState {
    return this.#connection.state
  }

  /**
   * Opens the stream, and keeps it open until `close`. When the first attempt fails the error is thrown and further attempts
   * are made all the same.
   */
  async connect(options: ConnectOptions & CallOptions = {}): Promise<Initialized> {
    const remove = options.onMessage === undefined ? undefined : this.onMessage(options.onMessage)
    const settings: ConnectionSettings = {
      pluginPid: options.pluginPid ?? process.pid,
      clientKind: options.clientKind ?? "plugin",
      clientVersion: options.clientVersion ?? version,
      heartbeat: {
        intervalMs: options.heartbeatIntervalMs ?? 30_000,
        timeoutMs: options.heartbeatTimeoutMs ?? 5_000,
        misses: options.heartbeatMissesBeforeDisconnect ?? 2
      },
      backoffMs: options.reconnectBackoffInitialMs ?? 1_000,
      backoffMaxMs: options.reconnectBackoffMaxMs ?? 30_000,
      requestMs: options.requestTimeoutMs ?? 60_000,
      waitMs: options.retryForMs ?? 30_000
    }
    try {
      return await this.#connection.connect(settings, options.signal)
    } catch (error) {
      if (options.signal?.aborted) remove?.()
      throw error
    }
  }

  /** Registers a session; with `resume` it takes over the endpoint named there, with its mail. */
  registerEndpoint(args: RegisterArguments, { signal }: CallOptions = {}): Promise<Registered> {
    return this.#endpoints.register(args, signal)
  }

  /** Done when the network has the message, or with `store` when it is queued. */
  send(
    endpointId: string,
    to: string,
    content: string,
    contentType = "text",
    metadata?: Metadata,
    options?: SendOptions
  ): Promise<SendResult> {
    return this.#sends.send({ endpointId, to, content, contentType, metadata }, options)
  }

  /**
   * The messages no session has, in order of arrival: all of them, or with `limit` (1 to 1000) so many. Where more are behind
   * these, the list has a `next`: the `after` of the call for them.
   */
  async listUndispatched({ after, endpointId, limit, signal }: ListUndispatchedOptions = {}) {
    const query = new URLSearchParams()
    if (endpointId !== undefined) query.set("endpoint_id", this.#endpoints.resolve(endpointId))
    if (limit !== undefined) query.set("limit", String(limit))
    if (after !== undefined) query.set("after", after)
    const path = query.size === 0 ? "/v1/undispatched" : `/v1/undispatched?${query}`
    return (await this.#call({ method: "GET", path }, signal)) as UndispatchedList
  }

  /** Hands an undispatched message to an endpoint. */
  async dispatch(
    undispatchedId: string,
    targetEndpointId: string,
    { signal }: CallOptions = {}
  ): Promise<{ ok: true }> {
    const body = { undispatched_id: undispatchedId, target_endpoint_id: this.#endpoints.resolve(targetEndpointId) }
    return (await this.#call({ method: "POST", path: "/v1/dispatch", body }, signal)) as { ok: true }
  }

  /** Says what the session is doing. */
  async setTaskHint(endpointId: string, taskHint: string, { signal }: CallOptions = {}): Promise<{ ok: true }> {
    const id = this.#endpoints.resolve(endpointId)
    const body = { plugin_pid: this.#connection.settings.pluginPid, task_hint: taskHint }
    const headers = this.#endpoints.ownerHeaders(id)
    return (await this.#call({ method: "POST", path: `${pathOf(id)}/task-hint`, headers, body }, signal)) as {
      ok: true
    }
  }

  /** Ends the endpoint; mail it did not take becomes undispatched. */
  unregisterEndpoint(endpointId: string, { signal }: CallOptions = {}): Promise<void> {
    return this.#endpoints.unregister(endpointId, signal)
  }

  /**
   * Hands messages to `handler`, one after the other. A message is acknowledged when the handler's promise is fulfilled and
   * refused when it fails. One handler at a time; the answer takes it away again.
   */
  onMessage(handler: MessageHandler): () => void {
    return this.#deliveries.handleWith(handler)
  }

  /**
   * The messages as a loop: asking for the next one acknowledges the one before. A loop that is left puts the message it holds
   * back for whoever takes messages next; call its `acknowledge` first when it is done. Ends when the client is closed.
   */
  messages({ signal }: CallOptions = {}): AsyncGenerator<Delivery, void, void> {
    return messageLoop(this.#deliveries, this.#connection.closed, signal)
  }

  /**
   * Ends the stream and everything that waits; nothing of the client keeps the process alive afterwards. A message in hand is
   * not acknowledged. The endpoint named, if any, is unregistered first; the others wait for their grace period.
   */
  async close(endpointId?: string): Promise<void> {
    if (endpointId !== undefined && this.#connection.session !== undefined) {
      // It ends with its grace period otherwise.
      await this.#endpoints.unregister(endpointId, AbortSignal.timeout(goodbyeMs)).catch(() => undefined)
    }
    this.#deliveries.close()
    await this.#connection.close()
  }

  #began(session: Session) {
    this.#initialized = session.initialized
    this.#presence = session.initialized.network_presence
    this.#endpoints.bringAllBack(session)
  }

  #receive(stream: BrokerStream, frame: Readonly<Record<string, unknown>>) {
    switch (frame.event) {
      case "message_received":
        return this.#deliveries.receive(stream, frame)
      case "send_result":
        return this.#sends.answered(frame)
      case "presence_changed": {
        if (!presences.includes(frame.presence)) return
        this.#presence = frame.presence as NetworkPresence
        return this.#tell("presence", this.#presence, typeof frame.reason === "string" ? frame.reason : undefined)
      }
      // Brokers may be newer than this client.
    }
  }

  async #call(request: Request, signal: AbortSignal | undefined): Promise<unknown> {
    const session = await this.#connection.ready(signal)
    const answer = await this.#connection.request(session, request, signal)
    if (answer.status < 200 || answer.status > 299) throw errorOf({ ...request, ...answer })
    return answer.body
  }

  /** A listener that throws must not stop what the client is doing. */
  #tell<Event extends "presence" | "connectionstate" | "disconnected">(event: Event, ...args: Array<unknown>) {
    try {
      ;(super.emit as (event: string, ...args: Array<unknown>) => boolean).call(this, event, ...args)
    } catch (error) {
      this.#failed(asError(error))
    }
  }

  /** Trouble the client gets over by itself: told to whom it interests. */
  #report(error: Error) {
    if (this.listenerCount("error") === 0) return
    try {
      super.emit("error", error)
    } catch (thrown) {
      warn(thrown)
    }
  }

  /** The application's own code failed: never silent. */
  #failed(error: Error) {
    if (this.listenerCount("error") === 0) warn(error)
    else this.#report(error)
  }
}
