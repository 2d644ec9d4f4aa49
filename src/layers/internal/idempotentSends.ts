import { createHash } from "node:crypto"
import { Effect, Exit } from "effect"
import { Connector } from "../../services/Connector.js"
import type { Endpoint } from "../../services/Directory.js"
import { IdempotencyKeys } from "../../services/IdempotencyKeys.js"
import { IdempotencyConflict, SendUnknown, type StoreUnavailable } from "../../services/model/Errors.js"
import { refuseAway } from "../../services/model/Ownership.js"
import type { SendRefusal, SendRequest, Sent } from "../../services/Sender.js"
import { Store, Transaction } from "../../services/Store.js"
import { makeSharing } from "./sharing.js"

/** The names a message has before it leaves. */
export interface SendIds {
  readonly messageId: string
  readonly correlationId: string
  /** It was sent under them before, and the outcome is not known. */
  readonly mayBeKnown: boolean
}

/** Two requests with the same digest are the same message. */
export const digestOf = ({ content, contentType, metadata, requireLive, to }: SendRequest): string =>
  createHash("sha256")
    .update(JSON.stringify([to, content, contentType, sorted(metadata), requireLive]))
    .digest("hex")

/** The order of an object's keys says nothing. */
const sorted = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== "object" || value === null) return value
  const entries = Object.entries(value).map(([key, inner]) => [key, sorted(inner)] as const)
  return entries.toSorted(([a], [b]) => (a < b ? -1 : 1))
}

/**
 * Sends at most once per key: a repeated request gets the answer of the first, also while that is under way. What surely was
 * not sent may be tried again. Where the outcome is not known, the same message is sent again only to a network that
 * delivers an id once. `transmit` commits the transaction it is given, in the turn in which it is called.
 */
export const makeIdempotentSends = Effect.gen(function* () {
  const keys = yield* IdempotencyKeys
  const connector = yield* Connector
  const store = yield* Store
  const share = makeSharing<Sent, SendRefusal>()

  return (
    endpoint: Endpoint,
    key: string,
    request: SendRequest,
    newIds: () => Omit<SendIds, "mayBeKnown">,
    transmit: (ids: SendIds, transaction: Transaction) => Effect.Effect<Sent, SendRefusal>
  ): Effect.Effect<Sent, SendRefusal> => {
    const digest = digestOf(request)
    const once = Effect.suspend((): Effect.Effect<Sent, SendRefusal> => {
      // In the turn in which its key is written: what an ended endpoint left is forgotten already.
      const away = refuseAway(endpoint)
      if (away !== undefined) return away
      const before = keys.unsafeGet(endpoint.key, key)
      if (before !== undefined && before.digest !== digest) {
        return new IdempotencyConflict({
          message: `"idempotency_key" "${key}" belongs to another message; give each message a key of its own.`
        })
      }
      if (before?.answer !== undefined) {
        const { replyResolved, status } = before.answer
        // Whoever asked first may have been told that it is not written.
        const written = new Transaction()
        written.isBarrier = true
        return store
          .unsafeCommitWithin(written)
          .pipe(Effect.mapError(sentUnwritten), Effect.as({ messageId: before.messageId, status, replyResolved }))
      }
      if (before !== undefined && !connector.abilities.dedupesSends) {
        return new SendUnknown({
          message: `It is not known whether message ${before.messageId} arrived, and this network might deliver it twice.`,
          retryable: false
        })
      }

      const { correlationId, messageId } = before ?? newIds()
      const mayBeKnown = before !== undefined
      const transaction = new Transaction()
      keys.unsafePut(transaction, endpoint.key, key, { digest, messageId, correlationId })
      /** That what became of it is known to the next life of the broker, too. */
      let written: Effect.Effect<void, StoreUnavailable> = Effect.void
      return transmit({ messageId, correlationId, mayBeKnown }, transaction).pipe(
        Effect.onExit((exit) => {
          // Its keys went with the endpoint.
          if (endpoint.state._tag === "Closed") return Effect.void
          const after = new Transaction()
          if (Exit.isSuccess(exit)) {
            const { replyResolved, status } = exit.value
            const answer = { status, ...(replyResolved === undefined ? {} : { replyResolved }) }
            keys.unsafePut(after, endpoint.key, key, { digest, messageId, correlationId, answer })
          } else if (!isUncertain(exit)) keys.unsafeRemove(after, endpoint.key, key)
          written = store.unsafeCommitWithin(after)
          return Exit.isSuccess(exit) ? Effect.void : Effect.ignore(written)
        }),
        Effect.zipLeft(Effect.suspend(() => Effect.mapError(written, sentUnwritten)))
      )
    })
    return share(`${endpoint.key}/${key}/${digest}`, once)
  }
})

/** It left, and the broker might not know of it after a crash. */
export const sentUnwritten = ({ message }: StoreUnavailable): SendUnknown =>
  new SendUnknown({ message: `The message was sent, and that could not be written down. ${message}`, retryable: false })

/** It may have been sent: anything but a refusal that says it was not. */
const isUncertain = (exit: Exit.Failure<Sent, SendRefusal>): boolean =>
  exit.cause._tag !== "Fail" || exit.cause.error._tag === "connector_send_outcome_unknown"
