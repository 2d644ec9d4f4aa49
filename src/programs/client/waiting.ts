/** Waiting that ends: after a time, on a signal, or with what was waited for. */
import { setMaxListeners } from "node:events"
import { asError } from "./errors.js"

/** The same rule as everywhere in the broker: min(cap, base × 2ⁿ), spread over 75–100 %, afresh after a minute of health. */
export class Backoff {
  readonly #base: number
  readonly #cap: number
  #attempt = 0

  constructor(base: number, cap: number) {
    this.#base = base
    this.#cap = cap
  }

  /** The next wait in milliseconds. */
  next(): number {
    const longest = Math.min(this.#cap, this.#base * 2 ** Math.min(this.#attempt++, 52))
    return longest * (0.75 + 0.25 * Math.random())
  }

  /** What was tried had worked for this long when it ended. */
  worked(milliseconds: number): void {
    if (milliseconds >= 60_000) this.#attempt = 0
  }
}

/** Done after this time; fails with the signal's reason when it comes first. */
export const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const stop = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop)
      resolve()
    }, milliseconds)
    signal.addEventListener("abort", stop, { once: true })
  })

/** The promise's outcome; fails with the signal's reason when it comes first. What is behind the promise goes on. */
export const orAborted = <A>(promise: Promise<A>, signal: AbortSignal): Promise<A> =>
  new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const stop = () => reject(signal.reason)
    signal.addEventListener("abort", stop, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop))
  })

/** A controller whose signal any number of calls may watch. */
export const watched = (): AbortController => {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}

/** A signal that is aborted with `reason` after a time, or with the reason of `outer` before. `done` ends its timer. */
export const deadline = (
  milliseconds: number,
  reason: () => Error,
  ...outer: ReadonlyArray<AbortSignal | undefined>
): { readonly signal: AbortSignal; readonly done: () => void } => {
  const controller = new AbortController()
  const signals = outer.filter((signal) => signal !== undefined)
  const follow = () => controller.abort(signals.find((signal) => signal.aborted)?.reason)
  // One signal may be for any number of calls.
  for (const signal of signals) setMaxListeners(0, signal)
  const timer = setTimeout(() => controller.abort(reason()), milliseconds)
  const done = () => {
    clearTimeout(timer)
    for (const signal of signals) signal.removeEventListener("abort", follow)
  }
  if (signals.some((signal) => signal.aborted)) follow()
  else for (const signal of signals) signal.addEventListener("abort", follow, { once: true })
  return { signal: controller.signal, done }
}

/** A number of places, given in the order of asking. */
export class Places {
  #free: number
  readonly #asking: Array<() => void> = []

  constructor(count: number) {
    this.#free = count
  }

  async take(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#free > 0) {
      this.#free--
      return
    }
    let give = () => {}
    const given = new Promise<void>((resolve) => {
      give = resolve
    })
    this.#asking.push(give)
    try {
      await orAborted(given, signal)
    } catch (error) {
      const place = this.#asking.indexOf(give)
      if (place >= 0) this.#asking.splice(place, 1)
      else this.giveBack()
      throw error
    }
  }

  giveBack(): void {
    const next = this.#asking.shift()
    if (next === undefined) this.#free++
    else next()
  }
}

/** Tells application errors nobody listens for: shown, and the process lives on. */
export const warn = (error: unknown): void => process.emitWarning(asError(error))
