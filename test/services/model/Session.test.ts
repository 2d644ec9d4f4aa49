import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck as fc, Schema } from "effect"
import {
  displayLabel,
  isSameSession,
  Session,
  type SessionClaims,
  sessionFrom
} from "../../../src/services/model/Session.js"

const rules = { now: "2031-03-04T08:16:02.000Z", taskHintMax: 5 }
const from = (claims: Partial<SessionClaims>) => sessionFrom({ kind: "test", ...claims }, rules)
const accepted = (claims: Partial<SessionClaims>) => Either.getOrThrow(from(claims))
const refused = (claims: Partial<SessionClaims>) => Either.getOrThrow(Either.flip(from(claims)))
const bare = { kind: "test", startedAt: rules.now }

describe("a session", () => {
  it("needs only a kind; it starts when it registers", () => {
    assert.deepStrictEqual<object>(accepted({}), bare)
  })
  it("keeps what the plugin says of it", () => {
    const session = accepted({
      agent_id: "agent-77",
      session_name: "fix parser",
      workspace: { root: "/srv", cwd: "/srv/parser", remote: "origin", branch: "main" },
      tracking_ref: "JIRA-12",
      task_hint: "hint",
      started_at: "2031-03-04T08:00:00Z",
      runtime_session_id: "rs-1",
      runtime_capabilities: ["background_exchange_v1"],
      execution_surface: "headless",
      background_exchange_mode: "external"
    })
    assert.deepStrictEqual<object>(session, {
      agentId: "agent-77",
      kind: "test",
      sessionName: "fix parser",
      workspace: { root: "/srv", cwd: "/srv/parser", remote: "origin", branch: "main" },
      trackingRef: "JIRA-12",
      taskHint: "hint",
      startedAt: "2031-03-04T08:00:00Z",
      runtimeSessionId: "rs-1",
      runtimeCapabilities: ["background_exchange_v1"],
      executionSurface: "headless",
      backgroundExchangeMode: "external"
    })
    assert.deepStrictEqual(Schema.decodeUnknownSync(Session)(JSON.parse(JSON.stringify(session))), session)
  })
  it("takes null for absent", () => {
    const nothing = {
      agent_id: null,
      session_name: null,
      workspace: null,
      tracking_ref: null,
      task_hint: null,
      started_at: null,
      runtime_session_id: null,
      runtime_capabilities: null,
      execution_surface: null,
      background_exchange_mode: null
    }
    assert.deepStrictEqual<object>(accepted(nothing), bare)
  })
  it("without agent_id, or with an empty one, speaks for the account", () => {
    assert.isFalse("agentId" in accepted({ agent_id: "" }))
  })
  it("cannot give itself the broker's capability to spawn", () => {
    assert.deepStrictEqual(accepted({ runtime_capabilities: ["a", "remote_spawn_v1", "b"] }).runtimeCapabilities, [
      "a",
      "b"
    ])
    assert.deepStrictEqual(accepted({ runtime_capabilities: ["remote_spawn_v1"] }).runtimeCapabilities, [])
  })
  it("has its task hint cut in code points, not in half of one", () => {
    assert.strictEqual(accepted({ task_hint: "🙂🙂🙂🙂🙂🙂" }).taskHint, "🙂🙂🙂🙂🙂")
    assert.strictEqual(accepted({ task_hint: "" }).taskHint, "")
  })
})

describe("runtime_session_id", () => {
  it("is trimmed, and empty counts as absent", () => {
    assert.strictEqual(accepted({ runtime_session_id: "  rs-1 " }).runtimeSessionId, "rs-1")
    assert.isFalse("runtimeSessionId" in accepted({ runtime_session_id: " \t " }))
  })
  it("has at most 256 characters after trimming", () => {
    assert.strictEqual(accepted({ runtime_session_id: ` ${"x".repeat(256)} ` }).runtimeSessionId?.length, 256)
    assert.strictEqual(refused({ runtime_session_id: "x".repeat(257) })._tag, "invalid_runtime_session_id")
  })
  it("does not begin with the network's own prefix, even behind blanks", () => {
    const { _tag, message } = refused({ runtime_session_id: " __masons_internal" })
    assert.strictEqual(_tag, "invalid_runtime_session_id")
    assert.include(message, "runtime_session_id")
    assert.strictEqual(accepted({ runtime_session_id: "my__masons_" }).runtimeSessionId, "my__masons_")
  })
})

describe("workspace", () => {
  it("as a path is both root and working directory, trimmed", () => {
    assert.deepStrictEqual(accepted({ workspace: " /srv/parser " }).workspace, {
      root: "/srv/parser",
      cwd: "/srv/parser"
    })
  })
  it("has its strings trimmed and loses empty or null remote and branch, and what is not known", () => {
    const workspace = { root: " /srv ", cwd: "/srv/a\n", remote: " ", branch: null, more: 1 }
    assert.deepStrictEqual(accepted({ workspace }).workspace, { root: "/srv", cwd: "/srv/a" })
  })
  it("of another shape is refused, and the message names the field", () => {
    const wrong: ReadonlyArray<readonly [unknown, string]> = [
      ["", "workspace"],
      ["  ", "workspace"],
      [7, "workspace"],
      [true, "workspace"],
      [["/srv"], "workspace"],
      [{}, "workspace.root"],
      [{ root: "/srv" }, "workspace.cwd"],
      [{ root: " ", cwd: "/srv" }, "workspace.root"],
      [{ root: "/srv", cwd: "" }, "workspace.cwd"],
      [{ root: "/srv", cwd: 7 }, "workspace.cwd"],
      [{ root: "/srv", cwd: "/srv", remote: 7 }, "workspace.remote"],
      [{ root: "/srv", cwd: "/srv", branch: {} }, "workspace.branch"]
    ]
    for (const [workspace, field] of wrong) {
      const { _tag, message } = refused({ workspace })
      assert.strictEqual(_tag, "invalid_request", JSON.stringify(workspace))
      assert.include(message, `"${field}"`)
    }
  })
  it("of texts longer than 4096 characters, trimmed, is refused, and the message names field and limit", () => {
    const longest = "/".repeat(4_096)
    assert.strictEqual(accepted({ workspace: ` ${longest} ` }).workspace?.root, longest)
    const whole = { root: longest, cwd: longest, remote: longest, branch: longest }
    assert.deepStrictEqual(accepted({ workspace: whole }).workspace, whole)
    const wrong: ReadonlyArray<readonly [unknown, string]> = [
      [`${longest}/`, "workspace"],
      ...Object.keys(whole).map((key) => [{ ...whole, [key]: `${longest}/` }, `workspace.${key}`] as const)
    ]
    for (const [workspace, field] of wrong) {
      const { _tag, message } = refused({ workspace })
      assert.strictEqual(_tag, "invalid_request")
      assert.strictEqual(message, `"${field}" has 4097 characters; it must have at most 4096.`)
    }
  })
  it.prop("of any shape is cleaned or refused, never thrown at", [fc.anything()], ([workspace]) => {
    const result = from({ workspace })
    if (Either.isRight(result) && result.right.workspace !== undefined) {
      for (const value of Object.values(result.right.workspace)) {
        assert.notStrictEqual(value, "")
        assert.strictEqual(value, value.trim())
      }
    }
  })
})

describe("the display label", () => {
  const session = (claims: Partial<SessionClaims>) => accepted({ kind: "claude-code", ...claims })
  it("joins kind, last folder of the root and tracking reference", () => {
    const claims = { workspace: { root: "/srv/projects/parser/", cwd: "/" }, tracking_ref: " JIRA-12 " }
    assert.strictEqual(displayLabel(session(claims), 48213), "claude-code · parser · JIRA-12")
    assert.strictEqual(displayLabel(session({ workspace: "C:\\work\\parser" }), 48213), "claude-code · parser")
    assert.strictEqual(displayLabel(session({ workspace: "/" }), 48213), "claude-code · /")
    assert.strictEqual(displayLabel(session({ tracking_ref: "  " }), 48213), "claude-code")
  })
  it("says nothing of the private session name", () => {
    assert.notInclude(displayLabel(session({ session_name: "my secret plan" }), 48213), "secret")
  })
  it("is made of the process id when there is nothing else to say", () => {
    assert.strictEqual(displayLabel(session({ kind: " " }), 48213), " -8213")
  })
})

describe("the same session", () => {
  const claims = {
    agent_id: "a",
    session_name: "s",
    tracking_ref: "t",
    runtime_session_id: "r",
    workspace: { root: "/r", cwd: "/c", remote: "m", branch: "b" }
  }
  it("registers with equal agent, kind, name, workspace, reference and runtime session", () => {
    assert.isTrue(isSameSession(accepted(claims), accepted({ ...claims, task_hint: "now else", started_at: "later" })))
    assert.isTrue(isSameSession(accepted({}), accepted({})))
  })
  it("is another one when any of them differs, or is missing", () => {
    const { workspace } = claims
    const others: ReadonlyArray<Partial<SessionClaims>> = [
      { agent_id: "x" },
      { kind: "x" },
      { session_name: "x" },
      { session_name: null },
      { tracking_ref: "x" },
      { runtime_session_id: "x" },
      { runtime_session_id: null },
      { workspace: null },
      { workspace: { ...workspace, root: "x" } },
      { workspace: { ...workspace, cwd: "x" } },
      { workspace: { ...workspace, remote: null } },
      { workspace: { ...workspace, branch: "x" } }
    ]
    for (const other of others) {
      assert.isFalse(isSameSession(accepted(claims), accepted({ ...claims, ...other })), JSON.stringify(other))
    }
  })
})
