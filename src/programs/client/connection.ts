/** The way to the broker: found, opened, watched, and opened again for as long as the client is not closed. */
import { asError, BrokerUnreachableError, ClientClosedError, ClientStateError, errorOf } from "./errors.js"
import { type Answer, Http, type Request } from "./http.js"
import { BrokerStream, type Heartbeat, StreamRefusedError } from "./stream.js"
import { Backoff, deadline, orAborted, pause, watched } from "./waiting.js"
import { announced, type Initialized, type KnownBroker, protocolVersion } from "./wire.js"

export type Phase = "never_connected" | "connected" | "reconnecting"

export interface ConnectionState {
  readonly phase: Phase
  /** Why it is not connected, or was not before. */
  readonly lastFailureReason: string | undefined
  /** ISO time. */
  readonly since: string
}

export interface ConnectionSettings {
  readonly pluginPid: number
  readonly clientKind: string
  readonly clientVersion: string
  readonly heartbeat: Heartbeat
  readonly backoffMs: number
  readonly backoffMaxMs: number
  /** How long the broker may take over an answer. */
  readonly requestMs: number
  /** How long a call waits for a connection that is being made again. */
  readonly waitMs: number
}

/** One life of the stream, and the broker behind it. */
export interface Session {
  readonly broker: KnownBroker
  readonly stream: BrokerStream
  readonly initialized: Initialized
  /** Whether the broker announced it. */
  readonly can: (capability: string) => boolean
  /** Aborted when nothing new may begin in it. */
  readonly ended: AbortSignal
  /** Aborted when its stream is gone, too: no more answers will come. */
  readonly gone: AbortSignal
}

export interface ConnectionEvents {
  readonly onState: (state: ConnectionState) => void
  readonly onSession: (session: Session) => void
  /** The stream is gone; `unexpected`: the client did not end it. */
  readonly onEnd: (unexpected: boolean) => void
  readonly onFrame: (stream: BrokerStream, frame: Readonly<Record<string, unknown>>) => void
  readonly onError: (error: Error) => void
}

const retryAfterOf = (error: unknown): number => (error instanceof StreamRefusedError ? error.retryAfterMs : 0)

/** How a broker is found, before each attempt to connect. */
export type Find = (signal: AbortSignal) => Promise<KnownBroker>

export class Connection {
  readonly #find: Find
  readonly #events: ConnectionEvents
  readonly #http = new Http()
  readonly #closing = watched()
  #settings: ConnectionSettings | undefined
  #backoff = new Backoff(1_000, 30_000)
  #state: ConnectionState = {
    phase: "never_connected",
    lastFailureReason: undefined,
    since: new Date().toISOString()
  }
  #stream: { readonly current: BrokerStream; readonly gone: AbortController } | undefined
  #session: { readonly current: Session; readonly end: AbortController; readonly since: number } | undefined
  /** Attempts are under way or planned. */
  #recovering = false
  readonly #waiting = new Set<() => void>()

  constructor(find: Find, events: ConnectionEvents) {
    this.#find = find
    this.#events = events
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** The session that can be used now. */
  get session(): Session | undefined {
    return this.#session?.current
  }

  get settings(): ConnectionSettings {
    if (this.#settings === undefined) throw new ClientStateError("This client is not connected: call connect() first.")
    return this.#settings
  }

  get closed(): AbortSignal {
    return this.#closing.signal
  }

  /**
   * Connects; when that fails it is tried again in the background, and the error thrown all the same. Given up by its signal it
   * was never called.
   */
  async connect(settings: ConnectionSettings, signal?: AbortSignal): Promise<Initialized> {
    this.#closing.signal.throwIfAborted()
    signal?.throwIfAborted()
    if (this.#settings !== undefined) throw new ClientStateError("This client is connected already.")
    this.#settings = settings
    this.#backoff = new Backoff(settings.backoffMs, settings.backoffMaxMs)
    try {
      return await this.#attempt(signal)
    } catch (error) {
      this.#closing.signal.throwIfAborted()
      if (signal?.aborted) {
        this.#settings = undefined
        throw signal.reason
      }
      this.#enter("never_connected", asError(error).message)
      this.#recover(retryAfterOf(error))
      throw error
    }
  }

  /** The session, waited for while there is none; fails when none comes in time. */
  async ready(signal?: AbortSignal, waitMs: number = this.settings.waitMs): Promise<Session> {
    signal?.throwIfAborted()
    this.#closing.signal.throwIfAborted()
    if (this.session !== undefined) return this.session
    const limit = deadline(
      waitMs,
      () =>
        new BrokerUnreachableError(
          `The broker could not be reached within ${waitMs} ms: ${this.#state.lastFailureReason ?? "not connected"}`,
          true
        ),
      this.#closing.signal,
      signal
    )
    try {
      for (;;) {
        await this.#nextSession(limit.signal)
        if (this.session !== undefined) return this.session
      }
    } finally {
      limit.done()
    }
  }

  /** Who gives up leaves nothing behind: a plugin may ask for hours while there is no broker. */
  async #nextSession(signal: AbortSignal): Promise<void> {
    let come = () => {}
    const session = new Promise<void>((resolve) => {
      come = resolve
    })
    this.#waiting.add(come)
    try {
      await orAborted(session, signal)
    } finally {
      this.#waiting.delete(come)
    }
  }

  /** A request in this session. One that finds the broker gone makes the client connect again, and fails all the same. */
  async request(
    session: Session,
    request: Request,
    ...signals: ReadonlyArray<AbortSignal | undefined>
  ): Promise<Answer> {
    const { pluginPid, requestMs } = this.settings
    const headers = { "x-plugin-pid": String(pluginPid), ...request.headers }
    try {
      return await this.#http.request(
        session.broker,
        { ...request, headers },
        requestMs,
        this.#closing.signal,
        ...signals
      )
    } catch (error) {
      if (error instanceof BrokerUnreachableError) this.lost(session, "ipc_fetch_failed")
      throw error
    }
  }

  /** The session is of no use any more; `afterMs` is the least time before the next attempt. */
  lost(session: Session, reason: string, afterMs = 0): void {
    if (this.session !== session) return
    this.#endSession()
    this.#enter("reconnecting", reason)
    this.#recover(afterMs)
  }

  /** Ends everything; `goodbye` is awaited. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort(new ClientClosedError())
    this.#endSession()
    const stream = this.#dropStream()
    this.#http.close()
    await stream?.close(1000, "client_close")
  }

  #recover(afterMs: number) {
    if (this.#recovering || this.#closing.signal.aborted) return
    this.#recovering = true
    const attempts = async () => {
      let atLeastMs = afterMs
      for (;;) {
        // Who is told when to come comes a little later than that, not all at the same moment.
        const waitMs = atLeastMs > 0 ? atLeastMs * (1 + 0.25 * Math.random()) : this.#backoff.next()
        await pause(waitMs, this.#closing.signal)
        try {
          await this.#attempt()
          return
        } catch (error) {
          this.#closing.signal.throwIfAborted()
          this.#enter(this.#state.phase, asError(error).message)
          this.#events.onError(asError(error))
          atLeastMs = retryAfterOf(error)
        }
      }
    }
    attempts().catch(() => {
      // Only closing ends it.
    })
  }

  async #attempt(given?: AbortSignal): Promise<Initialized> {
    const { clientKind, clientVersion, heartbeat, pluginPid, requestMs } = this.settings
    const before = this.#dropStream()
    if (before !== undefined) this.#events.onEnd(false)
    void before?.close(1012, "broker_recover")
    const stop = given === undefined ? this.#closing.signal : AbortSignal.any([this.#closing.signal, given])
    const broker = await orAborted(this.#find(stop), stop)
    const body = {
      client_protocol_version: protocolVersion,
      client_kind: clientKind,
      client_version: clientVersion,
      capabilities: Object.fromEntries(announced.map((capability) => [capability, true]))
    }
    const request = { method: "POST", path: "/v1/initialize", body }
    const answer = await this.#http.request(broker, request, requestMs, stop)
    if (answer.status !== 200) throw errorOf({ ...request, ...answer })
    const initialized = answer.body as Initialized
    await BrokerStream.open(
      {
        broker,
        pluginPid,
        heartbeat,
        onOpen: (stream) => this.#begin(broker, stream, initialized),
        onFrame: (stream, frame) => this.#receive(stream, frame),
        onEnd: (stream) => this.#streamEnded(stream),
        onError: this.#events.onError
      },
      stop
    )
    return initialized
  }

  #begin(broker: KnownBroker, stream: BrokerStream, initialized: Initialized) {
    const end = watched()
    const gone = watched()
    const current: Session = {
      broker,
      stream,
      initialized,
      can: (capability) => initialized.server_capabilities?.[capability] === true,
      ended: end.signal,
      gone: gone.signal
    }
    this.#stream = { current: stream, gone }
    this.#session = { current, end, since: performance.now() }
    this.#recovering = false
    this.#events.onSession(current)
    this.#enter("connected", this.#state.lastFailureReason)
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const resolve of waiting) resolve()
  }

  #receive(stream: BrokerStream, frame: Readonly<Record<string, unknown>>) {
    if (stream !== this.#stream?.current) return
    if (frame.event !== "broker_draining") return this.#events.onFrame(stream, frame)
    const afterMs = typeof frame.retry_after_ms === "number" ? Math.max(1, frame.retry_after_ms) : 0
    if (this.session?.stream === stream) this.lost(this.session, "broker_draining", afterMs)
  }

  #streamEnded(stream: BrokerStream) {
    if (stream !== this.#stream?.current) return
    this.#dropStream()
    this.#events.onEnd(true)
    if (this.session?.stream === stream) this.lost(this.session, "stream_closed")
  }

  #endSession() {
    const session = this.#session
    if (session === undefined) return
    this.#session = undefined
    this.#backoff.worked(performance.now() - session.since)
    session.end.abort()
  }

  #dropStream(): BrokerStream | undefined {
    const stream = this.#stream
    this.#stream = undefined
    stream?.gone.abort(new BrokerUnreachableError("The stream to the broker ended.", false))
    return stream?.current
  }

  #enter(phase: Phase, reason: string | undefined) {
    const changes = phase !== this.#state.phase
    this.#state = {
      phase,
      lastFailureReason: reason,
      since: changes ? new Date().toISOString() : this.#state.since
    }
    if (changes) this.#events.onState(this.#state)
  }
}
