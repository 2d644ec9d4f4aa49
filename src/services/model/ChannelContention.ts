/**
 * When the clients of one process displace each other, and who has to wait.
 *
 * A newer channel of a process takes the place of the older one; so a plugin gets in again whose old channel the broker still
 * believes in. Two clients in one process would take turns with it for ever, and so would two processes that have the same id
 * in different namespaces. They are told from a plugin that reconnects by the displaced channel: it was alive.
 */

export interface ContentionLimits {
  /** So many living channels displaced */
  readonly count: number
  /** within so many milliseconds are a contention: */
  readonly withinMs: number
  /** the current channel is left in peace so long. */
  readonly restMs: number
}

interface Contender {
  /** When living channels of the process were displaced, the oldest first. */
  displacedAt: ReadonlyArray<number>
  /** End of the latest rest. */
  restsUntil: number
}

export class ChannelContention {
  private readonly contenders = new Map<number, Contender>()
  private readonly limits: ContentionLimits

  constructor(limits: ContentionLimits) {
    this.limits = limits
  }

  /** A living channel of the process lost its place to a newer one. True when a rest begins with it. */
  displaced(pluginPid: number, now: number): boolean {
    const { count, restMs, withinMs } = this.limits
    const before = this.contenders.get(pluginPid)
    const recent = (before?.displacedAt ?? []).filter((at) => now - at < withinMs)
    const displacedAt = [...recent, now].slice(-count)
    // A rest is remembered as long as it lasted: what goes on afterwards need not be counted again.
    const goesOn = before !== undefined && now - before.restsUntil < restMs
    const rests = goesOn || displacedAt.length >= count
    const restsUntil = rests ? now + restMs : (before?.restsUntil ?? Number.NEGATIVE_INFINITY)
    this.contenders.set(pluginPid, { displacedAt, restsUntil })
    return rests
  }

  /** The current channel of the process ended: nobody is in anybody's way. */
  ended(pluginPid: number): void {
    this.contenders.delete(pluginPid)
  }

  /** How long a newer channel of the process has to wait, in milliseconds; `undefined` when it may open now. */
  wait(pluginPid: number, now: number): number | undefined {
    const left = (this.contenders.get(pluginPid)?.restsUntil ?? now) - now
    return left > 0 ? left : undefined
  }

  /** The processes whose current channel is left in peace. */
  resting(now: number): ReadonlyArray<number> {
    return [...this.contenders.keys()].filter((pluginPid) => this.wait(pluginPid, now) !== undefined)
  }
}
