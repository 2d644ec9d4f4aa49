/** Dead letters and refused reports as one queue for the operator. */
import { Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { CorrelationIndex } from "../services/CorrelationIndex.js"
import { DeadLetterQueue } from "../services/DeadLetterQueue.js"
import { type DeadLetter, type DeadLetterOutline, DeadLetters } from "../services/DeadLetters.js"
import { Directory, type Endpoint } from "../services/Directory.js"
import { Inbox } from "../services/Inbox.js"
import type { DeadEntry, DeadRetried } from "../services/ipc/DeadLetterGroup.js"
import { Mailboxes } from "../services/Mailboxes.js"
import { DeadLetterNotRetryable, DeadLetterUnknown, type StoreUnavailable } from "../services/model/Errors.js"
import { isDeeperThan } from "../services/model/Json.js"
import { isExpired } from "../services/model/Message.js"
import { text } from "../services/model/Metadata.js"
import { isStillSo, laneOf, type ReportedWorld } from "../services/model/PlatformReport.js"
import { plan } from "../services/model/RoutePlan.js"
import { type DeadReport, type DeadReportOutline, Outbox, outlineOf } from "../services/Outbox.js"
import { Presence } from "../services/Presence.js"
import { ReplyCorrelations } from "../services/ReplyCorrelations.js"
import { Store, Transaction } from "../services/Store.js"
import { routeView } from "./internal/routeView.js"
import { storeCommits } from "./internal/storeChecks.js"

const iso = (ms: number) => new Date(ms).toISOString()

type Dead =
  | { readonly kind: "message"; readonly key: string; readonly letter: DeadLetter }
  | { readonly kind: "report"; readonly key: string; readonly dead: DeadReport }

export const layer: Layer.Layer<
  DeadLetterQueue,
  never,
  | DeadLetters
  | Outbox
  | Directory
  | CorrelationIndex
  | ReplyCorrelations
  | Mailboxes
  | Inbox
  | Presence
  | Store
  | BrokerConfig
> = Layer.effect(
  DeadLetterQueue,
  Effect.gen(function* () {
    const { jsonDepth } = yield* BrokerConfig
    const deadLetters = yield* DeadLetters
    const outbox = yield* Outbox
    const directory = yield* Directory
    const replies = yield* ReplyCorrelations
    const mailboxes = yield* Mailboxes
    const inbox = yield* Inbox
    const presence = yield* Presence
    const store = yield* Store
    const clock = yield* Effect.clock
    const view = routeView(directory, yield* CorrelationIndex)
    const canCommit = storeCommits(store)

    // -- looking -------------------------------------------------------------------------------------------------------

    const find = (id: string): Dead | undefined => {
      const key = id.slice(2)
      const letter = id.startsWith("m-") ? deadLetters.unsafeGet(key) : undefined
      if (letter !== undefined) return { kind: "message", key, letter }
      const dead = id.startsWith("r-") ? outbox.unsafeGetDead(key) : undefined
      return dead === undefined ? undefined : { kind: "report", key, dead }
    }

    const unknown = (id: string) =>
      new DeadLetterUnknown({ message: `There is no dead letter "${id}"; it may have been retried or purged.` })

    /** Decides in one turn what to do with it; the store can be written then. */
    const withDead = <A, E>(id: string, decide: (found: Dead) => Effect.Effect<A, E>) =>
      Effect.suspend((): Effect.Effect<A, E | DeadLetterUnknown> => {
        const found = find(id)
        return found === undefined ? unknown(id) : decide(found)
      })

    const ofMessage = (key: string, { at, endpointId, message, reason }: DeadLetterOutline) => ({
      id: `m-${key}`,
      kind: "message" as const,
      at: iso(at),
      reason,
      ...(endpointId === undefined ? {} : { endpoint_id: endpointId }),
      from: message.from,
      message_id: message.id,
      bytes: message.bytes
    })

    const ofReport = (key: string, { at, lane, reason, report }: DeadReportOutline) => ({
      id: `r-${key}`,
      kind: "report" as const,
      at: iso(at),
      reason,
      report,
      lane
    })

    const whole = (found: Dead): DeadEntry => {
      if (found.kind === "report") return { ...ofReport(found.key, outlineOf(found.dead)), content: found.dead.report }
      const { arrivedAt, content, contentType, metadata } = found.letter.message
      const rest = { content, content_type: contentType, metadata, arrived_at: iso(arrivedAt) }
      return { ...ofMessage(found.key, found.letter), ...rest }
    }

    // -- retrying ------------------------------------------------------------------------------------------------------

    const refused = (message: string): Effect.Effect<DeadRetried, DeadLetterNotRetryable | StoreUnavailable> =>
      new DeadLetterNotRetryable({ message })

    const endpointOf = ({ endpointId, message, recipient }: DeadLetter): Endpoint | undefined => {
      if (endpointId !== undefined) return directory.unsafeGet(endpointId)
      const route = plan(message.metadata, recipient, view)
      return route._tag === "Endpoint" ? route.endpoint : undefined
    }

    const retryMessage = (id: string, key: string, letter: DeadLetter) => {
      const { message, reason } = letter
      if (reason === "too_large") {
        return refused(
          `The message ${id} came in ${message.bytes} bytes, more than the limit then, and only its beginning was kept; its sender has to send it again.`
        )
      }
      if (isDeeperThan(message.metadata, jsonDepth)) {
        return refused(
          `The metadata of ${id} nests deeper than ${jsonDepth} levels (setting jsonDepth); it would be given up again.`
        )
      }
      if (isExpired(message, clock.unsafeCurrentTimeMillis())) {
        return refused(`The message ${id} expired at ${iso(message.expiresAt!)} and is delivered to nobody.`)
      }
      const transaction = new Transaction()
      const endpoint = endpointOf(letter)
      deadLetters.unsafeRevive(transaction, key)
      const retried =
        endpoint === undefined ? toInbox(transaction, id, letter) : toMailbox(transaction, id, letter, endpoint)
      return Effect.as(store.unsafeCommitWithin(transaction), retried)
    }

    const toMailbox = (transaction: Transaction, id: string, letter: DeadLetter, endpoint: Endpoint): DeadRetried => {
      const { message, reason } = letter
      mailboxes.unsafeDeliver(transaction, endpoint.key, {
        message,
        token: undefined,
        kind: "moved",
        mayBeKnown: reason === "delivery_limit"
      })
      const correlationId = text(message.metadata, "correlation_id")
      if (correlationId !== undefined) replies.unsafeRecord(transaction, endpoint.key, correlationId)
      return { id, to: "mailbox", endpoint_id: endpoint.id }
    }

    const toInbox = (transaction: Transaction, id: string, { endpointId, message }: DeadLetter): DeadRetried => {
      const target = text(message.metadata, "target_endpoint_id")
      const ended = endpointId ?? (target !== undefined && directory.unsafeHasEnded(target) ? target : undefined)
      inbox.unsafeAdd(
        transaction,
        ended === undefined
          ? { message, reason: "unaddressed" }
          : { message, reason: "closed_session_continuation", originalTarget: ended }
      )
      return { id, to: "inbox" }
    }

    const world: ReportedWorld = {
      endpointState: (endpointId) => {
        const tag = directory.unsafeGet(endpointId)?.state._tag
        return tag === "Active" ? "active" : tag === "Reconnecting" ? "reconnecting" : "closed"
      },
      taskHint: (endpointId) => directory.unsafeGet(endpointId)?.session.taskHint,
      presence: presence.unsafeCurrent,
      isUndispatched: inbox.unsafeHas
    }

    const retryReport = (id: string, key: string, { report }: DeadReport) => {
      const transaction = new Transaction()
      if (!isStillSo(report, world) || !outbox.unsafeRetry(transaction, key)) {
        return refused(`What the report ${id} says of ${laneOf(report)} is no longer so; purge it.`)
      }
      const retried: DeadRetried = { id, to: "outbox" }
      return Effect.as(store.unsafeCommitWithin(transaction), retried)
    }

    /** False when there is none of this id. One whose record is damaged can be purged as well. */
    const purgeInto = (transaction: Transaction, id: string): boolean => {
      const key = id.slice(2)
      if (id.startsWith("m-")) return deadLetters.unsafePurge(transaction, key)
      return id.startsWith("r-") && outbox.unsafePurge(transaction, key)
    }

    const list = () => [
      ...deadLetters.unsafeList().map(([key, letter]) => ofMessage(key, letter)),
      ...outbox.unsafeDead().map(([key, dead]) => ofReport(key, dead))
    ]

    return {
      unsafeList: () => list().sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0)),

      show: (id) => withDead(id, (found) => Effect.succeed(whole(found))),

      // What is decided is waited for, also when whoever asked goes away.
      retry: (id) =>
        canCommit.pipe(
          Effect.zipRight(
            withDead(id, (found) =>
              found.kind === "message"
                ? retryMessage(id, found.key, found.letter)
                : retryReport(id, found.key, found.dead)
            )
          ),
          Effect.uninterruptible
        ),

      purge: (id) =>
        canCommit.pipe(
          Effect.zipRight(
            Effect.suspend((): Effect.Effect<void, DeadLetterUnknown | StoreUnavailable> => {
              const transaction = new Transaction()
              return purgeInto(transaction, id) ? store.unsafeCommitWithin(transaction) : unknown(id)
            })
          ),
          Effect.uninterruptible
        ),

      purgeAll: Effect.uninterruptible(
        Effect.zipRight(
          canCommit,
          Effect.suspend(() => {
            const transaction = new Transaction()
            const all = list()
            for (const { id } of all) purgeInto(transaction, id)
            return Effect.as(store.unsafeCommitWithin(transaction), all.length)
          })
        )
      )
    }
  })
)
