import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import {
  begin,
  EndpointEffect,
  EndpointEvent,
  EndpointState,
  isLeftFor,
  type LifecycleRules,
  step,
  Transition
} from "../../../src/services/model/EndpointLifecycle.js"
import { ChannelId } from "../../../src/services/model/Ids.js"

const now = 1_000_000
const graceMs = 600_000
const rules: LifecycleRules = { now, graceMs, survivesExit: false, demandsToken: false, isRestarting: false }
const surviving: LifecycleRules = { ...rules, survivesExit: true }
const guarded: LifecycleRules = { ...rules, demandsToken: true }
const one = ChannelId(1)
const two = ChannelId(2)
const three = ChannelId(3)

const { Active, Reconnecting, Closed } = EndpointState
const { ChannelClosed, ChannelReplaced, GraceExpired, PluginExited, Reattached, Resumed, Unregistered } = EndpointEvent
const { AttachMailbox, CancelGrace, DetachMailbox, HandMailToInbox, Remove, Report, StartGrace } = EndpointEffect

const inUse = Active({ channel: one, claimed: true })
const carriedOver = Active({ channel: one, claimed: false })
const away = Reconnecting({ deadline: now + 5_000 })
const closed = Closed({ reason: "plugin_exit" })

const leaves = Transition.Moved({
  next: Reconnecting({ deadline: now + graceMs }),
  effects: [
    DetachMailbox(),
    StartGrace({ deadline: now + graceMs }),
    Report({ state: "reconnecting", reason: "ipc_close" })
  ]
})
const closes = (
  reason: "plugin_exit" | "grace_timeout" | "explicit_unregister",
  first: ReadonlyArray<EndpointEffect> = []
) =>
  Transition.Moved({
    next: Closed({ reason }),
    effects: [...first, Report({ state: "closed", reason }), HandMailToInbox(), Remove()]
  })
const comesBackOver = (channel: ChannelId) =>
  Transition.Moved({
    next: Active({ channel, claimed: true }),
    effects: [CancelGrace(), AttachMailbox({ channel }), Report({ state: "active", reason: "reattach" })]
  })
const isClaimed = Transition.Moved({ next: inUse, effects: [] })
const ignored = (because: Extract<Transition, { _tag: "Ignored" }>["because"]) => Transition.Ignored({ because })

const alive = true
const dead = false

/** [what happens, before, event, after]; rows of spec/lifecycle.md §2 first, then what this broker adds. */
const rows: ReadonlyArray<readonly [string, EndpointState, EndpointEvent, Transition, LifecycleRules?]> = [
  ["active: its channel closes, the plugin lives", inUse, ChannelClosed({ channel: one, pluginAlive: alive }), leaves],
  [
    "active: its channel closes, the plugin is dead",
    inUse,
    ChannelClosed({ channel: one, pluginAlive: dead }),
    closes("plugin_exit")
  ],
  ["active: unregistered", inUse, Unregistered(), closes("explicit_unregister")],
  ["active: register", inUse, Resumed({ channel: one }), ignored("in_use")],
  ["active: reattach", inUse, Reattached({ channel: one }), ignored("in_use")],
  ["active: a late grace timer", inUse, GraceExpired(), ignored("in_use")],
  ["reconnecting: reattach", away, Reattached({ channel: two }), comesBackOver(two)],
  ["reconnecting: grace over", Reconnecting({ deadline: now }), GraceExpired(), closes("grace_timeout")],
  ["reconnecting: unregistered", away, Unregistered(), closes("explicit_unregister", [CancelGrace()])],
  [
    "reconnecting: a channel closes",
    away,
    ChannelClosed({ channel: one, pluginAlive: alive }),
    ignored("already_away")
  ],
  [
    "reconnecting: a channel closes, the plugin is dead",
    away,
    ChannelClosed({ channel: one, pluginAlive: dead }),
    ignored("already_away")
  ],

  [
    "active: another channel than its own closes",
    inUse,
    ChannelClosed({ channel: two, pluginAlive: dead }),
    ignored("other_channel")
  ],
  [
    "active: its channel closes, the plugin is dead but resumes later",
    inUse,
    ChannelClosed({ channel: one, pluginAlive: dead }),
    leaves,
    surviving
  ],
  [
    "active: a newer channel takes over",
    inUse,
    ChannelReplaced({ from: one, to: two }),
    Transition.Moved({
      next: Active({ channel: two, claimed: false }),
      effects: [DetachMailbox(), AttachMailbox({ channel: two })]
    })
  ],
  [
    "active: a newer channel that has not shown its token",
    inUse,
    ChannelReplaced({ from: one, to: two }),
    leaves,
    guarded
  ],
  [
    "active: a channel it is not on is replaced",
    inUse,
    ChannelReplaced({ from: two, to: three }),
    ignored("other_channel")
  ],
  ["carried over: registered again there", carriedOver, Resumed({ channel: one }), isClaimed],
  ["carried over: reattached there", carriedOver, Reattached({ channel: one }), isClaimed],
  ["carried over: asked for on another channel", carriedOver, Reattached({ channel: two }), ignored("other_channel")],
  ["carried over: resumed on another channel", carriedOver, Resumed({ channel: two }), ignored("other_channel")],
  ["active: the process is gone", inUse, PluginExited(), closes("plugin_exit")],
  ["active: the process is gone but resumes later", inUse, PluginExited(), leaves, surviving],
  ["reconnecting: registered again", away, Resumed({ channel: two }), comesBackOver(two)],
  ["reconnecting: the grace timer is early", away, GraceExpired(), ignored("not_due")],
  ["reconnecting: the process is gone", away, PluginExited(), closes("plugin_exit", [CancelGrace()])],
  ["reconnecting: the process is gone but resumes later", away, PluginExited(), ignored("survives_exit"), surviving],
  ["reconnecting: a channel is replaced", away, ChannelReplaced({ from: one, to: two }), ignored("already_away")]
]

describe("the life of an endpoint", () => {
  for (const [what, state, event, after, under = rules] of rows) {
    it(what, () => assert.deepStrictEqual(step(state, event, under), after))
  }

  it("grace ends at its deadline, not 1 ms before", () => {
    const state = Reconnecting({ deadline: now })
    assert.deepStrictEqual(step(state, GraceExpired(), { ...rules, now: now - 1 }), ignored("not_due"))
    assert.strictEqual(step(state, GraceExpired(), rules)._tag, "Moved")
  })

  it("a new endpoint is active on its channel, its mailbox attached before it is reported", () => {
    assert.deepStrictEqual(begin(one, rules), {
      next: inUse,
      effects: [AttachMailbox({ channel: one }), Report({ state: "active", reason: "register" })]
    })
  })

  it("an endpoint whose channel ended during registration is reported active, then reconnecting", () => {
    const { effects, next } = begin(undefined, rules)
    assert.deepStrictEqual(next, Reconnecting({ deadline: now + graceMs }))
    assert.deepStrictEqual(
      effects.filter(EndpointEffect.$is("Report")).map(({ state }) => state),
      ["active", "reconnecting"]
    )
    assert.deepInclude(effects, StartGrace({ deadline: now + graceMs }))
  })

  it("only an endpoint that waits for its plugin, or was carried over to this very channel, can be resumed", () => {
    assert.isTrue(isLeftFor(away, two))
    assert.isTrue(isLeftFor(carriedOver, one))
    assert.isFalse(isLeftFor(carriedOver, two))
    assert.isFalse(isLeftFor(inUse, one))
    assert.isFalse(isLeftFor(closed, one))
  })
})

const channel = fc.integer({ min: 1, max: 3 }).map((id) => ChannelId(id))
const time = fc.integer({ min: 0, max: 2_000 })
const anyState: fc.Arbitrary<EndpointState> = fc.oneof(
  fc.record({ channel, claimed: fc.boolean() }).map((props) => Active(props)),
  time.map((deadline) => Reconnecting({ deadline })),
  fc
    .constantFrom("plugin_exit" as const, "grace_timeout" as const, "explicit_unregister" as const)
    .map((reason) => Closed({ reason }))
)
const anyEvent: fc.Arbitrary<EndpointEvent> = fc.oneof(
  channel.map((channel) => Resumed({ channel })),
  channel.map((channel) => Reattached({ channel })),
  fc.record({ from: channel, to: channel }).map((props) => ChannelReplaced(props)),
  fc.record({ channel, pluginAlive: fc.boolean() }).map((props) => ChannelClosed(props)),
  fc.constantFrom(PluginExited(), GraceExpired(), Unregistered())
)
const anyRules: fc.Arbitrary<LifecycleRules> = fc.record({
  now: time,
  graceMs: time,
  survivesExit: fc.boolean(),
  demandsToken: fc.boolean(),
  isRestarting: fc.boolean()
})

it("L3: a broker that makes place for the next one reports that as the reason why plugins are away", () => {
  const event = ChannelClosed({ channel: ChannelId(1), pluginAlive: true })
  const moved = step(Active({ channel: ChannelId(1), claimed: true }), event, { ...rules, isRestarting: true })
  assert.strictEqual(moved._tag, "Moved")
  assert.deepInclude(
    moved._tag === "Moved" ? moved.effects : [],
    Report({ state: "reconnecting", reason: "broker_restart" })
  )
})

describe("any event in any state", () => {
  it.prop("is decided, and nothing leaves closed", [anyState, anyEvent, anyRules], ([state, event, under]) => {
    const after = step(state, event, under)
    if (state._tag === "Closed") assert.deepStrictEqual(after, ignored("closed"))
    if (after._tag === "Moved") assert.notStrictEqual(state._tag, "Closed")
  })

  it.prop("leaves mailbox and grace timer as the new state needs them", [anyState, anyEvent, anyRules], (given) => {
    const [state, event, under] = given
    const after = step(state, event, under)
    if (after._tag === "Ignored") return
    const { effects, next } = after
    const last = (...tags: ReadonlyArray<EndpointEffect["_tag"]>) =>
      effects.filter(({ _tag }) => tags.includes(_tag)).at(-1)
    if (next._tag === "Active") {
      const moved = state._tag !== "Active" || state.channel !== next.channel
      if (moved)
        assert.deepStrictEqual(last("AttachMailbox", "DetachMailbox"), AttachMailbox({ channel: next.channel }))
      if (state._tag === "Reconnecting") assert.deepStrictEqual(last("StartGrace", "CancelGrace"), CancelGrace())
    }
    if (next._tag === "Reconnecting") {
      assert.deepStrictEqual(last("AttachMailbox", "DetachMailbox"), DetachMailbox())
      assert.deepStrictEqual(last("StartGrace", "CancelGrace"), StartGrace({ deadline: next.deadline }))
      assert.strictEqual(next.deadline, under.now + under.graceMs)
    }
    if (next._tag === "Closed") {
      assert.deepStrictEqual(
        effects.filter(({ _tag }) => _tag !== "CancelGrace").map(({ _tag }) => _tag),
        ["Report", "HandMailToInbox", "Remove"]
      )
      assert.deepStrictEqual(last("Report"), Report({ state: "closed", reason: next.reason }))
    }
  })

  it.prop(
    "an endpoint in use is never given to another channel's claim",
    [channel, channel, fc.boolean(), anyRules],
    ([own, other, byRegister, under]) => {
      const claim = byRegister ? Resumed({ channel: other }) : Reattached({ channel: other })
      assert.deepStrictEqual(step(Active({ channel: own, claimed: true }), claim, under), ignored("in_use"))
    }
  )
})
