import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import type { PlatformReport } from "../../../src/services/model/PlatformReport.js"
import * as Wire from "../../../src/services/model/PlatformWire.js"

const now = Date.UTC(2031, 2, 4, 8, 0, 0)
const answer = (status: number, body?: unknown, retryAfter?: string): Wire.WireAnswer => ({
  status,
  statusText: "In Words",
  retryAfter,
  text: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body)
})
const failure = (given: Wire.WireAnswer, secret = "rk_secret") =>
  Wire.failureOf(given, { now, hide: (text) => text.replaceAll(secret, "<token>") })

describe("requests", () => {
  const state: PlatformReport = {
    _tag: "EndpointState",
    endpointId: "ep_1",
    state: "active",
    reason: "register",
    ts: "T"
  }
  const undispatched = { type: "undispatched_changed", version: 1, action: "remove", undispatched_id: "m1" } as const
  const presence = { type: "network_presence_changed", version: 1, state: "online", ts: 1, reason: "r" } as const

  it("of the calls are those of the platform", () => {
    assert.deepStrictEqual(Wire.whoami, { method: "GET", path: "/v1/whoami" })
    const registration = { runtime_kind: "test", endpoint_nonce: "n", display_label: "l" }
    assert.deepStrictEqual(Wire.register(registration), {
      method: "POST",
      path: "/v1/runtime-endpoints",
      body: registration
    })
    assert.deepStrictEqual(Wire.heartbeat("ep_1"), { method: "POST", path: "/v1/runtime-endpoints/ep_1/heartbeat" })
    assert.deepStrictEqual(Wire.unregister("ep_1"), { method: "DELETE", path: "/v1/runtime-endpoints/ep_1" })
    assert.deepStrictEqual(Wire.owned("ep_1", "node 5"), {
      method: "GET",
      path: "/v1/runtime-endpoints/ep_1?as=node%205"
    })
    assert.deepStrictEqual(Wire.owned("ep_1", undefined), { method: "GET", path: "/v1/runtime-endpoints/ep_1" })
  })
  it("of the reports, too", () => {
    assert.deepStrictEqual(Wire.reported(state), {
      method: "POST",
      path: "/v1/runtime-endpoints/ep_1/state",
      body: { state: "active", reason: "register", ts: "T" }
    })
    assert.deepStrictEqual(Wire.reported({ _tag: "EndpointRemoved", endpointId: "ep_1" }), Wire.unregister("ep_1"))
    assert.deepStrictEqual(Wire.reported({ _tag: "DisplayMetadata", endpointId: "ep_1", taskHint: "x" }), {
      method: "POST",
      path: "/v1/runtime-endpoints/ep_1/display-metadata",
      body: { task_hint: "x" }
    })
    assert.deepStrictEqual(Wire.reported({ _tag: "UndispatchedChanged", event: undispatched }), {
      method: "POST",
      path: "/v1/runtime/undispatched-changed",
      body: undispatched
    })
    assert.deepStrictEqual(Wire.reported({ _tag: "NetworkPresenceChanged", event: presence }), {
      method: "POST",
      path: "/v1/runtime/network-presence-changed",
      body: presence
    })
    assert.strictEqual(Wire.subjectOf(state), "ep_1")
    assert.isUndefined(Wire.subjectOf({ _tag: "UndispatchedChanged", event: undispatched }))
  })
  it("hold ids encoded, whatever is in them: the path stays this endpoint's", () => {
    for (const id of ["a/b", "a?as=x", "a#b", "a b", "ä€😀", "%2e%2e", "../x", "lone \ud800 half", "\n", "..."]) {
      assert.isTrue(Wire.isEndpointId(id), JSON.stringify(id))
      const { path } = Wire.heartbeat(id)
      const url = new URL(`https://api.example${path}`)
      assert.match(url.pathname, /^\/v1\/runtime-endpoints\/[^/]+\/heartbeat$/)
      assert.strictEqual(url.search + url.hash, "")
      assert.strictEqual(decodeURIComponent(url.pathname.split("/")[3]!), id.replace("\ud800", "\ufffd"))
    }
  })
  it("cannot name every id", () => {
    for (const id of ["", ".", "..", "x".repeat(513), undefined, 7, null]) assert.isFalse(Wire.isEndpointId(id))
    assert.isTrue(Wire.isEndpointId("x".repeat(512)))
  })
})

describe("a failure", () => {
  it("is refused credentials, final, or worth another attempt, by its status alone", () => {
    const kinds = new Map<number, string>()
    for (let status = 100; status < 1_000; status++) {
      if (!Wire.isSuccess(status)) kinds.set(status, failure(answer(status, "")).kind)
    }
    const of = (kind: string) => [...kinds].filter(([, other]) => other === kind).map(([status]) => status)
    assert.deepStrictEqual(of("unauthorized"), [401])
    const refused = of("refused")
    assert.include(refused, 400)
    assert.include(refused, 403)
    assert.include(refused, 404)
    assert.include(refused, 409)
    assert.include(refused, 422)
    assert.isTrue(refused.every((status) => status >= 400 && status < 500))
    assert.deepStrictEqual(
      of("unavailable").filter((status) => status >= 400 && status < 500),
      [408, 425, 429]
    )
    assert.strictEqual(kinds.size, 800)
  })
  it("has the platform's code and message, as far as there are any", () => {
    assert.deepStrictEqual(failure(answer(409, { error: "taken", message: "It is taken." })), {
      kind: "refused",
      status: 409,
      code: "taken",
      reason: "It is taken"
    })
    const bare = { kind: "refused", status: 404, code: "unknown", reason: "In Words" }
    for (const body of [
      undefined,
      "",
      "<html>",
      "null",
      "[]",
      "7",
      '"text"',
      { error: 7, message: {} },
      { error: "" }
    ]) {
      assert.deepStrictEqual(failure(answer(404, body)), bare as Wire.WireFailure, JSON.stringify(body))
    }
    assert.strictEqual(failure({ ...answer(599), statusText: "" }).reason, "status 599")
  })
  it("is one line of bounded length that holds no secret", () => {
    const { code, reason } = failure(
      answer(400, { error: `bad\u001b[31m\n${"x".repeat(500)}`, message: `rk_secret and ${"😀".repeat(5_000)}` })
    )
    assert.match(code, /^bad \[31m x+$/)
    assert.strictEqual(code.length, 100)
    assert.match(reason, /^<token> and 😀+$/u)
    assert.strictEqual(Array.from(reason).length, 300)
    const cut = failure(answer(400, { error: `${"x".repeat(95)}rk_secret`, message: "" }))
    assert.strictEqual(cut.code, `${"x".repeat(95)}<toke`)
  })
  it("carries how long to wait when another attempt is of use", () => {
    assert.strictEqual(failure(answer(503, {}, "7")).retryAfterMs, 7_000)
    assert.strictEqual(failure(answer(429, {}, "Tue, 04 Mar 2031 08:00:09 GMT")).retryAfterMs, 9_000)
    assert.notProperty(failure(answer(503, {})), "retryAfterMs")
    assert.notProperty(failure(answer(422, {}, "7")), "retryAfterMs")
    assert.notProperty(failure(answer(401, {}, "7")), "retryAfterMs")
  })
})

describe("Retry-After", () => {
  it("is a number of seconds or an HTTP date, at most an hour", () => {
    const read = (header: string) => Wire.retryAfterMs(header, now)
    assert.strictEqual(read("0"), 0)
    assert.strictEqual(read(" 120 "), 120_000)
    assert.strictEqual(read("1.5"), 1_500)
    assert.strictEqual(read("3600"), 3_600_000)
    assert.strictEqual(read("3601"), 3_600_000)
    assert.strictEqual(read("9".repeat(90)), 3_600_000)
    assert.strictEqual(read("Tue, 04 Mar 2031 08:01:00 GMT"), 60_000)
    assert.strictEqual(read("Tuesday, 04-Mar-31 08:01:00 GMT"), 60_000)
    assert.strictEqual(read("Tue, 04 Mar 2031 07:00:00 GMT"), 0)
    assert.strictEqual(read("Fri, 31 Dec 9999 23:59:59 GMT"), 3_600_000)
  })
  it("is absent when it is anything else", () => {
    for (const header of [
      "",
      "soon",
      "-1",
      "1e9",
      "0x10",
      "NaN",
      "1, 2",
      "Tue, 99 Foo",
      "2031-03-04",
      "9".repeat(101)
    ]) {
      assert.isUndefined(Wire.retryAfterMs(header, now), header)
    }
    assert.isUndefined(Wire.retryAfterMs(undefined, now))
  })
})

const code = <A>(result: Either.Either<A, Wire.WireFailure>) =>
  Either.match(result, { onLeft: ({ code, kind }) => `${kind} ${code}`, onRight: () => "right" })
const nothings = [undefined, "", "{", "null", "[]", "7", '"x"', "{}", "[".repeat(500_000), "{".repeat(99)]

describe("the answer to a registration", () => {
  const read = (body: unknown) => Wire.registeredEndpoint(answer(201, body))
  it("names the endpoint; the rest is used where it is sound", () => {
    assert.deepStrictEqual(read({ endpoint_id: "ep_1" }), Either.right({ endpointId: "ep_1" }))
    const naming = { nickname: "Otter", owner_edited_name: null }
    assert.deepStrictEqual(
      read({ endpoint_id: "ep_1", node_id: "n", heartbeat_after_seconds: 30, session_naming: { ...naming, more: 1 } }),
      Either.right({ endpointId: "ep_1", nodeId: "n", heartbeatAfterMs: 30_000, sessionNaming: naming })
    )
    for (const odd of ["30", null, 0, -1, [], {}]) {
      const body = { endpoint_id: "ep_1", heartbeat_after_seconds: odd, node_id: odd, session_naming: odd }
      assert.isFalse("heartbeatAfterMs" in Either.getOrThrow(read(body)))
      assert.isFalse("sessionNaming" in Either.getOrThrow(read(body)))
    }
    const odd = { nickname: "Otter", owner_edited_name: 7 }
    assert.isFalse("sessionNaming" in Either.getOrThrow(read({ endpoint_id: "ep_1", session_naming: odd })))
  })
  it("never asks for heartbeats without pause, or for none in a life", () => {
    const heartbeat = (seconds: number) =>
      Either.getOrThrow(read({ endpoint_id: "ep_1", heartbeat_after_seconds: seconds })).heartbeatAfterMs
    assert.strictEqual(heartbeat(0.001), 1_000)
    assert.strictEqual(heartbeat(1e300), 86_400_000)
  })
  it("without an id that can be used is no answer", () => {
    for (const body of [
      ...nothings,
      { endpoint_id: "" },
      { endpoint_id: 7 },
      { endpoint_id: ".." },
      [{ endpoint_id: "x" }]
    ]) {
      assert.strictEqual(code(read(body)), "unavailable invalid_response")
    }
  })
})

describe("the owned view", () => {
  const read = (body: unknown) => Wire.ownedState(answer(200, body))
  it("is closed when it says since when", () => {
    assert.deepStrictEqual(read({ retired_at: "2031-03-04T08:00:00Z" }), Either.right("closed"))
    for (const retired_at of ["", null, 0, 7, true, {}, undefined]) {
      assert.deepStrictEqual(read({ endpoint_id: "ep_1", retired_at }), Either.right("open"))
    }
  })
  it("is an object", () => {
    for (const body of nothings.filter((body) => body !== "{}")) {
      assert.strictEqual(code(read(body)), "unavailable invalid_response")
    }
  })
})

describe("whoami", () => {
  const read = (body: unknown) => Wire.account(answer(200, body))
  it("names the account", () => {
    assert.deepStrictEqual(
      read({ subjectId: "s", subjectType: "agent-runtime", ownerUserId: "u", carrier: 7 }),
      Either.right({ subjectId: "s", ownerUserId: "u" })
    )
  })
  it("of another type is refused, and not repeated when it is not a plain word", () => {
    const result = read({ subjectId: "s", subjectType: "user" })
    assert.strictEqual(code(result), "refused wrong_subject_type")
    assert.include(Either.getOrThrow(Either.flip(result)).reason, '"user"')
    const odd = Either.getOrThrow(Either.flip(read({ subjectId: "s", subjectType: "a b\n" })))
    assert.notInclude(odd.reason, "a b")
  })
  it("without account or type is no answer", () => {
    for (const body of [...nothings, { subjectId: "" }, { subjectId: 7, subjectType: "user" }, { subjectId: "s" }]) {
      assert.strictEqual(code(read(body)), "unavailable invalid_response")
    }
  })
})

it("404 on a state, and nothing left to remove, settle a report; nothing else does", () => {
  const settledBy = (report: PlatformReport) =>
    [200, 401, 403, 404, 409, 410, 422, 500].filter((status) => Wire.isSettled(report, status))
  const about = { endpointId: "e", reason: "", ts: "" }
  assert.deepStrictEqual(settledBy({ _tag: "EndpointState", state: "closed", ...about }), [404])
  assert.deepStrictEqual(settledBy({ _tag: "EndpointRemoved", endpointId: "e" }), [404, 410])
  assert.deepStrictEqual(settledBy({ _tag: "DisplayMetadata", endpointId: "e", taskHint: "" }), [])
  const event = { type: "network_presence_changed", version: 1, state: "online", ts: 1, reason: "" } as const
  assert.deepStrictEqual(settledBy({ _tag: "NetworkPresenceChanged", event }), [])
})
