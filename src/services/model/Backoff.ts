/** How long to wait before trying again: one rule for everything that retries. */
import { Duration, Schedule } from "effect"

export interface BackoffSettings {
  /** The first wait, milliseconds. */
  readonly base: number
  /** No wait is longer, milliseconds. */
  readonly cap: number
}

/** The wait before retry number `attempt` (0, 1, 2 …): min(cap, base × 2ⁿ), spread over 75–100 %. `random` is uniform in [0, 1). */
export const delay = (settings: BackoffSettings, attempt: number, random: number): number =>
  Math.min(settings.cap, settings.base * 2 ** Math.min(attempt, 52)) * (0.75 + 0.25 * random)

/** The same rule as a Schedule. Its input is how many milliseconds the failed run lived: `healthyAfter` starts afresh. */
export const backoff = (
  settings: BackoffSettings,
  healthyAfter: Duration.DurationInput
): Schedule.Schedule<unknown, number> =>
  Schedule.exponential(settings.base).pipe(
    Schedule.either(Schedule.spaced(settings.cap)),
    Schedule.jitteredWith({ min: 0.75, max: 1 }),
    Schedule.intersect(Schedule.identity<number>()),
    Schedule.resetWhen(([, lived]) => lived >= Duration.toMillis(healthyAfter))
  )
