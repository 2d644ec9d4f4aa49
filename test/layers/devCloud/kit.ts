/** A plain runtime and a plain caller, to drive the development cloud with. */
import { once } from "node:events"
import { Effect } from "effect"
import { WebSocket } from "ws"
import { make } from "../../../src/layers/devCloud/DevCloudServer.js"
import type { DevAccount, DevCloud } from "../../../src/services/DevCloud.js"

export type Cloud = DevCloud["Type"]

/** Runs the test against a cloud of its own. */
export const withCloud = <A>(
  test: (cloud: Cloud) => Promise<A>,
  options: Parameters<typeof make>[0] = {}
): Effect.Effect<A, unknown> =>
  Effect.scoped(
    Effect.flatMap(make(options), (cloud) => Effect.tryPromise({ try: () => test(cloud), catch: (error) => error }))
  )

export const accountOf = (cloud: Cloud, name: string): DevAccount =>
  cloud.accounts.find((account) => account.name === name)!

export const run = Effect.runPromise

export const soon = (ms = 40) => new Promise((resolve) => setTimeout(resolve, ms))

/** A runtime's connection, frame by frame. */
export class Runtime {
  readonly frames: Array<any> = []
  /** What came that is no JSON. */
  readonly nonsense: Array<string> = []
  closed: { readonly code: number; readonly reason: string } | undefined
  readonly socket: WebSocket
  private readonly account: DevAccount
  private taken = 0

  constructor(account: DevAccount) {
    this.account = account
    this.socket = new WebSocket(account.connectorUrl)
    this.socket.on("error", () => undefined)
    this.socket.on("message", (data) => {
      try {
        this.frames.push(JSON.parse(String(data)))
      } catch {
        this.nonsense.push(String(data))
      }
    })
    this.socket.on("close", (code, reason) => {
      this.closed = { code, reason: String(reason) }
    })
  }

  get opened(): Promise<this> {
    return once(this.socket, "open").then(() => this)
  }

  send(frame: unknown): void {
    this.socket.send(typeof frame === "string" ? frame : JSON.stringify(frame))
  }

  register(fields: object = {}): void {
    this.send({
      event: "REGISTER",
      token: this.account.token,
      protocolVersion: 4,
      clientVersion: "1",
      clientKind: "runtime-broker",
      lastKnownSeq: 0,
      ...fields
    })
  }

  message(messageId: string, to: string, content = messageId, metadata: object = {}): void {
    this.send({ event: "SEND_MESSAGE", messageId, to, content, contentType: "text", metadata })
  }

  ack(upToSeq: number): void {
    this.send({ event: "DELIVERY_ACK", upToSeq })
  }

  /** The next frame, in order. */
  async next(): Promise<any> {
    return this.until(() => (this.taken < this.frames.length ? this.frames[this.taken++] : undefined), "a frame")
  }

  async nextOf(event: string): Promise<any> {
    while (true) {
      const frame = await this.next()
      if (frame.event === event) return frame
    }
  }

  async end(): Promise<{ readonly code: number; readonly reason: string }> {
    return this.until(() => this.closed, "its end")
  }

  /** The contents of messages so far. */
  get contents(): ReadonlyArray<string> {
    return this.frames.filter(({ event }) => event === "MESSAGE_RECEIVED").map(({ content }) => content)
  }

  async until<A>(look: () => A | undefined, what = "it"): Promise<A> {
    for (let waited = 0; waited < 3_000; waited += 5) {
      const found = look()
      if (found !== undefined) return found
      await soon(5)
    }
    throw new Error(`waited in vain for ${what}; there were ${JSON.stringify(this.frames)}`)
  }
}

/** A registered runtime of the account. */
export const runtime = async (cloud: Cloud, name: string, fields: object = {}): Promise<Runtime> => {
  const one = await new Runtime(accountOf(cloud, name)).opened
  one.register(fields)
  const ack = await one.next()
  if (ack.status !== "ok") throw new Error(JSON.stringify(ack))
  return one
}

export interface Reply {
  readonly status: number
  readonly text: string
  readonly body: any
  readonly headers: Headers
}

const replyOf = async (response: Response): Promise<Reply> => {
  const text = await response.text()
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    body = undefined
  }
  return { status: response.status, text, body, headers: response.headers }
}

/** A call to the platform as the account. */
export const call = async (
  cloud: Cloud,
  name: string,
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal
): Promise<Reply> =>
  replyOf(
    await fetch(`${cloud.url}/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${accountOf(cloud, name).token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal })
    })
  )

/** A command. */
export const dev = async (cloud: Cloud, method: string, path: string, body?: unknown): Promise<Reply> =>
  replyOf(
    await fetch(`${cloud.url}/dev${path}`, {
      method,
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
    })
  )

/** A subscription to control events. */
export class Subscriber {
  text = ""
  isEnded = false
  private readonly abort = new AbortController()

  static async open(cloud: Cloud, name: string, lastEventId?: string): Promise<Subscriber> {
    const { subjectId, token } = accountOf(cloud, name)
    const one = new Subscriber()
    const response = await fetch(`${cloud.url}/v1/runtime/control-events?agent_id=${subjectId}`, {
      headers: {
        authorization: `Bearer ${token}`,
        accept: "text/event-stream",
        ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId })
      },
      signal: one.abort.signal
    })
    if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`)
    void one.read(response)
    return one
  }

  private async read(response: Response): Promise<void> {
    try {
      for await (const chunk of response.body!) this.text += Buffer.from(chunk as Uint8Array).toString("utf8")
    } catch {
      // Cut, or left.
    }
    this.isEnded = true
  }

  leave(): void {
    this.abort.abort()
  }

  /** Data of the events so far. */
  get events(): ReadonlyArray<{ readonly id: string | undefined; readonly data: string }> {
    return this.text
      .split("\n\n")
      .slice(0, -1)
      .flatMap((frame) => {
        const data = /^data: (.*)$/m.exec(frame)?.[1]
        return data === undefined ? [] : [{ id: /^id: (.*)$/m.exec(frame)?.[1], data }]
      })
  }

  async count(count: number): Promise<ReadonlyArray<{ readonly id: string | undefined; readonly data: any }>> {
    for (let waited = 0; waited < 3_000; waited += 5) {
      if (this.events.length >= count) return this.events
      await soon(5)
    }
    throw new Error(`waited in vain for ${count} events; there was ${JSON.stringify(this.text)}`)
  }
}
