import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker, startBroker, startPlugin } from "../kit/broker.js"
import {
  contentsOf,
  inboxNow,
  inboxOf,
  kill,
  refused,
  registerAgain,
  type Session,
  sharedBroker,
  startSession,
  statusOf,
  untilState
} from "../kit/endToEnd.js"
import { idleProcess } from "../kit/startedProcess.js"

const drop = (broker: RunningBroker, { id, plugin }: Session) =>
  Effect.zipRight(plugin.drop, untilState(broker, id, "reconnecting"))

const isContinuationOf = (id: string, items: ReadonlyArray<any>) => {
  for (const item of items) {
    assert.deepInclude(item, { reason: "closed_session_continuation", original_target_endpoint_id: id })
  }
}

const shared = sharedBroker({ settings: { livenessIntervalMs: 100 } })

describe.concurrent("active", () => {
  it.scopedLive("begins with the registration and has no deadline", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const { id } = yield* startSession(broker)
      const endpoint = yield* statusOf(broker, id)
      assert.strictEqual(endpoint!.state, "active")
      assert.isUndefined(endpoint!.grace_deadline)
    })
  )

  it.scopedLive("ends with the stream: every endpoint of the plugin is reconnecting, with a deadline", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      const second = yield* session.plugin.register({ agent_id: "second" })
      const before = Date.now()
      yield* session.plugin.drop
      for (const id of [session.id, second]) {
        const endpoint = yield* untilState(broker, id, "reconnecting")
        const deadline = Date.parse(endpoint!.grace_deadline!)
        assert.isAtLeast(deadline, before + 600_000)
        assert.isAtMost(deadline, Date.now() + 600_000)
      }
    })
  )

  it.scopedLive("ends with a closing handshake as with a cut", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const plugin = yield* startPlugin(broker)
      const socket = yield* plugin.open
      const id = yield* plugin.register()
      socket.close(1000, "client_close")
      yield* untilState(broker, id, "reconnecting")
    })
  )

  it.scopedLive("ends for good with its process: closed, and undelivered mail is undispatched", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker, { acknowledges: false })
      yield* session.send(session.address, "never acknowledged")
      yield* session.plugin.take(1)
      yield* kill(session.plugin.process)
      yield* session.plugin.drop
      yield* untilState(broker, session.id, "closed")
      isContinuationOf(session.id, yield* inboxOf(broker, "never acknowledged"))
    })
  )

  it.scopedLive("ends also when the process is gone and its stream is not", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      yield* kill(session.plugin.process)
      yield* untilState(broker, session.id, "closed")
    })
  )

  it.scopedLive("ends with unregistering: closed, and what was in flight is undispatched", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker, { acknowledges: false })
      for (const content of ["unregistered 1", "unregistered 2"]) yield* session.send(session.address, content)
      yield* session.plugin.take(2)
      assert.strictEqual((yield* session.plugin.call("DELETE", `/v1/endpoint/${session.id}`)).status, 200)
      const items = yield* inboxOf(broker, "unregistered 1", "unregistered 2")
      isContinuationOf(session.id, items)
      assert.deepStrictEqual(
        items.map(({ content }) => content),
        ["unregistered 1", "unregistered 2"]
      )
    })
  )

  it.scopedLive("ends when the plugin falls silent, and not for one that answers pings", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { pingIntervalMs: 100, silenceMs: 1_500 } })
      const silent = yield* startPlugin(broker)
      const socket = yield* silent.open
      const id = yield* silent.register()
      const lively = yield* startSession(broker)
      socket.pause()
      yield* untilState(broker, id, "reconnecting")
      assert.strictEqual((yield* statusOf(broker, lively.id))!.state, "active")
    })
  )
})

describe.concurrent("reconnecting", () => {
  it.scopedLive("ends with a reattach: active again, without a deadline, its mail in order", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      const sender = yield* startSession(broker)
      yield* drop(broker, session)
      for (const content of ["1", "2", "3"]) yield* sender.send(session.address, content)
      yield* session.plugin.open
      const { plugin } = session
      const answer = yield* plugin.call("POST", `/v1/endpoint/${session.id}/reattach`, { plugin_pid: plugin.pid })
      assert.strictEqual(answer.body.reconnecting_buffer_count, 3)
      assert.deepStrictEqual(yield* contentsOf(plugin, 3), ["1", "2", "3"])
      const endpoint = yield* statusOf(broker, session.id)
      assert.strictEqual(endpoint!.state, "active")
      assert.isUndefined(endpoint!.grace_deadline)
    })
  )

  it.scopedLive("is not left by opening a stream alone", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      yield* drop(broker, session)
      yield* session.plugin.open
      assert.strictEqual((yield* statusOf(broker, session.id))!.state, "reconnecting")
    })
  )

  it.scopedLive("begins anew with each loss of the stream: a later deadline", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      const first = yield* drop(broker, session)
      yield* session.plugin.open
      yield* registerAgain(session)
      yield* eventually(
        Effect.sync(() => Date.now()),
        (now) => now > Date.parse(first!.state_since)
      )
      const second = yield* drop(broker, session)
      assert.isAbove(Date.parse(second!.grace_deadline!), Date.parse(first!.grace_deadline!))
    })
  )

  it.scopedLive("A5: ends with the grace period: closed, its routes unknown, its mail undispatched in order", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { graceMs: 500 } })
      const session = yield* startSession(broker)
      const sender = yield* startSession(broker)
      yield* drop(broker, session)
      const contents = ["held 1", "held 2", "held 3"]
      for (const content of contents) yield* sender.send(session.address, content)
      yield* untilState(broker, session.id, "closed")
      const items = yield* inboxOf(broker, ...contents)
      isContinuationOf(session.id, items)
      assert.deepStrictEqual(
        items.map(({ content }) => content),
        contents
      )
      yield* session.plugin.open
      const body = { plugin_pid: session.plugin.pid }
      for (const route of ["heartbeat", "reattach"]) {
        const answer = yield* session.plugin.call("POST", `/v1/endpoint/${session.id}/${route}`, body)
        refused(answer, 404, "endpoint_unknown", session.id)
      }
      assert.strictEqual((yield* registerAgain(session)).resumed, false)
      assert.strictEqual((yield* broker.status).books.unaccounted, 0)
    })
  )

  it.scopedLive("D14: ends within 3 s when the process dies in its grace period", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      const sender = yield* startSession(broker)
      yield* drop(broker, session)
      yield* sender.send(session.address, "its plugin died")
      yield* kill(session.plugin.process)
      yield* eventually(statusOf(broker, session.id), (endpoint) => endpoint === undefined, 3_000)
      isContinuationOf(session.id, yield* inboxOf(broker, "its plugin died"))
    })
  )

  it.scopedLive("outlives its process where the channel announced endpoint_resume_v1", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const lasting = yield* startSession(broker, { capabilities: ["endpoint_resume_v1"] })
      const other = yield* startSession(broker)
      yield* kill(lasting.plugin.process)
      yield* kill(other.plugin.process)
      yield* lasting.plugin.drop
      yield* other.plugin.drop
      yield* untilState(broker, other.id, "closed")
      const endpoint = yield* untilState(broker, lasting.id, "reconnecting")
      assert.isAbove(Date.parse(endpoint!.grace_deadline!), Date.now())
    })
  )
})

describe.concurrent("a stream that replaces another", () => {
  it.scopedLive("A2: closes it with 1000 `replaced`, and mail goes on over the new one", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      const plugin = yield* startPlugin(broker, { process: session.plugin.process })
      yield* plugin.open
      const closed = yield* eventually(Effect.sync(session.plugin.closed), (closed) => closed !== undefined)
      assert.deepStrictEqual(closed, { code: 1000, reason: "replaced" })
      assert.strictEqual((yield* statusOf(broker, session.id))!.state, "active")
      yield* session.send(session.address, "over the new one")
      assert.deepStrictEqual(yield* contentsOf(plugin, 1), ["over the new one"])
      assert.lengthOf(session.plugin.messages, 0)
    })
  )

  it.scopedLive("carries each endpoint over once: a registration claims it, the next one is new", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      yield* session.plugin.open
      const again = yield* registerAgain(session)
      assert.deepInclude(again, { endpoint_id: session.id, endpoint_owner_token: session.ownerToken, resumed: true })
      const another = yield* registerAgain(session)
      assert.strictEqual(another.resumed, false)
      assert.notStrictEqual(another.endpoint_id, session.id)
    })
  )

  it.scopedLive("gets what the old one never acknowledged, first and marked", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker, { acknowledges: false })
      for (const content of ["a", "b"]) yield* session.send(session.address, content)
      yield* session.plugin.take(2)
      yield* session.plugin.open
      yield* session.send(session.address, "c")
      const messages = yield* session.plugin.take(3)
      assert.deepStrictEqual(
        messages.map(({ content, redelivered }) => [content, redelivered]),
        [
          ["a", true],
          ["b", true],
          ["c", undefined]
        ]
      )
    })
  )
})

describe.concurrent("coming back", () => {
  it.scopedLive("by registering again, as published clients do: the same endpoint, its mail in order", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      const sender = yield* startSession(broker)
      yield* drop(broker, session)
      for (const content of ["1", "2", "3"]) yield* sender.send(session.address, content)
      yield* session.plugin.open
      assert.deepInclude(yield* registerAgain(session), {
        endpoint_id: session.id,
        endpoint_owner_token: session.ownerToken,
        resumed: true
      })
      yield* sender.send(session.address, "4")
      assert.deepStrictEqual(yield* contentsOf(session.plugin, 4), ["1", "2", "3", "4"])
      assert.strictEqual((yield* statusOf(broker, session.id))!.state, "active")
    })
  )

  it.scopedLive("of two equal sessions the earlier first, then the later", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      const second = yield* registerAgain(session)
      yield* drop(broker, session)
      yield* untilState(broker, second.endpoint_id, "reconnecting")
      yield* session.plugin.open
      const came = [yield* registerAgain(session), yield* registerAgain(session), yield* registerAgain(session)]
      assert.deepStrictEqual(
        came.map(({ resumed }) => resumed),
        [true, true, false]
      )
      assert.deepStrictEqual(
        came.slice(0, 2).map(({ endpoint_id }) => endpoint_id),
        [session.id, second.endpoint_id]
      )
    })
  )

  it.scopedLive("not as a session that differs in anything it is known by", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const said = { session_name: "n", workspace: "/srv", tracking_ref: "t", runtime_session_id: "r" }
      const session = yield* startSession(broker, {}, said)
      yield* drop(broker, session)
      yield* session.plugin.open
      const others = [
        { agent_id: "other" },
        { kind: "other" },
        { session_name: "other" },
        { session_name: null },
        { workspace: "/other" },
        { workspace: { root: "/srv", cwd: "/srv/sub" } },
        { tracking_ref: "other" },
        { runtime_session_id: "other" },
        { runtime_session_id: null }
      ]
      for (const other of others) {
        assert.strictEqual((yield* registerAgain(session, { ...said, ...other })).resumed, false, JSON.stringify(other))
      }
      const same = { ...said, workspace: { root: " /srv ", cwd: "/srv" }, task_hint: "x", started_at: "2031-01-01" }
      assert.deepInclude(yield* registerAgain(session, same), { endpoint_id: session.id, resumed: true })
    })
  )

  it.scopedLive("not as another process, which gets an endpoint of its own", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker)
      yield* drop(broker, session)
      const stranger = yield* startPlugin(broker)
      yield* stranger.open
      const registered = yield* registerAgain({ ...session, plugin: stranger })
      assert.strictEqual(registered.resumed, false)
      assert.strictEqual((yield* statusOf(broker, session.id))!.state, "reconnecting")
    })
  )

  it.scopedLive("by owner token from another process: it owns the endpoint then, with its mail", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker, { capabilities: ["push_receipt_ack_v1", "endpoint_resume_v1"] })
      const sender = yield* startSession(broker)
      yield* kill(session.plugin.process)
      yield* drop(broker, session)
      for (const content of ["1", "2"]) yield* sender.send(session.address, content)
      const heir = yield* startPlugin(broker, { process: yield* idleProcess })
      yield* heir.open
      const resume = { endpoint_id: session.id, endpoint_owner_token: session.ownerToken }
      assert.deepInclude(yield* registerAgain({ ...session, plugin: heir }, { resume }), {
        ...resume,
        resumed: true
      })
      assert.deepStrictEqual(yield* contentsOf(heir, 2), ["1", "2"])
      assert.deepInclude(yield* statusOf(broker, session.id), { state: "active", plugin_pid: heir.pid })
      const former = yield* session.plugin.call("POST", `/v1/endpoint/${session.id}/heartbeat`)
      refused(former, 403, "endpoint_pid_mismatch", String(heir.pid))
      yield* heir.drop
      yield* untilState(broker, session.id, "reconnecting")
    })
  )
})

describe.concurrent("closed", () => {
  it.scopedLive("is for good: what is sent there becomes undispatched, for the owner to hand on", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const [closed, sender] = [yield* startSession(broker), yield* startSession(broker)]
      yield* closed.plugin.call("DELETE", `/v1/endpoint/${closed.id}`)
      assert.strictEqual((yield* sender.send(closed.address, "afterwards")).body.status, "stored")
      const items = yield* inboxOf(broker, "afterwards")
      isContinuationOf(closed.id, items)
      const body = { undispatched_id: items[0].id, target_endpoint_id: sender.id }
      assert.strictEqual((yield* broker.call("POST", "/v1/dispatch", body)).status, 200)
      assert.deepStrictEqual(yield* contentsOf(sender.plugin, 1), ["afterwards"])
      assert.deepStrictEqual(yield* inboxNow(broker, "afterwards"), [])
    })
  )
})
