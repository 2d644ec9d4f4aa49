/** Messages as an async iterator. */
import { type Deliveries, PutBack, Refused } from "./deliveries.js"
import { orAborted } from "./waiting.js"
import type { ReceivedMessage } from "./wire.js"

/** A message whose taker says when it is done; the first of the two counts, later ones change nothing. */
export interface Delivery extends ReceivedMessage {
  /** The message is safe with the application: the broker gets its receipt. */
  readonly acknowledge: () => void
  /** The broker pushes it again after a while. */
  readonly refuse: (reason?: string) => void
}

/**
 * Asking for the next message acknowledges the one before, unless it was answered. A loop that is left puts the message it
 * holds back, unless it was answered. It ends when `closed` is aborted, and fails with the reason of `signal`.
 */
export async function* messageLoop(
  deliveries: Deliveries,
  closed: AbortSignal,
  signal: AbortSignal | undefined
): AsyncGenerator<Delivery, void, void> {
  const ready: Array<Delivery> = []
  let putBack = () => {}
  let wake = () => {}
  const release = deliveries.handleWith(
    (message) =>
      new Promise((resolve, reject) => {
        const refuse = (reason = "The application refused it.") => reject(new Refused(reason))
        putBack = () => reject(new PutBack())
        ready.push({ ...message, acknowledge: resolve, refuse })
        wake()
      })
  )
  const stop = signal === undefined ? closed : AbortSignal.any([closed, signal])
  try {
    while (!closed.aborted) {
      signal?.throwIfAborted()
      if (ready.length === 0) {
        const more = new Promise<void>((resolve) => {
          wake = resolve
        })
        // Both ends are looked at above.
        await orAborted(more, stop).catch(() => undefined)
        continue
      }
      const inHand = ready.shift()!
      yield inHand
      inHand.acknowledge()
    }
  } finally {
    release()
    putBack()
  }
}
