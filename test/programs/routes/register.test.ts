import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { startPlugin } from "../../kit/broker.js"
import { logged, refused, sharedBroker, startSession, statusOf } from "../../kit/endToEnd.js"

const path = "/v1/endpoint/register"
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

describe("POST /v1/endpoint/register", () => {
  const shared = sharedBroker({ settings: { accountId: "my account" } })

  /** A plugin with an open stream, and a registration from it; `given` is laid over the body. */
  const connected = Effect.gen(function* () {
    const broker = yield* shared
    const plugin = yield* startPlugin(broker)
    yield* plugin.open
    const register = (given: object = {}, headers: Record<string, string> = {}) =>
      plugin.call("POST", path, { agent_id: "a", plugin_pid: plugin.pid, kind: "test", ...given }, headers)
    return { broker, plugin, register }
  })

  it.scopedLive("gives an endpoint id and its owner token, and the endpoint is active", () =>
    Effect.gen(function* () {
      const { broker, plugin, register } = yield* connected
      const { body, status } = yield* register({ agent_id: "agent-77" })
      assert.strictEqual(status, 200)
      assert.hasAllKeys(body, ["endpoint_id", "endpoint_owner_token", "resumed"])
      assert.match(body.endpoint_id, /./)
      assert.match(body.endpoint_owner_token, uuid)
      assert.strictEqual(body.resumed, false)
      assert.deepInclude(yield* statusOf(broker, body.endpoint_id), {
        agent: "agent-77",
        kind: "test",
        plugin_pid: plugin.pid,
        state: "active",
        undelivered: 0
      })
    })
  )

  it.scopedLive("speaks for the account when it names no agent, and treats null as left out", () =>
    Effect.gen(function* () {
      const { broker, register } = yield* connected
      const nothing = {
        agent_id: null,
        session_name: null,
        workspace: null,
        tracking_ref: null,
        task_hint: null,
        started_at: null,
        spawn_token: null,
        runtime_session_id: null,
        runtime_capabilities: null,
        execution_surface: null,
        background_exchange_mode: null,
        resume: null
      }
      const { body, status } = yield* register(nothing)
      assert.strictEqual(status, 200)
      const endpoint = yield* statusOf(broker, body.endpoint_id)
      assert.strictEqual(endpoint!.agent, "my account")
      assert.isUndefined(endpoint!.task_hint)
    })
  )

  it.scopedLive("takes everything a session may say of itself", () =>
    Effect.gen(function* () {
      const { register } = yield* connected
      const { status } = yield* register({
        client_kind: "claude-code",
        client_version: "3.4.0",
        started_at: "2031-03-04T08:00:00.000Z",
        runtime_session_id: "  scope-1  ",
        runtime_capabilities: ["remote_spawn_v1", "other_v1"],
        execution_surface: "owner_attached",
        background_exchange_mode: "resident_endpoint",
        something_newer: { x: 1 }
      })
      assert.strictEqual(status, 200)
    })
  )

  it.scopedLive("E9: the label is made of kind, folder and reference, never of the private session name", () =>
    Effect.gen(function* () {
      const { broker, register } = yield* connected
      const label = (given: object) =>
        Effect.flatMap(register(given), ({ body }) =>
          Effect.map(statusOf(broker, body.endpoint_id), (endpoint) => endpoint!.label)
        )
      const name = { session_name: "secret plan" }
      assert.strictEqual(
        yield* label({ ...name, workspace: "/srv/parser", tracking_ref: "J-12" }),
        "test · parser · J-12"
      )
      assert.strictEqual(yield* label({ ...name, workspace: { root: " /srv/lexer/ ", cwd: "/" } }), "test · lexer")
      assert.strictEqual(yield* label({ ...name, workspace: "/", tracking_ref: " " }), "test · /")
      assert.strictEqual(yield* label(name), "test")
    })
  )

  it.scopedLive("keeps 200 code points of the task hint", () =>
    Effect.gen(function* () {
      const { broker, register } = yield* connected
      const { body } = yield* register({ task_hint: "🙂".repeat(201) })
      assert.strictEqual((yield* statusOf(broker, body.endpoint_id))!.task_hint, "🙂".repeat(200))
    })
  )

  it.scopedLive("two sessions of one process are two endpoints, even when they say the same of themselves", () =>
    Effect.gen(function* () {
      const { register } = yield* connected
      const first = (yield* register()).body
      const second = (yield* register()).body
      assert.notStrictEqual(first.endpoint_id, second.endpoint_id)
      assert.notStrictEqual(first.endpoint_owner_token, second.endpoint_owner_token)
      assert.deepStrictEqual([first.resumed, second.resumed], [false, false])
    })
  )

  it.scopedLive("an unknown spawn token is only logged", () =>
    Effect.gen(function* () {
      const { broker, plugin, register } = yield* connected
      assert.strictEqual((yield* register({ spawn_token: "cmd-5a1" })).status, 200)
      const line = yield* logged(broker, "endpoint_register_unknown_spawn_token", { plugin_pid: plugin.pid })
      assert.notInclude(JSON.stringify(line), "cmd-5a1")
    })
  )

  it.scopedLive("refuses a process without an open stream", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const plugin = yield* startPlugin(broker)
      const answer = yield* plugin.call("POST", path, { plugin_pid: plugin.pid, kind: "test" })
      refused(answer, 400, "ipc_channel_missing", String(plugin.pid), "/v1/stream")
    })
  )

  it.scopedLive("F3: refuses a process id that is none and names the field", () =>
    Effect.gen(function* () {
      const { register } = yield* connected
      for (const plugin_pid of [undefined, null, 0, -1, 1.5, "12", true, {}, [], 2 ** 60]) {
        refused(yield* register({ plugin_pid }), 400, "plugin_pid_invalid", "plugin_pid")
      }
      refused(yield* register({}, { "x-plugin-pid": "abc" }), 400, "plugin_pid_invalid", "x-plugin-pid")
    })
  )

  it.scopedLive("F3: refuses a field of a wrong type and names it", () =>
    Effect.gen(function* () {
      const { register } = yield* connected
      const texts = [
        "agent_id",
        "session_name",
        "tracking_ref",
        "started_at",
        "spawn_token",
        "runtime_session_id",
        "execution_surface",
        "background_exchange_mode"
      ]
      for (const field of texts) {
        for (const value of [7, true, {}, []]) refused(yield* register({ [field]: value }), 400, "bad_request", field)
      }
      refused(yield* register({ task_hint: 7 }), 400, "task_hint_invalid", "task_hint")
      for (const kind of [undefined, null, "", 7, {}]) refused(yield* register({ kind }), 400, "bad_request", "kind")
      const capabilities = yield* register({ runtime_capabilities: "remote_spawn_v1" })
      refused(capabilities, 400, "bad_request", "runtime_capabilities")
      refused(yield* register({ runtime_capabilities: ["x", 7] }), 400, "bad_request", "runtime_capabilities")
    })
  )

  it.scopedLive("refuses more of a text than anybody needs, and names field and limit", () =>
    Effect.gen(function* () {
      const { register } = yield* connected
      const names = [
        "agent_id",
        "kind",
        "session_name",
        "tracking_ref",
        "started_at",
        "spawn_token",
        "execution_surface",
        "background_exchange_mode"
      ]
      const longest: Record<string, unknown> = Object.fromEntries(names.map((field) => [field, "x".repeat(1_024)]))
      longest.runtime_capabilities = Array.from({ length: 64 }, () => "x".repeat(256))
      longest.workspace = { root: "/".repeat(4_096), cwd: "/".repeat(4_096), remote: "r".repeat(4_096) }
      assert.strictEqual((yield* register(longest)).status, 200)
      for (const field of names) {
        refused(yield* register({ [field]: "x".repeat(1_025) }), 400, "bad_request", `"${field}"`, "1024 characters")
      }
      const many = Array.from({ length: 65 }, () => "x")
      const answer = yield* register({ runtime_capabilities: many })
      refused(answer, 400, "bad_request", '"runtime_capabilities"', "64")
      const long = yield* register({ runtime_capabilities: ["x", "x".repeat(257)] })
      refused(long, 400, "bad_request", "runtime_capabilities.1", "256 characters")
      const workspace = "/".repeat(4_097)
      refused(yield* register({ workspace }), 422, "invalid_request", "workspace", "4096")
    })
  )

  it.scopedLive("refuses a workspace of another form with 422 and names the part", () =>
    Effect.gen(function* () {
      const { register } = yield* connected
      const cases: ReadonlyArray<readonly [string, unknown]> = [
        ["workspace", 7],
        ["workspace", true],
        ["workspace", ["/srv"]],
        ["workspace", ""],
        ["workspace.root", {}],
        ["workspace.root", { root: " ", cwd: "/srv" }],
        ["workspace.root", { root: 7, cwd: "/srv" }],
        ["workspace.cwd", { root: "/srv" }],
        ["workspace.cwd", { root: "/srv", cwd: "" }],
        ["workspace.remote", { root: "/srv", cwd: "/srv", remote: 7 }],
        ["workspace.branch", { root: "/srv", cwd: "/srv", branch: {} }]
      ]
      for (const [part, workspace] of cases) refused(yield* register({ workspace }), 422, "invalid_request", part)
      const cleaned = { root: "/srv", cwd: "/srv", remote: " ", branch: null }
      assert.strictEqual((yield* register({ workspace: cleaned })).status, 200)
    })
  )

  it.scopedLive("refuses a runtime session id that is too long or the network's own", () =>
    Effect.gen(function* () {
      const { register } = yield* connected
      const refuse = (id: string) =>
        Effect.map(register({ runtime_session_id: id }), (answer) =>
          refused(answer, 400, "invalid_runtime_session_id", "runtime_session_id")
        )
      yield* refuse("x".repeat(257))
      yield* refuse(" __masons_internal ")
      for (const id of ["x".repeat(256), `  ${"x".repeat(256)}  `, "   ", ""]) {
        assert.strictEqual((yield* register({ runtime_session_id: id })).status, 200)
      }
    })
  )

  it.scopedLive("S7: refuses a header that names another process than the body", () =>
    Effect.gen(function* () {
      const { plugin, register } = yield* connected
      const answer = yield* register({}, { "x-plugin-pid": "1" })
      refused(answer, 403, "plugin_pid_mismatch", String(plugin.pid))
    })
  )

  it.scopedLive("refuses to resume what is not there, not the caller's, in use, or not well named", () =>
    Effect.gen(function* () {
      const { broker, register } = yield* connected
      const other = yield* startSession(broker)
      const resume = (endpoint_id: unknown, endpoint_owner_token: unknown) =>
        register({ resume: { endpoint_id, endpoint_owner_token } })
      refused(yield* resume("ep_nobody", other.ownerToken), 404, "endpoint_unknown", "ep_nobody")
      const foreign = yield* resume(other.id, "not the token")
      refused(foreign, 403, "endpoint_owner_token_mismatch", "endpoint_owner_token")
      assert.notInclude(foreign.body.message, other.ownerToken)
      refused(yield* resume(other.id, other.ownerToken), 409, "endpoint_not_reconnecting", other.id)
      refused(yield* resume(7, "x"), 400, "bad_request", "resume.endpoint_id")
      refused(yield* resume("x", ""), 400, "bad_request", "resume.endpoint_owner_token")
      refused(yield* resume("x", undefined), 400, "bad_request", "resume.endpoint_owner_token")
      refused(yield* register({ resume: "x" }), 400, "bad_request", "resume")
    })
  )

  it.scopedLive("wants a token and a POST", () =>
    Effect.gen(function* () {
      const { broker, register } = yield* connected
      refused(yield* register({}, { authorization: "Bearer wrong" }), 401, "unauthorized")
      refused(yield* broker.call("GET", path), 404, "not_found", path)
    })
  )
})
