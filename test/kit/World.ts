/**
 * A whole broker and a model beside it. Steps are applied to both; after each, every frame the plugins got is checked against
 * what the model knows of the message: whose it is, what was before it, whether it was here already.
 */
import { strict as assert } from "node:assert"
import { Effect, Exit, TestClock } from "effect"
import { BrokerStatus } from "../../src/services/BrokerStatus.js"
import { Directory } from "../../src/services/Directory.js"
import { Dispatch } from "../../src/services/Dispatch.js"
import { Inbox } from "../../src/services/Inbox.js"
import type { MessageReceived } from "../../src/services/ipc/StreamFrame.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Registration } from "../../src/services/Registration.js"
import { Registry } from "../../src/services/Registry.js"
import { Sender } from "../../src/services/Sender.js"
import { FakePlugin, FakeProcesses, settle } from "./core.js"
import { FakeNetwork } from "./FakeNetwork.js"
import type { FakeSocket } from "./FakeSocket.js"

/** What the model knows of an endpoint. */
interface KnownEndpoint {
  readonly id: string
  readonly plugin: KnownPlugin
  /** Pushed over a socket and not answered there. */
  readonly inFlight: Set<KnownMessage>
}

interface KnownPlugin {
  readonly plugin: FakePlugin
  readonly endpoints: Array<KnownEndpoint>
  isOpen: boolean
  isAlive: boolean
  /** Frames of its socket that were looked at. */
  seen: number
  readonly unanswered: Array<{ readonly frame: MessageReceived; readonly message: KnownMessage }>
}

interface KnownMessage {
  readonly id: string
  /** The endpoint it is for, if it is there. */
  readonly home: string | undefined
  readonly rank: number
  readonly expiresAt: number
  /** Dispatched: to whom, behind what was accepted by then. */
  moved: { readonly to: string; readonly rank: number; readonly behind: ReadonlySet<string> } | undefined
  acknowledged: boolean
  wasPushed: boolean
  /** Sockets it may not be pushed over again. */
  readonly spent: Set<FakeSocket>
}

const plainSend = {
  to: "mstp://peer",
  contentType: "text",
  metadata: {},
  requireLive: false,
  idempotencyKey: undefined,
  store: false
}

export class World {
  readonly network = new FakeNetwork()
  readonly processes = new FakeProcesses()
  private readonly plugins: Array<KnownPlugin> = []
  private readonly endpoints = new Map<string, KnownEndpoint>()
  private readonly messages = new Map<string, KnownMessage>()
  private readonly correlations: Array<{ readonly id: string; readonly endpoint: string }> = []
  private nextPid = 10
  private ranks = 0
  /** When the frames were last looked at: what came since came later. */
  private lookedAt = 0

  // -- steps -----------------------------------------------------------------------------------------------------------

  start = () =>
    Effect.gen(this, function* () {
      const known: KnownPlugin = {
        plugin: new FakePlugin(++this.nextPid),
        endpoints: [],
        isOpen: false,
        isAlive: true,
        seen: 0,
        unanswered: []
      }
      this.plugins.push(known)
      yield* this.open(known)
      yield* this.register(known)
    })

  /** A new process, a new stream with what was open taken back, or nothing where that makes no sense. */
  open = (known: KnownPlugin) =>
    Effect.gen(this, function* () {
      if (!known.isAlive) return
      this.left(known)
      yield* known.plugin.open
      known.isOpen = true
      known.seen = 0
      yield* settle
    })

  register = (known: KnownPlugin) =>
    Effect.gen(this, function* () {
      if (!known.isOpen || known.endpoints.length >= 3) return
      const { endpointId, resumed } = yield* known.plugin
        .register({ session_name: `session ${known.endpoints.length}` })
        .pipe(Effect.orDie)
      assert.equal(resumed, this.endpoints.has(endpointId), "resumed exactly when it was there before")
      if (resumed) return
      const endpoint: KnownEndpoint = { id: endpointId, plugin: known, inFlight: new Set() }
      known.endpoints.push(endpoint)
      this.endpoints.set(endpointId, endpoint)
    })

  comeBack = (known: KnownPlugin) =>
    Effect.gen(this, function* () {
      if (!known.isAlive) return
      if (!known.isOpen) yield* this.open(known)
      const registration = yield* Registration
      const { pid } = known.plugin
      for (const { id } of known.endpoints) {
        yield* Effect.exit(registration.reattach(id, pid, { pid, ownerToken: undefined }))
        yield* this.look
      }
    })

  drop = (known: KnownPlugin) =>
    Effect.sync(() => {
      if (!known.isOpen) return
      this.left(known)
      known.plugin.drop()
    })

  die = (known: KnownPlugin) =>
    Effect.gen(this, function* () {
      known.isAlive = false
      this.processes.dead.add(known.plugin.pid)
      yield* this.drop(known)
    })

  unregister = (known: KnownPlugin) =>
    Effect.gen(this, function* () {
      const endpoint = known.endpoints.pop()
      if (endpoint === undefined) return
      endpoint.inFlight.clear()
      this.takeOut(known, (message) => (message.moved?.to ?? message.home) === endpoint.id)
      yield* (yield* Registry).unregister(endpoint.id)
    })

  deliver = (count: number, metadata: object, home: string | undefined) =>
    Effect.gen(this, function* () {
      const now = yield* TestClock.currentTimeMillis
      const given = Array.from({ length: count }, () => {
        const message: KnownMessage = {
          id: `m${this.messages.size + 1}`,
          home,
          rank: ++this.ranks,
          expiresAt: "expires_at" in metadata ? now + 3_000 : Number.POSITIVE_INFINITY,
          moved: undefined,
          acknowledged: false,
          wasPushed: false,
          spent: new Set()
        }
        this.messages.set(message.id, message)
        const expiry = "expires_at" in metadata ? { expires_at: message.expiresAt } : {}
        return { content: message.id, metadata: { ...metadata, ...expiry } }
      })
      this.network.deliver(...given)
    })

  deliverTo = (endpoint: KnownEndpoint | undefined, count: number, mortal: boolean) =>
    this.deliver(
      count,
      { target_endpoint_id: endpoint?.id ?? "ep_nobody", ...(mortal ? { expires_at: 0 } : {}) },
      endpoint?.id
    )

  /** An answer to something that was sent; `echo` looks as if the sender itself sent it. */
  answer = (index: number, echo: boolean) =>
    Effect.suspend(() => {
      const sent = this.correlations[index % Math.max(1, this.correlations.length)]
      if (sent === undefined) return Effect.void
      const source = echo ? { source_endpoint_id: sent.endpoint } : {}
      return this.deliver(1, { correlation_id: sent.id, ...source }, echo ? undefined : sent.endpoint)
    })

  send = (endpoint: KnownEndpoint | undefined) =>
    Effect.gen(this, function* () {
      const found = endpoint && (yield* Directory).unsafeGet(endpoint.id)
      if (found === undefined) return
      const before = this.network.sent.length
      const request = { ...plainSend, content: "?" }
      const exit = yield* Effect.exit((yield* Sender).send(found, request))
      if (Exit.isFailure(exit)) return
      const id = this.network.sent[before]?.metadata.correlation_id
      assert.equal(typeof id, "string")
      this.correlations.push({ id: id as string, endpoint: endpoint!.id })
    })

  dispatch = (index: number, endpoint: KnownEndpoint | undefined) =>
    Effect.gen(this, function* () {
      const items = [...(yield* Inbox).unsafeItems()]
      const item = items[index % Math.max(1, items.length)]
      if (item === undefined || endpoint === undefined) return
      const message = this.messages.get(item.message.id)!
      const before = message.moved
      message.moved = { to: endpoint.id, rank: ++this.ranks, behind: new Set(this.network.accepted) }
      const exit = yield* Effect.exit((yield* Dispatch).dispatch(item.message.id, endpoint.id))
      if (Exit.isSuccess(exit)) message.spent.clear()
      else message.moved = before
    })

  acknowledge = (known: KnownPlugin, count: number) =>
    Effect.sync(() => {
      const answered = known.unanswered.splice(0, count)
      if (!known.isOpen || answered.length === 0) return
      for (const { message } of answered) {
        message.acknowledged = true
        for (const { inFlight } of this.endpoints.values()) inFlight.delete(message)
      }
      known.plugin.acknowledge(...answered.map(({ frame }) => frame))
    })

  refuse = (known: KnownPlugin, index: number) =>
    Effect.sync(() => {
      const [answered] = known.unanswered.splice(index % Math.max(1, known.unanswered.length), 1)
      if (!known.isOpen || answered === undefined) return
      for (const { inFlight } of this.endpoints.values()) inFlight.delete(answered.message)
      answered.message.spent.delete(known.plugin.socket)
      known.plugin.refuse(answered.frame)
    })

  stopReading = (known: KnownPlugin) => Effect.sync(() => known.isOpen && known.plugin.socket.stopReading())
  readOn = (known: KnownPlugin) => Effect.sync(() => known.isOpen && known.plugin.socket.readOn())

  pass = (ms: number) => TestClock.adjust(ms)

  at = (index: number): KnownPlugin => this.plugins[index % this.plugins.length]!
  endpointAt = (index: number): KnownEndpoint | undefined => {
    const open = this.plugins.flatMap(({ endpoints }) => endpoints)
    return open[index % Math.max(1, open.length)]
  }

  // -- what must hold --------------------------------------------------------------------------------------------------

  /** After every step: the books, and each frame that came. */
  readonly look = Effect.gen(this, function* () {
    yield* settle
    const now = yield* TestClock.currentTimeMillis
    const books = (yield* Ledger).unsafeBooks()
    assert.equal(books.unaccounted, 0, `the books balance: ${JSON.stringify(books)}`)
    for (const known of this.plugins) {
      if (!known.isOpen) continue
      const frames = known.plugin.received
      for (; known.seen < frames.length; known.seen++) this.came(known, frames[known.seen]!, now)
      if (known.plugin.socket.onEnd === undefined) this.left(known)
    }
    this.lookedAt = now
  })

  /** Everyone is there, reads and acknowledges, and the owner dispatches the rest: then every message has arrived. */
  readonly finish = Effect.gen(this, function* () {
    yield* this.start()
    const last = this.plugins.at(-1)!
    for (let round = 0; round < 200; round++) {
      for (const known of this.plugins) {
        if (!known.isOpen) yield* this.comeBack(known)
        yield* this.readOn(known)
        yield* this.look
        yield* this.acknowledge(known, 1_000)
        yield* this.look
      }
      if ([...(yield* Inbox).unsafeItems()].length > 0) yield* this.dispatch(0, last.endpoints[0])
      else {
        const { held } = (yield* Ledger).unsafeBooks()
        const isOver = held === 0 && this.network.openIds.length === 0 && this.network.releasedIds.length === 0
        if (isOver) break
      }
      yield* this.look
      yield* this.pass(round % 2 === 0 ? 100 : 61_000)
      yield* this.look
    }
    const lost = [...this.messages.values()].filter(
      ({ acknowledged, expiresAt }) => !acknowledged && expiresAt === Number.POSITIVE_INFINITY
    )
    const { warnings } = (yield* BrokerStatus).unsafeStatus()
    assert.deepEqual(
      lost.map(({ id }) => id),
      [],
      `everything arrives; ${warnings.join(" ")}`
    )
    assert.deepEqual([this.network.releasedIds, this.network.openIds], [[], []], "the network keeps nothing")
  })

  private came(known: KnownPlugin, frame: MessageReceived, now: number): void {
    const message = this.messages.get(frame.sourceMessageId!)
    assert.ok(message !== undefined)
    const to = message.moved?.to ?? message.home
    const endpoint = this.endpoints.get(to ?? "")
    assert.ok(endpoint?.plugin === known, `${message.id} is for ${to}, not for plugin ${known.plugin.pid}`)
    assert.ok(!message.acknowledged, `${message.id} comes again after its receipt`)
    assert.ok(this.lookedAt < message.expiresAt, `${message.id} is expired`)
    assert.ok(!message.spent.has(known.plugin.socket), `${message.id} comes twice over one channel`)
    if (message.wasPushed && message.moved === undefined) assert.equal(frame.redelivered, true, `${message.id} again`)
    for (const other of this.messages.values()) {
      if (other !== message && this.mustPrecede(other, message, endpoint, now)) {
        assert.ok(endpoint.inFlight.has(other), `${message.id} overtakes ${other.id}`)
      }
    }
    message.wasPushed = true
    message.spent.add(known.plugin.socket)
    endpoint.inFlight.add(message)
    known.unanswered.push({ frame, message })
  }

  /** `other` waits for the same endpoint and was there before. */
  private mustPrecede(other: KnownMessage, message: KnownMessage, { id }: KnownEndpoint, now: number): boolean {
    if ((other.moved?.to ?? other.home) !== id || other.acknowledged || now >= other.expiresAt) return false
    if (message.moved === undefined) return (other.moved?.rank ?? other.rank) < message.rank
    return other.moved === undefined ? message.moved.behind.has(other.id) : other.moved.rank < message.moved.rank
  }

  /** The plugin's socket is no more: what it had not answered waits for the next one. */
  private left(known: KnownPlugin): void {
    known.isOpen = false
    this.takeOut(known, () => true)
    for (const { inFlight } of known.endpoints) inFlight.clear()
  }

  private takeOut(known: KnownPlugin, which: (message: KnownMessage) => boolean): void {
    const rest = known.unanswered.filter(({ message }) => !which(message))
    known.unanswered.splice(0, known.unanswered.length, ...rest)
  }
}
