/** How a connection to the gateway ended, and when to try the next one. */
import { Data } from "effect"
import { type BackoffSettings, delay } from "./Backoff.js"

export type ConnectionEnd = Data.TaggedEnum<{
  /** Could not be opened, was refused for a passing reason, or was lost. */
  Lost: { readonly reason: string; readonly wasRegistered: boolean }
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
}

export const fresh: ReconnectState = { failures: 0, alreadyConnected: 0 }

const alreadyConnectedLimit = 30

/**
 * The wait before the next attempt. "Already connected" is retried at a steady pace, at most 29 times in a row, for the gateway
 * is about to notice; everything else backs off. A registration that worked starts afresh.
 */
export const next = (
  state: ReconnectState,
  end: ConnectionEnd,
  settings: BackoffSettings & { readonly alreadyConnectedMs: number },
  random: number
): { readonly waitMs: number; readonly state: ReconnectState } => {
  if (end._tag === "AlreadyConnected" && state.alreadyConnected + 1 < alreadyConnectedLimit) {
    return {
      waitMs: settings.alreadyConnectedMs,
      state: { failures: state.failures, alreadyConnected: state.alreadyConnected + 1 }
    }
  }
  const failures = end._tag === "Lost" && end.wasRegistered ? 0 : state.failures
  return { waitMs: delay(settings, failures, random), state: { failures: failures + 1, alreadyConnected: 0 } }
}
