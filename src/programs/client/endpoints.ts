/** The sessions this client registered: what they are called now, who owns them, and how each comes back after a lost stream. */
import type { Connection, Session } from "./connection.js"
import { asError, BrokerRefusedError, errorOf } from "./errors.js"
import type { Request } from "./http.js"
import { Backoff, orAborted, pause } from "./waiting.js"
import type { RegisterArguments, Registered } from "./wire.js"

export interface Endpoint {
  /** Its id at the broker. */
  id: string
  ownerToken: string | undefined
  /** What it was registered with; nothing that is good for one registration only. */
  readonly registration: RegisterArguments
  /** The session in which the broker has it on its stream. */
  attachedIn: Session | undefined
  /** Its coming back, tried until it worked or the session is over. */
  comingBack: Promise<void>
  /** The broker it comes back to, and what ends the wait for that broker's answer. */
  returnsTo: { readonly ipcUrl: string; readonly giveUp: AbortController }
  isForgotten: boolean
}

export class Endpoints {
  readonly #connection: Connection
  readonly #onError: (error: Error) => void
  readonly #byId = new Map<string, Endpoint>()
  /** Ids the broker has forgotten, and what took their place. */
  readonly #aliases = new Map<string, string>()
  /** The first try of every endpoint in this session is over. */
  #firstTries: Promise<unknown> = Promise.resolve()

  constructor(connection: Connection, onError: (error: Error) => void) {
    this.#connection = connection
    this.#onError = onError
  }

  /** What the id is called now. */
  resolve(id: string): string {
    const seen = new Set<string>()
    let current = id
    for (;;) {
      const next = this.#aliases.get(current)
      if (next === undefined || seen.has(next)) return current
      seen.add(current)
      current = next
    }
  }

  /** Undefined for an endpoint of somebody else. */
  find(id: string): Endpoint | undefined {
    return this.#byId.get(this.resolve(id))
  }

  /** The headers that let this client act for the endpoint. */
  ownerHeaders(id: string): Readonly<Record<string, string>> {
    const token = this.find(id)?.ownerToken
    return token === undefined ? {} : { "x-endpoint-owner-token": token }
  }

  async register(args: RegisterArguments, signal?: AbortSignal): Promise<Registered> {
    const session = await this.#connection.ready(signal)
    // One that waits for its return would be taken for the new one when they say the same of themselves.
    await orAborted(this.#firstTries, signal ?? this.#connection.closed)
    const registered = await this.#post(session, args, signal)
    const { resume: _, spawn_token: __, ...registration } = args
    this.#aliases.delete(registered.endpoint_id)
    this.#byId.set(registered.endpoint_id, {
      id: registered.endpoint_id,
      ownerToken: registered.endpoint_owner_token,
      registration,
      attachedIn: session,
      comingBack: Promise.resolve(),
      returnsTo: { ipcUrl: session.broker.ipcUrl, giveUp: new AbortController() },
      isForgotten: false
    })
    const now = this.#connection.session
    if (now !== undefined && now !== session) this.bringBack(this.#byId.get(registered.endpoint_id)!, now)
    return registered
  }

  /** Ends it at the broker and here. */
  async unregister(id: string, signal?: AbortSignal): Promise<void> {
    const session = await this.#connection.ready(signal)
    const endpoint = this.find(id)
    const current = this.resolve(id)
    await this.#ask(session, { method: "DELETE", path: pathOf(current), headers: this.ownerHeaders(current) }, signal)
    if (endpoint === undefined) return
    endpoint.isForgotten = true
    this.#byId.delete(endpoint.id)
    for (const alias of [...this.#aliases.keys()]) if (this.resolve(alias) === endpoint.id) this.#aliases.delete(alias)
  }

  /** A new session: each endpoint comes back for itself, whatever happens to the others. */
  bringAllBack(session: Session): void {
    this.#firstTries = Promise.all([...this.#byId.values()].map((endpoint) => this.bringBack(endpoint, session)))
  }

  /** Done when it was tried once; it is tried again until it worked or the session is over. */
  bringBack(endpoint: Endpoint, session: Session): Promise<void> {
    endpoint.attachedIn = undefined
    const before = endpoint.comingBack
    const { ipcUrl } = session.broker
    if (endpoint.returnsTo.ipcUrl !== ipcUrl) {
      endpoint.returnsTo.giveUp.abort(new Error("The broker is another one by now."))
      endpoint.returnsTo = { ipcUrl, giveUp: new AbortController() }
    }
    return new Promise((triedOnce) => {
      // What an earlier session began may yet give it a new id.
      endpoint.comingBack = before.then(() => this.#bringBack(endpoint, session, triedOnce))
    })
  }

  /** Waits until the endpoint is on the stream of this session; fails with the signal's reason, or when the session ends. */
  async attached(endpoint: Endpoint, session: Session, signal: AbortSignal): Promise<void> {
    while (endpoint.attachedIn !== session && !session.ended.aborted && !endpoint.isForgotten) {
      await orAborted(endpoint.comingBack, signal)
    }
  }

  async #bringBack(endpoint: Endpoint, session: Session, triedOnce: () => void) {
    const { backoffMaxMs, backoffMs } = this.#connection.settings
    const backoff = new Backoff(backoffMs, backoffMaxMs)
    while (!session.ended.aborted && !endpoint.isForgotten) {
      try {
        await this.#comeBack(endpoint, session)
        endpoint.attachedIn = session
        triedOnce()
        return
      } catch (error) {
        triedOnce()
        if (session.ended.aborted) return
        const cause = asError(error)
        this.#onError(new Error(`Endpoint ${endpoint.id} is not back yet: ${cause.message}`, { cause }))
        await pause(backoff.next(), session.ended).catch(() => undefined)
      }
    }
    triedOnce()
  }

  /** Its place and mail again, else a new registration under another id. */
  async #comeBack(endpoint: Endpoint, session: Session) {
    const { pluginPid } = this.#connection.settings
    const { giveUp } = endpoint.returnsTo
    const reattach = {
      method: "POST",
      path: `${pathOf(endpoint.id)}/reattach`,
      headers: this.ownerHeaders(endpoint.id),
      body: { plugin_pid: endpoint.registration.plugin_pid ?? pluginPid }
    }
    try {
      await this.#ask(session, reattach, session.gone)
      return
    } catch (error) {
      if (!(error instanceof BrokerRefusedError)) throw error
      // In use on this process's stream, which is ours. Brokers that cannot resume mean an earlier, dead one.
      if (error.status === 409 && session.can("endpoint_resume_v1")) return
      if (error.status !== 404 && error.status !== 409) throw error
    }
    const registered = await this.#post(session, endpoint.registration, giveUp.signal)
    if (endpoint.isForgotten) return this.#leave(session, registered)
    const before = endpoint.id
    endpoint.ownerToken = registered.endpoint_owner_token
    if (registered.endpoint_id === before) return
    this.#byId.delete(before)
    endpoint.id = registered.endpoint_id
    this.#byId.set(endpoint.id, endpoint)
    this.#aliases.delete(endpoint.id)
    this.#aliases.set(before, endpoint.id)
  }

  /** Unregistered while it was on its way back. */
  async #leave(session: Session, registered: Registered) {
    await this.#ask(session, {
      method: "DELETE",
      path: pathOf(registered.endpoint_id),
      headers: { "x-endpoint-owner-token": registered.endpoint_owner_token }
    })
  }

  async #post(session: Session, args: RegisterArguments, signal?: AbortSignal): Promise<Registered> {
    const body = { ...args, plugin_pid: args.plugin_pid ?? this.#connection.settings.pluginPid }
    return (await this.#ask(session, { method: "POST", path: "/v1/endpoint/register", body }, signal)) as Registered
  }

  async #ask(session: Session, request: Request, signal?: AbortSignal): Promise<unknown> {
    const answer = await this.#connection.request(session, request, signal)
    if (answer.status < 200 || answer.status > 299) throw errorOf({ ...request, ...answer })
    return answer.body
  }
}

export const pathOf = (id: string): string => `/v1/endpoint/${encodeURIComponent(id)}`
