import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import {
  type Presence,
  PresenceEffect,
  type PresenceEvent,
  type PresenceReason,
  step
} from "../../../src/services/model/PresenceMachine.js"

const { CancelGrace, Emit, StartGrace } = PresenceEffect
const emit = (state: Presence, reason: PresenceReason) => Emit({ state, reason })
const goodbye = emit("offline", "broker_shutdown")

/** Every row of spec/lifecycle.md §3. */
const rows: ReadonlyArray<readonly [Presence, PresenceEvent, Presence, ReadonlyArray<PresenceEffect>]> = [
  ["offline", "connector_connected", "online", [emit("online", "connector_connected")]],
  ["offline", "shutdown", "offline", [goodbye]],
  ["offline", "connector_disconnected", "offline", []],
  ["offline", "presence_grace_expired", "offline", []],
  ["online", "connector_disconnected", "reconnecting", [StartGrace(), emit("reconnecting", "connector_disconnected")]],
  ["online", "shutdown", "offline", [goodbye]],
  ["online", "connector_connected", "online", []],
  ["online", "presence_grace_expired", "online", []],
  ["reconnecting", "connector_connected", "online", [CancelGrace(), emit("online", "connector_reconnected")]],
  ["reconnecting", "presence_grace_expired", "offline", [emit("offline", "grace_timeout")]],
  ["reconnecting", "shutdown", "offline", [CancelGrace(), goodbye]],
  ["reconnecting", "connector_disconnected", "reconnecting", []]
]

describe("presence on the network", () => {
  for (const [before, event, next, effects] of rows) {
    it(`${before}, ${event}: ${effects.length === 0 ? "ignored" : next}`, () =>
      assert.deepStrictEqual(step(before, event), { next, effects }))
  }

  const event = fc.constantFrom<PresenceEvent>(
    "connector_connected",
    "connector_disconnected",
    "presence_grace_expired",
    "shutdown"
  )

  it.prop(
    "after any events, what was emitted last is the state, and grace runs only while reconnecting",
    [fc.array(event)],
    ([events]) => {
      let state: Presence = "offline"
      let told: Presence = "offline"
      let isTimerOn = false
      for (const event of events) {
        const { effects, next } = step(state, event)
        for (const effect of effects) {
          if (effect._tag === "Emit") told = effect.state
          else isTimerOn = effect._tag === "StartGrace"
        }
        // The timer that fired is not running any more.
        if (event === "presence_grace_expired") isTimerOn = false
        state = next
        assert.strictEqual(told, state)
        if (event !== "presence_grace_expired") assert.strictEqual(isTimerOn, state === "reconnecting")
      }
    }
  )
})
