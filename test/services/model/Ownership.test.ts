import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { EndpointState } from "../../../src/services/model/EndpointLifecycle.js"
import { ChannelId } from "../../../src/services/model/Ids.js"
import { refuseAway, refuseStranger } from "../../../src/services/model/Ownership.js"

const owned = { endpointId: "ep_31", pluginPid: 111, demandsToken: false }
const demanding = { ...owned, demandsToken: true }
const matches = (token: string) => {
  assert.isString(token)
  return token === "right"
}
const refusal = (of: typeof owned, pid?: number, ownerToken?: string) =>
  refuseStranger(of, { pid, ownerToken }, matches)?._tag

describe("who may act for an endpoint", () => {
  it("its own process, and an older client that does not say which it is", () => {
    assert.isUndefined(refusal(owned, 111))
    assert.isUndefined(refusal(owned))
  })
  it("no other process, with whatever token", () => {
    assert.strictEqual(refusal(owned, 222), "endpoint_pid_mismatch")
    assert.strictEqual(refusal(demanding, 222, "right"), "endpoint_pid_mismatch")
  })
  it("only who has the owner token, where the endpoint demands it", () => {
    assert.isUndefined(refusal(demanding, 111, "right"))
    assert.isUndefined(refusal(demanding, undefined, "right"))
    for (const token of [undefined, "", "wrong"]) {
      assert.strictEqual(refusal(demanding, 111, token), "endpoint_owner_token_mismatch")
    }
  })
  it("is not asked for a token the endpoint does not demand", () => {
    assert.isUndefined(refusal(owned, 111, "wrong"))
  })
  it("learns from the refusal which endpoint, and nothing of the token", () => {
    const refused = refuseStranger(demanding, { pid: 111, ownerToken: "guess" }, matches)!
    assert.include(refused.message, "ep_31")
    assert.notInclude(refused.message, "guess")
  })
})

it.prop(
  "a caller that is let through is of the endpoint's process or says none, and has the token where one is demanded",
  [fc.boolean(), fc.option(fc.constantFrom(111, 222)), fc.option(fc.constantFrom("right", "wrong", ""))],
  ([demandsToken, pid, token]) => {
    const isRefused = refusal({ ...owned, demandsToken }, pid ?? undefined, token ?? undefined) !== undefined
    assert.strictEqual(isRefused, pid === 222 || (demandsToken && token !== "right"))
  }
)

describe("an endpoint whose plugin is not there", () => {
  it("does nothing that only one does whose plugin is", () => {
    const refusal = (state: EndpointState) => refuseAway({ id: "ep_31", state })
    assert.isUndefined(refusal(EndpointState.Active({ channel: ChannelId(1), claimed: true })))
    assert.match(refusal(EndpointState.Reconnecting({ deadline: 1 }))!.message, /"ep_31" is reconnecting/)
    assert.match(refusal(EndpointState.Closed({ reason: "explicit_unregister" }))!.message, /"ep_31" has ended/)
  })
})
