import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import {
  isStillSo,
  laneOf,
  PlatformReport,
  type ReportedWorld,
  supersedes
} from "../../../src/services/model/PlatformReport.js"

const state = (endpointId: string, state: "active" | "reconnecting" | "closed"): PlatformReport => ({
  _tag: "EndpointState",
  endpointId,
  state,
  reason: "ipc_close",
  ts: "2031-03-04T08:16:02.000Z"
})
const removed = (endpointId: string): PlatformReport => ({ _tag: "EndpointRemoved", endpointId })
const hint = (endpointId: string): PlatformReport => ({ _tag: "DisplayMetadata", endpointId, taskHint: "hint" })
const undispatched = (undispatched_id: string, action: "add" | "dispatch" | "remove"): PlatformReport => ({
  _tag: "UndispatchedChanged",
  event: { type: "undispatched_changed", version: 1, action, undispatched_id }
})
const presence = (state: "online" | "offline"): PlatformReport => ({
  _tag: "NetworkPresenceChanged",
  event: { type: "network_presence_changed", version: 1, state, ts: 1, reason: "connector_connected" }
})
const all = [state("a", "active"), removed("a"), hint("a"), undispatched("u", "add"), presence("online")]

describe("lanes", () => {
  it("everything of one endpoint is posted in order, other endpoints do not wait", () => {
    assert.deepStrictEqual([state("a", "active"), hint("a"), removed("a"), state("b", "active")].map(laneOf), [
      "endpoint:a",
      "endpoint:a",
      "endpoint:a",
      "endpoint:b"
    ])
  })
  it("everything of one undispatched message is posted in order, an endpoint of the same name does not wait", () => {
    assert.strictEqual(laneOf(undispatched("a", "add")), laneOf(undispatched("a", "dispatch")))
    assert.notStrictEqual(laneOf(undispatched("a", "add")), laneOf(undispatched("b", "add")))
    assert.notStrictEqual(laneOf(undispatched("a", "add")), laneOf(state("a", "active")))
  })
  it("presence has a lane of its own", () => {
    assert.strictEqual(laneOf(presence("online")), laneOf(presence("offline")))
    assert.strictEqual(all.map(laneOf).filter((lane) => lane === laneOf(presence("online"))).length, 1)
  })
})

describe("what a newer report replaces", () => {
  it("an older state, task hint or presence", () => {
    assert.isTrue(supersedes(state("a", "closed"), state("a", "active")))
    assert.isTrue(supersedes(hint("a"), hint("a")))
    assert.isTrue(supersedes(presence("offline"), presence("online")))
  })
  it("no report of another kind", () => {
    for (const newer of all) {
      for (const older of all) if (newer._tag !== older._tag) assert.isFalse(supersedes(newer, older))
    }
  })
  it("no inbox event: each is owed", () => {
    assert.isFalse(supersedes(undispatched("u", "dispatch"), undispatched("u", "add")))
  })
})

it("reports survive the store", () => {
  for (const report of all) {
    const stored = JSON.parse(JSON.stringify(Schema.encodeSync(PlatformReport)(report)))
    assert.deepStrictEqual(Schema.decodeUnknownSync(PlatformReport)(stored), report)
  }
})

describe("a report is still so", () => {
  const world = (given: Partial<ReportedWorld> = {}): ReportedWorld => ({
    endpointState: () => "active",
    taskHint: () => "hint",
    presence: () => "online",
    isUndispatched: () => true,
    ...given
  })
  const ack: PlatformReport = { _tag: "ControlAck", ack: { idempotency_key: "k", status: "applied" } }

  it("while everything is as it says", () => {
    const reports = [state("a", "active"), hint("a"), undispatched("u", "add"), presence("online"), ack]
    for (const report of reports) assert.isTrue(isStillSo(report, world()), report._tag)
    const closed = world({ endpointState: () => "closed", isUndispatched: () => false })
    for (const report of [
      state("a", "closed"),
      removed("a"),
      undispatched("u", "remove"),
      undispatched("u", "dispatch")
    ]) {
      assert.isTrue(isStillSo(report, closed), report._tag)
    }
  })

  it("and is not once it is otherwise; what became of a control event stays so", () => {
    const other = world({
      endpointState: () => "reconnecting",
      taskHint: () => undefined,
      presence: () => "offline",
      isUndispatched: () => false
    })
    const reports = [state("a", "active"), removed("a"), hint("a"), undispatched("u", "add"), presence("online")]
    for (const report of reports) assert.isFalse(isStillSo(report, other), report._tag)
    assert.isFalse(isStillSo(undispatched("u", "remove"), world()))
    assert.isTrue(isStillSo(ack, other))
  })
})
