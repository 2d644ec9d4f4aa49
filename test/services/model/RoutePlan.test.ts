import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { EndpointId } from "../../../src/services/model/Ids.js"
import type { Metadata } from "../../../src/services/model/Metadata.js"
import { plan, type RoutableEndpoint, type RoutePlan, type RouteView } from "../../../src/services/model/RoutePlan.js"

const endpoint = (id: string, agent = "agent"): RoutableEndpoint => ({ id: EndpointId(id), agent })
const a = endpoint("a")
const b = endpoint("b")
const c = endpoint("c", "other agent")

interface Known {
  readonly endpoints?: ReadonlyArray<RoutableEndpoint>
  readonly aliases?: Record<string, RoutableEndpoint>
  readonly senders?: Record<string, ReadonlyArray<RoutableEndpoint>>
}
const viewOf = ({ aliases = {}, endpoints = [a, b, c], senders = {} }: Known = {}): RouteView<RoutableEndpoint> => ({
  endpoint: (id) => aliases[id] ?? endpoints.find((one) => one.id === id),
  senders: (correlationId) => senders[correlationId] ?? []
})
const route = (metadata: Metadata, known?: Known, recipient?: string) => plan(metadata, recipient, viewOf(known))

type Plan = RoutePlan<RoutableEndpoint>
const toTarget = (endpoint: RoutableEndpoint): Plan => ({ _tag: "Endpoint", endpoint, via: "target", contenders: 1 })
const toSender = (endpoint: RoutableEndpoint, contenders = 1): Plan => ({
  _tag: "Endpoint",
  endpoint,
  via: "correlation",
  contenders
})
const toInbox = (unknownTarget?: string): Plan => ({ _tag: "Inbox", unknownTarget })
const sentByB = { senders: { c1: [b] } }

describe("the decision table", () => {
  it("a known target wins, whoever sent the correlation id", () => {
    assert.deepStrictEqual(route({ target_endpoint_id: "a" }, sentByB), toTarget(a))
    assert.deepStrictEqual(route({ target_endpoint_id: "a", correlation_id: "c1" }, sentByB), toTarget(a))
  })
  it("an unknown target falls through to the sender of the correlation id", () => {
    assert.deepStrictEqual(route({ target_endpoint_id: "gone", correlation_id: "c1" }, sentByB), toSender(b))
  })
  it("an unknown target without a correlation id somebody sent goes to the inbox, which is told the target", () => {
    assert.deepStrictEqual(route({ target_endpoint_id: "gone" }, sentByB), toInbox("gone"))
    assert.deepStrictEqual(route({ target_endpoint_id: "gone", correlation_id: "c2" }, sentByB), toInbox("gone"))
  })
  it("without target the sender of the correlation id gets it", () => {
    assert.deepStrictEqual(route({ correlation_id: "c1" }, sentByB), toSender(b))
  })
  it("with neither it goes to the inbox, unaddressed", () => {
    assert.deepStrictEqual(route({}, sentByB), toInbox())
    assert.deepStrictEqual(route({ correlation_id: "c2" }, sentByB), toInbox())
  })
})

describe("what counts", () => {
  it("values that are no strings, and empty ones, count as absent", () => {
    for (const nothing of ["", 0, 7, null, undefined, true, ["a"], { id: "a" }]) {
      assert.deepStrictEqual(route({ target_endpoint_id: nothing, correlation_id: "c1" }, sentByB), toSender(b))
      assert.deepStrictEqual(route({ target_endpoint_id: "gone", correlation_id: nothing }, sentByB), toInbox("gone"))
      assert.deepStrictEqual(route({ target_endpoint_id: nothing, correlation_id: nothing }), toInbox())
    }
  })
  it("an earlier id of an endpoint routes to it", () => {
    assert.deepStrictEqual(route({ target_endpoint_id: "old a" }, { aliases: { "old a": a } }), toTarget(a))
  })
  it("of several that sent the id the first gets it, and the others are counted", () => {
    assert.deepStrictEqual(route({ correlation_id: "c1" }, { senders: { c1: [b, a] } }), toSender(b, 2))
  })
})

describe("the sender of the message itself", () => {
  const both = { senders: { c1: [a, b] } }
  it("is passed over when the correlation id is looked up", () => {
    assert.deepStrictEqual(route({ correlation_id: "c1", source_endpoint_id: "a" }, both), toSender(b))
    assert.deepStrictEqual(route({ correlation_id: "c1", source_endpoint_id: "b" }, sentByB), toInbox())
  })
  it("is recognised by an earlier id of it", () => {
    const known = { ...both, aliases: { "old a": a } }
    assert.deepStrictEqual(route({ correlation_id: "c1", source_endpoint_id: "old a" }, known), toSender(b))
  })
  it("may still be its target", () => {
    assert.deepStrictEqual(route({ target_endpoint_id: "a", source_endpoint_id: "a" }), toTarget(a))
  })
  it("is nobody here when the id is unknown or no string", () => {
    assert.deepStrictEqual(route({ correlation_id: "c1", source_endpoint_id: "far" }, both), toSender(a, 2))
    assert.deepStrictEqual(route({ correlation_id: "c1", source_endpoint_id: 7 }, both), toSender(a, 2))
  })
})

describe("a message for one agent of several", () => {
  it("does not reach a target of another agent", () => {
    assert.deepStrictEqual(route({ target_endpoint_id: "c" }, {}, "agent"), toInbox("c"))
    assert.deepStrictEqual(route({ target_endpoint_id: "c" }, {}, "other agent"), toTarget(c))
  })
  it("does not reach a sender of another agent, nor counts it", () => {
    const known = { senders: { c1: [c, a] } }
    assert.deepStrictEqual(route({ correlation_id: "c1" }, known, "agent"), toSender(a))
    assert.deepStrictEqual(route({ correlation_id: "c1" }, { senders: { c1: [c] } }, "agent"), toInbox())
  })
  it("falls from another agent's target to its own correlation id", () => {
    assert.deepStrictEqual(route({ target_endpoint_id: "c", correlation_id: "c1" }, sentByB, "agent"), toSender(b))
  })
})

const ids = ["e1", "e2", "e3", "e4"]
const anyId = fc.constantFrom(...ids, "unknown", "")
const world = fc.record({
  agents: fc.array(fc.constantFrom("x", "y"), { minLength: ids.length, maxLength: ids.length }),
  registered: fc.subarray(ids),
  senders: fc.shuffledSubarray(ids),
  target: fc.option(anyId),
  source: fc.option(anyId),
  correlated: fc.boolean(),
  recipient: fc.option(fc.constantFrom("x", "y"), { nil: undefined })
})

it.prop("whatever is known, no answer goes to its own sender and no message to another agent", [world], ([given]) => {
  const endpoints = given.registered.map((id) => endpoint(id, given.agents[ids.indexOf(id)]))
  const registered = (id: string) => endpoints.find((one) => one.id === id)
  const senders = given.senders.flatMap((id) => registered(id) ?? [])
  const metadata = {
    target_endpoint_id: given.target,
    source_endpoint_id: given.source,
    ...(given.correlated ? { correlation_id: "c1" } : {})
  }
  const result = route(metadata, { endpoints, senders: { c1: senders } }, given.recipient)
  const mayReceive = ({ agent }: RoutableEndpoint) => given.recipient === undefined || agent === given.recipient

  // The rules once more, naively.
  const target = endpoints.find(({ id }) => id === given.target)
  const candidates = given.correlated ? senders.filter((one) => mayReceive(one) && one.id !== given.source) : []
  if (target !== undefined && mayReceive(target)) assert.deepStrictEqual(result, toTarget(target))
  else if (candidates[0] !== undefined) assert.deepStrictEqual(result, toSender(candidates[0], candidates.length))
  else assert.deepStrictEqual(result, toInbox(given.target || undefined))

  if (result._tag !== "Endpoint") return
  assert.isTrue(mayReceive(result.endpoint))
  if (result.via === "correlation") assert.notStrictEqual<string | null>(result.endpoint.id, given.source)
})
