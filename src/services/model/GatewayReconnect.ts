/** How a connection to the gateway ended, and when to try the next one. */
import { Data } from "effect"
import { type BackoffSettings, delay } from "./Backoff.js"

export type ConnectionEnd = Data.TaggedEnum<{
  /** Could not be opened, was refused for a passing reason, or was lost. */
  Lost: { readonly reason: string; readonly wasRegistered: boolean }
  /** A registered connection on which a frame came that is larger than can be read: nobody knows what it holds. */
  TooLarge: {
    /** More than so many bytes. */
    readonly limit: number
    /** The delivery cursor then. What is behind the frame does not move it. */
    readonly cursor: number
    /** How long the registration lasted. */
    readonly livedMs: number
  }
  /** Another connection of this agent is still open at the gateway. */
  AlreadyConnected: {}
  /** Another runtime has taken over: leave. */
  Replaced: {}
  /** The gateway speaks another protocol: nothing will help. */
  Unsupported: { readonly reason: string }
}>
export const ConnectionEnd = Data.taggedEnum<ConnectionEnd>()

export interface ReconnectState {
  /** Attempts since the last registration that worked. */
  readonly failures: number
  /** How many times in a row the gateway said "Already connected". */
  readonly alreadyConnected: number
  /** How often a frame too large to be read ended the connection at this position of the cursor; others in between or not. */
  readonly tooLarge: { readonly cursor: number; readonly times: number } | undefined
}

export const fresh: ReconnectState = { failures: 0, alreadyConnected: 0, tooLarge: undefined }

const alreadyConnectedLimit = 30
/** So often at one position, and it is the same frame that the gateway sends again and again. */
const tooLargeLimit = 3

/** The gateway sends a frame again and again that can be neither read nor skipped: nothing behind it arrives. */
export const isStuck = ({ tooLarge }: ReconnectState): boolean =>
  tooLarge !== undefined && tooLarge.times >= tooLargeLimit

/**
 * The wait before the next attempt. "Already connected" is retried at a steady pace, at most 29 times in a row, for the gateway
 * is about to notice; everything else backs off. A registration that worked starts afresh, unless frames too large to be read
 * ended it: these back off as long as the cursor does not move, after three at the longest wait. What they hold is unknown, so
 * they cannot be skipped. A connection that was healthy for long before is no sign of the same frame.
 */
export const next = (
  state: ReconnectState,
  end: ConnectionEnd,
  settings: BackoffSettings & { readonly alreadyConnectedMs: number; readonly healthyMs: number },
  random: number
): { readonly waitMs: number; readonly state: ReconnectState } => {
  if (end._tag === "TooLarge") {
    const isSame = state.tooLarge?.cursor === end.cursor && end.livedMs < settings.healthyMs
    const times = isSame ? Math.min(state.tooLarge.times + 1, tooLargeLimit) : 1
    const tooLarge = { cursor: end.cursor, times }
    const wait = times < tooLargeLimit ? delay(settings, times - 1, random) : longest(settings, random)
    return { waitMs: wait, state: { ...fresh, tooLarge } }
  }
  if (end._tag === "AlreadyConnected" && state.alreadyConnected + 1 < alreadyConnectedLimit) {
    return {
      waitMs: settings.alreadyConnectedMs,
      state: { ...state, alreadyConnected: state.alreadyConnected + 1 }
    }
  }
  const failures = end._tag === "Lost" && end.wasRegistered ? 0 : state.failures
  return {
    waitMs: delay(settings, failures, random),
    state: { failures: failures + 1, alreadyConnected: 0, tooLarge: state.tooLarge }
  }
}

const longest = (settings: BackoffSettings, random: number) => delay({ ...settings, base: settings.cap }, 0, random)
