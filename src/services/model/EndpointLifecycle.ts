/**
 * The life of an endpoint: every transition it can make, decided here and nowhere else.
 *
 * `step` is total and pure. The registry keeps the state, asks, and performs the effects in the order given. An event that
 * changes nothing is `Ignored` with the reason; timers and sockets may therefore report late or twice without harm.
 */
import { Data } from "effect"
import type { ChannelId } from "./Ids.js"

export type EndpointState = Data.TaggedEnum<{
  /**
   * Reachable over `channel`. `claimed` is false from the moment a newer channel of its plugin took it over until the plugin
   * asks for it there (register, resume or reattach).
   */
  Active: { readonly channel: ChannelId; readonly claimed: boolean }
  /** Its plugin is away. Mail is kept until `deadline`, epoch milliseconds. */
  Reconnecting: { readonly deadline: number }
  /** Gone for good. */
  Closed: { readonly reason: ClosedReason }
}>
export const EndpointState = Data.taggedEnum<EndpointState>()

export type ClosedReason = "plugin_exit" | "grace_timeout" | "explicit_unregister"

export type EndpointEvent = Data.TaggedEnum<{
  /** The plugin asks to register the same session again and this endpoint is the one it left. */
  Resumed: { readonly channel: ChannelId }
  /** The plugin asks for this endpoint by id on its current channel. */
  Reattached: { readonly channel: ChannelId }
  /** A newer channel of what says to be the same plugin took the place of `from`. */
  ChannelReplaced: { readonly from: ChannelId; readonly to: ChannelId }
  /** The channel ended. `pluginAlive` is what the liveness probe says at that moment. */
  ChannelClosed: { readonly channel: ChannelId; readonly pluginAlive: boolean }
  /** The plugin's process was found to be gone. */
  PluginExited: {}
  /** A grace timer fired. */
  GraceExpired: {}
  /** The plugin, the owner or the platform ended it. */
  Unregistered: {}
}>
export const EndpointEvent = Data.taggedEnum<EndpointEvent>()

/** What the registry does about a transition. */
export type EndpointEffect = Data.TaggedEnum<{
  /** Wait until `deadline` (epoch milliseconds), then send `GraceExpired`. */
  StartGrace: { readonly deadline: number }
  CancelGrace: {}
  /** The mailbox stops pushing; what was in flight waits for the next channel. */
  DetachMailbox: {}
  /** The mailbox delivers over `channel`, oldest first. */
  AttachMailbox: { readonly channel: ChannelId }
  /** Undelivered mail becomes undispatched messages. */
  HandMailToInbox: {}
  /** Tell the platform. */
  Report: { readonly state: "active" | "reconnecting" | "closed"; readonly reason: ReportReason }
  /** Forget the record and end the platform's one. */
  Remove: {}
}>
export const EndpointEffect = Data.taggedEnum<EndpointEffect>()

export type ReportReason = "register" | "reattach" | "ipc_close" | "broker_restart" | ClosedReason

export type Transition = Data.TaggedEnum<{
  Moved: { readonly next: EndpointState; readonly effects: ReadonlyArray<EndpointEffect> }
  Ignored: { readonly because: "closed" | "in_use" | "other_channel" | "not_due" | "survives_exit" | "already_away" }
}>
export const Transition = Data.taggedEnum<Transition>()

export interface LifecycleRules {
  readonly now: number
  readonly graceMs: number
  /** The endpoint's channel announced `endpoint_resume_v1`: it gets its grace period also when its process dies. */
  readonly survivesExit: boolean
  /** Its channel announced `endpoint_owner_token_v1`: no newer channel has it before somebody there shows its token. */
  readonly demandsToken: boolean
  /** This broker makes place for the next one: that is why plugins go away. */
  readonly isRestarting: boolean
}

const { Active, Reconnecting, Closed } = EndpointState
const { Moved, Ignored } = Transition
const { StartGrace, CancelGrace, DetachMailbox, AttachMailbox, HandMailToInbox, Report, Remove } = EndpointEffect

/** A new endpoint, on its plugin's channel, or at once waiting for it when the channel ended during registration. */
export const begin = (
  channel: ChannelId | undefined,
  rules: LifecycleRules
): { readonly next: EndpointState; readonly effects: ReadonlyArray<EndpointEffect> } => {
  const registered = Report({ state: "active", reason: "register" })
  if (channel !== undefined) {
    return { next: Active({ channel, claimed: true }), effects: [AttachMailbox({ channel }), registered] }
  }
  const away = leave(rules)
  return { next: away.next, effects: [registered, ...away.effects] }
}

/** An endpoint of the broker's last life: it waits for its plugin, with a fresh grace period. */
export const recovered = (
  rules: LifecycleRules
): { readonly next: EndpointState; readonly effects: ReadonlyArray<EndpointEffect> } => {
  const deadline = rules.now + rules.graceMs
  return {
    next: Reconnecting({ deadline }),
    effects: [StartGrace({ deadline }), Report({ state: "reconnecting", reason: "broker_restart" })]
  }
}

/** True when the endpoint waits for its plugin, so that this channel may resume it. One in use is never taken. */
export const isLeftFor = (state: EndpointState, channel: ChannelId): boolean =>
  state._tag === "Reconnecting" || (state._tag === "Active" && !state.claimed && state.channel === channel)

export const step = (state: EndpointState, event: EndpointEvent, rules: LifecycleRules): Transition =>
  EndpointState.$match(state, {
    Active: (active) => fromActive(active, event, rules),
    Reconnecting: (away) => fromReconnecting(away, event, rules),
    Closed: () => Ignored({ because: "closed" })
  })

type Of<Tag extends EndpointState["_tag"]> = Extract<EndpointState, { _tag: Tag }>

const fromActive = (state: Of<"Active">, event: EndpointEvent, rules: LifecycleRules): Transition =>
  EndpointEvent.$match(event, {
    Resumed: ({ channel }) => claim(state, channel),
    Reattached: ({ channel }) => claim(state, channel),
    ChannelReplaced: ({ from, to }) =>
      state.channel !== from
        ? Ignored({ because: "other_channel" })
        : rules.demandsToken
          ? Moved(leave(rules))
          : Moved({
              next: Active({ channel: to, claimed: false }),
              effects: [DetachMailbox(), AttachMailbox({ channel: to })]
            }),
    ChannelClosed: ({ channel, pluginAlive }) =>
      state.channel !== channel
        ? Ignored({ because: "other_channel" })
        : pluginAlive || rules.survivesExit
          ? Moved(leave(rules))
          : Moved(close("plugin_exit")),
    PluginExited: () => Moved(rules.survivesExit ? leave(rules) : close("plugin_exit")),
    GraceExpired: () => Ignored({ because: "in_use" }),
    Unregistered: () => Moved(close("explicit_unregister"))
  })

const fromReconnecting = (state: Of<"Reconnecting">, event: EndpointEvent, rules: LifecycleRules): Transition =>
  EndpointEvent.$match(event, {
    Resumed: ({ channel }) => Moved(comeBack(channel)),
    Reattached: ({ channel }) => Moved(comeBack(channel)),
    ChannelReplaced: () => Ignored({ because: "already_away" }),
    ChannelClosed: () => Ignored({ because: "already_away" }),
    PluginExited: () =>
      rules.survivesExit ? Ignored({ because: "survives_exit" }) : Moved(close("plugin_exit", [CancelGrace()])),
    GraceExpired: () => (rules.now >= state.deadline ? Moved(close("grace_timeout")) : Ignored({ because: "not_due" })),
    Unregistered: () => Moved(close("explicit_unregister", [CancelGrace()]))
  })

const claim = (state: Of<"Active">, channel: ChannelId): Transition =>
  isLeftFor(state, channel)
    ? Moved({ next: Active({ channel, claimed: true }), effects: [] })
    : Ignored({ because: state.claimed ? "in_use" : "other_channel" })

const comeBack = (channel: ChannelId) => ({
  next: Active({ channel, claimed: true }),
  effects: [CancelGrace(), AttachMailbox({ channel }), Report({ state: "active", reason: "reattach" })]
})

const leave = (rules: LifecycleRules) => {
  const deadline = rules.now + rules.graceMs
  const reason = rules.isRestarting ? "broker_restart" : "ipc_close"
  return {
    next: Reconnecting({ deadline }),
    effects: [DetachMailbox(), StartGrace({ deadline }), Report({ state: "reconnecting", reason })]
  }
}

const close = (reason: ClosedReason, first: ReadonlyArray<EndpointEffect> = []) => ({
  next: Closed({ reason }),
  effects: [...first, Report({ state: "closed", reason }), HandMailToInbox(), Remove()]
})
