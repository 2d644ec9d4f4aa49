/** The books of this process, in memory. */
import { Layer } from "effect"
import { type Entry, type Holding, Ledger } from "../services/Ledger.js"

export const layer: Layer.Layer<Ledger> = Layer.sync(Ledger, () => {
  const counts: Record<Entry, number> = { accepted: 0, delivered: 0, expired: 0, dead: 0 }
  const holdings: Record<Holding, () => number> = { held: () => 0, inbox: () => 0 }
  return {
    unsafeCount: (entry, messages) => {
      counts[entry] += messages
    },
    unsafeHolds: (holding, count) => {
      holdings[holding] = count
    },
    unsafeAccepted: () => counts.accepted,
    unsafeBooks: () => {
      const held = holdings.held()
      const inbox = holdings.inbox()
      const { accepted, dead, delivered, expired } = counts
      return {
        accepted,
        delivered,
        held,
        inbox,
        expired,
        dead,
        unaccounted: accepted - delivered - held - inbox - expired - dead
      }
    }
  }
})
