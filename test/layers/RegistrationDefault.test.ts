import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Directory } from "../../src/services/Directory.js"
import { Limits } from "../../src/services/Limits.js"
import { type RegisterRequest, Registration } from "../../src/services/Registration.js"
import { Registry } from "../../src/services/Registry.js"
import { type CoreOptions, core, FakePlugin, type LogLine, withReceipts } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform, refused, unauthorized, unavailable } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { comeBack, drain, jitter, mail, names, pass, quiet, session, settled } from "../kit/steps.js"

interface Options extends Omit<CoreOptions, "settings" | "variants"> {
  readonly settings?: Partial<Settings>
  readonly platform?: FakePlatform
  readonly store?: FakeStore
}
const broker = ({ platform = new FakePlatform(), settings = {}, store = new FakeStore(), ...options }: Options = {}) =>
  core({
    ...options,
    settings: { ...quiet, ...settings },
    variants: { platform: platform.layer, store: store.layer }
  })

/** The code the registration is refused with. */
const refusal = (plugin: FakePlugin, given: Partial<RegisterRequest> = {}) =>
  Effect.map(Effect.flip(plugin.register(given)), (error) => (error as { readonly _tag: string })._tag)
const resumeOf = ({ endpointId, ownerToken }: { readonly endpointId: string; readonly ownerToken: string }) => ({
  endpoint_id: endpointId,
  endpoint_owner_token: ownerToken
})

const full = {
  agent_id: "agent",
  kind: "test",
  session_name: "fix parser",
  workspace: { root: "/srv/parser", cwd: "/srv/parser/src" },
  tracking_ref: "JIRA-12",
  runtime_session_id: "run-1"
} satisfies Partial<RegisterRequest>

describe("a new session", () => {
  it.scoped("gets an endpoint of its own with a token of its own, active on its channel, known to the platform", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = new FakePlugin(48_213)
      yield* plugin.open
      const first = yield* plugin.register({
        ...full,
        task_hint: "lexer",
        runtime_capabilities: ["x", "remote_spawn_v1"]
      })
      const second = yield* plugin.register({ kind: "other" })
      assert.isFalse(first.resumed)
      assert.notStrictEqual(first.endpointId, second.endpointId)
      assert.notStrictEqual(first.ownerToken, second.ownerToken)
      assert.strictEqual((yield* Directory).unsafeGet(first.endpointId)?.state._tag, "Active")
      const [told, other] = platform.registrations
      const { endpoint_nonce, ...rest } = told!
      assert.deepStrictEqual(rest, {
        runtime_kind: "test",
        display_label: "test · parser · JIRA-12",
        workspace: full.workspace,
        tracking_ref: "JIRA-12",
        session_name: "fix parser",
        task_hint: "lexer",
        runtime_capabilities: ["x"],
        runtime_session_id: "run-1"
      })
      assert.isNotEmpty(endpoint_nonce)
      assert.notStrictEqual(endpoint_nonce, other!.endpoint_nonce)
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("is answered when it is durable", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      yield* plugin.open
      store.hold()
      const registering = yield* Effect.fork(plugin.register())
      yield* settled
      assert.isNull(registering.unsafePoll())
      store.release()
      yield* settled
      assert.isNotNull(registering.unsafePoll())
    }).pipe(Effect.provide(broker({ store })))
  })

  it.scoped("learns what the platform calls it", () => {
    const platform = new FakePlatform()
    const sessionNaming = { nickname: "quick fox", owner_edited_name: null }
    platform.onRegister = () => Effect.succeed({ endpointId: "ep_31", sessionNaming })
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      assert.strictEqual(plugin.endpointId, "ep_31")
      assert.deepStrictEqual(plugin.sessionNaming, sessionNaming)
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("needs an open channel of its process", () =>
    Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      assert.strictEqual(yield* refusal(plugin), "ipc_channel_missing")
      yield* plugin.open
      plugin.drop()
      assert.strictEqual(yield* refusal(plugin), "ipc_channel_missing")
      assert.strictEqual(
        yield* refusal(plugin, { resume: { endpoint_id: "x", endpoint_owner_token: "x" } }),
        "ipc_channel_missing"
      )
    }).pipe(Effect.provide(broker()))
  )

  it.scoped(
    "is refused for a workspace or a session id the broker cannot take, before the platform hears of it",
    () => {
      const platform = new FakePlatform()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        for (const workspace of ["  ", 7, [], { root: "/a" }, { root: "/a", cwd: "/a", remote: 1 }]) {
          assert.strictEqual(yield* refusal(plugin, { workspace }), "invalid_request")
        }
        for (const runtime_session_id of ["__masons_x", "x".repeat(257)]) {
          assert.strictEqual(yield* refusal(plugin, { runtime_session_id }), "invalid_runtime_session_id")
        }
        assert.strictEqual(platform.registrations.length, 1)
      }).pipe(Effect.provide(broker({ platform })))
    }
  )

  it.scoped("F11: hears what the platform said, in the broker's words; nothing is registered", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      yield* plugin.open
      platform.onRegister = () => unauthorized
      assert.strictEqual(yield* refusal(plugin), "platform_unauthorized")
      platform.onRegister = () => unavailable()
      assert.strictEqual(yield* refusal(plugin), "platform_unavailable")
      assert.deepStrictEqual(Array.from((yield* Directory).unsafeAll()), [])
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("F11: a refusal of the platform keeps its status and code", () => {
    const platform = new FakePlatform()
    platform.onRegister = () => refused
    return Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      yield* plugin.open
      assert.notStrictEqual(yield* refusal(plugin), "platform_unavailable", "it is not a failure that passes")
      const { code, status } = refused
      assert.deepInclude(yield* Effect.flip(plugin.register({})), { status, code, message: refused.reason })
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("with a spawn token nobody waits for is registered, and the log says so", () => {
    const log: Array<LogLine> = []
    return Effect.gen(function* () {
      yield* session(11, { spawn_token: "cmd-5a1" })
      const line = log.find(({ event }) => event === "endpoint_register_unknown_spawn_token")
      assert.deepInclude(line, { level: "warn", fields: { plugin_pid: 11 } })
    }).pipe(Effect.provide(broker({ log })))
  })

  it.scoped(
    "is refused when there are as many endpoints as there may be; what is there goes on, and makes room",
    () => {
      const platform = new FakePlatform()
      return Effect.gen(function* () {
        const registry = yield* Registry
        const limits = yield* Limits
        const plugin = yield* session(11)
        yield* plugin.register({ session_name: "second" })
        const error = yield* Effect.flip(plugin.register({ session_name: "third" }))
        assert.deepInclude(error, { _tag: "too_many_endpoints", retryable: true })
        assert.include((error as Error).message, "All 2 endpoints")
        assert.deepStrictEqual(limits.unsafeHits(), { endpoints: 1 })
        assert.strictEqual(platform.registrations.length, 2, "the platform is not asked")
        plugin.drop()
        yield* plugin.open
        assert.isTrue((yield* plugin.register()).resumed)
        yield* registry.unregister(plugin.endpointId)
        assert.isFalse((yield* plugin.register({ session_name: "third" })).resumed)
      }).pipe(Effect.provide(broker({ platform, settings: { endpoints: 2 } })))
    }
  )

  it.scoped("counts as one of them while the platform is asked, and no longer when that failed", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      yield* plugin.open
      const answer = yield* Deferred.make<void>()
      platform.onRegister = () => Effect.zipRight(Deferred.await(answer), unavailable())
      const asking = yield* Effect.fork(refusal(plugin))
      yield* settled
      assert.strictEqual(yield* refusal(plugin), "too_many_endpoints")
      yield* Deferred.succeed(answer, undefined)
      assert.strictEqual(yield* Fiber.join(asking), "platform_unavailable")
      assert.strictEqual(yield* refusal(plugin), "platform_unavailable")
    }).pipe(Effect.provide(broker({ platform, settings: { endpoints: 1 } })))
  })

  it.scoped("is refused while the store cannot be written", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      store.failure = "no space left"
      plugin.drop()
      yield* settled
      yield* plugin.open
      assert.strictEqual(yield* refusal(plugin, { kind: "new" }), "store_unavailable")
      assert.strictEqual(yield* refusal(plugin), "store_unavailable")
      store.failure = undefined
      yield* pass(100)
      assert.deepInclude(yield* plugin.register(), { resumed: true, endpointId: plugin.endpointId })
    }).pipe(Effect.provide(broker({ store })))
  })

  it.scoped("goes on while there is too little room for new mail, and for the one who comes back, too", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      yield* settled
      store.shortage = { since: 0, reason: "the disk has 3 MiB free" }
      yield* plugin.open
      assert.deepInclude(yield* plugin.register(), { resumed: true, endpointId: plugin.endpointId })
      assert.deepInclude(yield* plugin.register({ kind: "new" }), { resumed: false })
    }).pipe(Effect.provide(broker({ store })))
  })
})

describe("registering the same session again", () => {
  it.scoped("on a new channel takes the endpoint it left: same id, same token, and the platform is not asked", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = yield* session(11, full)
      plugin.drop()
      yield* plugin.open
      const again = yield* plugin.register({ ...full, task_hint: "another", started_at: "2031-03-04T08:00:00.000Z" })
      assert.deepInclude(again, { resumed: true, endpointId: plugin.endpointId, ownerToken: plugin.ownerToken })
      assert.strictEqual(platform.registrations.length, 1)
      yield* settled
      assert.strictEqual(platform.statesOf(plugin.endpointId).at(-1), "active/reattach")
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("pushes the mail of the resumed endpoint in order, and cancels its grace", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      plugin.drop()
      network.deliver(...names("m", 9).map((id) => mail(plugin.endpointId, id)))
      yield* settled
      yield* plugin.open
      yield* plugin.register()
      network.deliver(mail(plugin.endpointId, "last"))
      yield* settled
      yield* drain(plugin)
      assert.deepStrictEqual(plugin.contents, ["a", ...names("m", 9), "last"])
      yield* pass(600_000)
      assert.strictEqual((yield* Directory).unsafeGet(plugin.endpointId)?.state._tag, "Active")
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("while it is in use is a second endpoint", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11)
      const second = yield* plugin.register()
      assert.isFalse(second.resumed)
      assert.notStrictEqual(second.endpointId, plugin.endpointId)
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("takes the earliest of several, each once, then gets a new one", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11)
      const second = yield* plugin.register()
      plugin.drop()
      yield* plugin.open
      const ids = [(yield* plugin.register()).endpointId, (yield* plugin.register()).endpointId]
      assert.deepStrictEqual(ids, [plugin.endpointId, second.endpointId])
      assert.isFalse((yield* plugin.register()).resumed)
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("A2: after its channel was replaced takes the one that was carried over, once", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* plugin.open
      const first = yield* plugin.register()
      assert.deepInclude(first, { resumed: true, endpointId: plugin.endpointId, ownerToken: plugin.ownerToken })
      assert.isFalse((yield* plugin.register()).resumed)
      assert.strictEqual(platform.registrations.length, 2)
    }).pipe(Effect.provide(broker({ platform })))
  })

  const differences: ReadonlyArray<Partial<RegisterRequest>> = [
    { agent_id: "another" },
    { agent_id: null },
    { kind: "another" },
    { session_name: "another" },
    { session_name: null },
    { workspace: { root: "/srv/other", cwd: "/srv/parser/src" } },
    { workspace: { root: "/srv/parser", cwd: "/srv/other" } },
    { workspace: { ...full.workspace, branch: "main" } },
    { workspace: { ...full.workspace, remote: "git@example:x" } },
    { workspace: null },
    { tracking_ref: "JIRA-13" },
    { runtime_session_id: "run-2" },
    { runtime_session_id: null }
  ]
  for (const difference of differences) {
    it.scoped(`with ${JSON.stringify(difference)} instead is a new session; its own is still there to resume`, () =>
      Effect.gen(function* () {
        const plugin = yield* session(11, full)
        plugin.drop()
        yield* plugin.open
        assert.isFalse((yield* plugin.register({ ...full, ...difference })).resumed)
        assert.deepInclude(yield* plugin.register(full), { resumed: true, endpointId: plugin.endpointId })
      }).pipe(Effect.provide(broker()))
    )
  }

  it.scoped("from another process is a new session", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11, full)
      plugin.drop()
      const other = yield* session(12, full)
      assert.isFalse(other.resumed)
      assert.notStrictEqual(other.endpointId, plugin.endpointId)
    }).pipe(Effect.provide(broker()))
  )
})

describe("F29: resuming by id and owner token", () => {
  it.scoped("works from another process, which owns the endpoint from then on, with its mail", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const old = yield* session(11, full, [...withReceipts, "endpoint_resume_v1"])
      old.drop()
      network.deliver(...names("m", 3).map((id) => mail(old.endpointId, id)))
      yield* settled
      const restarted = new FakePlugin(12)
      yield* restarted.open
      const resumed = yield* restarted.register({ kind: "whatever", resume: resumeOf(old) })
      assert.deepInclude(resumed, { resumed: true, endpointId: old.endpointId, ownerToken: old.ownerToken })
      yield* settled
      assert.deepStrictEqual(restarted.contents, names("m", 3))
      assert.strictEqual((yield* Directory).unsafeGet(old.endpointId)?.pluginPid, 12)
      yield* old.open
      const reattach = (yield* Registration).reattach(old.endpointId, 11, { pid: 11, ownerToken: old.ownerToken })
      assert.strictEqual((yield* Effect.flip(reattach))._tag, "reattach_pid_mismatch")
      restarted.drop()
      yield* restarted.open
      assert.deepInclude(yield* restarted.register(full), { resumed: true, endpointId: old.endpointId })
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("is refused with a wrong token, for an id nobody knows, and while the endpoint is in use", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11)
      const other = yield* session(12)
      const resume = resumeOf(plugin)
      assert.strictEqual(yield* refusal(other, { resume }), "endpoint_not_reconnecting")
      assert.strictEqual(yield* refusal(plugin, { resume }), "endpoint_not_reconnecting")
      const wrong = { ...resume, endpoint_owner_token: other.ownerToken }
      assert.strictEqual(yield* refusal(other, { resume: wrong }), "endpoint_owner_token_mismatch")
      plugin.drop()
      yield* settled
      assert.strictEqual(yield* refusal(other, { resume: wrong }), "endpoint_owner_token_mismatch")
      assert.strictEqual(yield* refusal(other, { resume: { ...resume, endpoint_id: "ep_9" } }), "endpoint_unknown")
      assert.strictEqual((yield* Directory).unsafeGet(plugin.endpointId)?.pluginPid, 11)
      assert.isTrue((yield* other.register({ resume })).resumed)
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("takes an endpoint that was carried over to the own newer channel", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* plugin.open
      assert.isTrue((yield* plugin.register({ kind: "whatever", resume: resumeOf(plugin) })).resumed)
    }).pipe(Effect.provide(broker()))
  )
})

describe("reattaching", () => {
  const attempt = (id: string, pid: number, ownerToken?: string) =>
    Effect.flatMap(Registration, (registration) => registration.reattach(id, pid, { pid, ownerToken }))
  const refused = (id: string, pid: number, ownerToken?: string) =>
    Effect.map(Effect.flip(attempt(id, pid, ownerToken)), ({ _tag }) => _tag)

  it.scoped("is refused without a channel, for strangers, for ids nobody knows, and for an endpoint in use", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* session(12)
      assert.strictEqual(yield* refused(plugin.endpointId, 13), "ipc_channel_missing")
      assert.strictEqual(yield* refused("ep_9", 11), "endpoint_unknown")
      assert.strictEqual(yield* refused(plugin.endpointId, 12), "reattach_pid_mismatch")
      assert.strictEqual(yield* refused(plugin.endpointId, 11), "endpoint_not_reconnecting")
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("demands the owner token where the channel announced it", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11, {}, [...withReceipts, "endpoint_owner_token_v1"])
      plugin.drop()
      yield* plugin.open
      assert.strictEqual(yield* refused(plugin.endpointId, 11), "endpoint_owner_token_mismatch")
      assert.strictEqual(yield* refused(plugin.endpointId, 11, "wrong"), "endpoint_owner_token_mismatch")
      assert.strictEqual(yield* attempt(plugin.endpointId, 11, plugin.ownerToken), 0)
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("A2: a carried-over endpoint answers once, with everything undelivered, and goes on delivering", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      network.deliver(...names("m", 5).map((id) => mail(plugin.endpointId, id)))
      yield* settled
      plugin.acknowledge(plugin.received[0]!)
      yield* settled
      assert.strictEqual(yield* comeBack(plugin), 4)
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["m2", "m3", "m4", "m5"])
      assert.strictEqual(yield* refused(plugin.endpointId, 11), "endpoint_not_reconnecting")
    }).pipe(Effect.provide(broker({ network })))
  })
})
