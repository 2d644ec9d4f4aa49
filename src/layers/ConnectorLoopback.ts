/**
 * A network within the broker: no account, no outside. `local:<agent>` is an agent of this broker, `local:<agent>/<endpoint>` one
 * endpoint of it, parts percent-encoded; without an agent id an endpoint speaks for the account.
 *
 * A message is stored before it is acknowledged and kept until the broker has accepted it, so a crash in between loses nothing.
 */
import { Effect, Layer, Schema, Stream } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import {
  Connector,
  ConnectorUnavailable,
  type InboundItem,
  type Link,
  type OutboundMessage,
  type SendError,
  SendOutcomeUnknown,
  type SendReceipt,
  SendRejected
} from "../services/Connector.js"
import { CorrelationIndex } from "../services/CorrelationIndex.js"
import { Credentials } from "../services/Credentials.js"
import { Directory, type Endpoint } from "../services/Directory.js"
import { type Metadata, text } from "../services/model/Metadata.js"
import { plan } from "../services/model/RoutePlan.js"
import { ordered } from "../services/model/StoreKey.js"
import { Store, Transaction, table } from "../services/Store.js"
import { oldestFirst } from "./internal/oldestFirst.js"

const Undelivered = Schema.Struct({
  messageId: Schema.String,
  recipient: Schema.String,
  from: Schema.String,
  content: Schema.String,
  contentType: Schema.String,
  metadata: Schema.Record({ key: Schema.String, value: Schema.Unknown }),
  bytes: Schema.Number
})
type Undelivered = typeof Undelivered.Type
const records = table<Undelivered>("loopback", 1)

/** How many accepted messages are remembered beside all that wait, so that a repeated send delivers once. */
const remembered = 10_000

interface Item extends InboundItem {
  readonly messageId: string
  readonly token: string
  /** An endpoint, or the inbox. */
  readonly destination: string
}

const inbox = "inbox"

interface Address {
  readonly agent: string
  readonly endpointId: string | undefined
}

export const addressOf = (agent: string, endpointId?: string): string =>
  `local:${encodeURIComponent(agent)}${endpointId === undefined ? "" : `/${encodeURIComponent(endpointId)}`}`

/** Half a character has no percent-encoding. */
const isProperText = (text: string) => !/\p{Surrogate}/u.test(text)

export const parseAddress = (address: string): Address | undefined => {
  const match = /^local:([^/]+)(?:\/([^/]+))?$/.exec(address)
  if (match === null) return undefined
  try {
    return {
      agent: decodeURIComponent(match[1]!),
      endpointId: match[2] === undefined ? undefined : decodeURIComponent(match[2])
    }
  } catch {
    return undefined
  }
}

export const layer: Layer.Layer<Connector, never, Directory | CorrelationIndex | Credentials | Store | BrokerConfig> =
  Layer.effect(
    Connector,
    Effect.gen(function* () {
      const { bodyBytes, loopbackBytes, loopbackPending } = yield* BrokerConfig
      const { accountId } = yield* Credentials
      const directory = yield* Directory
      const correlations = yield* CorrelationIndex
      const store = yield* Store
      const clock = yield* Effect.clock
      const link: Link = { state: "up", since: clock.unsafeCurrentTimeMillis() }

      const undelivered = new Map<string, Item>()
      const released = new Set<string>()
      /** What senders were answered, by message id. */
      const waiting = new Map<string, SendReceipt>()
      const accepted = new Map<string, SendReceipt>()
      const oldestAccepted = oldestFirst(accepted)
      /** What waits, by where it goes: who does not take its mail is in nobody else's way. */
      const loads = new Map<string, { messages: number; bytes: number }>()
      let handler: ((batch: ReadonlyArray<InboundItem>) => void) | undefined
      let last = 0

      const itemOf = (
        key: string,
        { bytes, content, contentType, from, messageId, metadata, recipient }: Undelivered,
        destination: string
      ): Item => ({
        messageId,
        from,
        content,
        contentType,
        metadata,
        recipient,
        bytes,
        token: key,
        destination,
        redeliverable: true
      })

      const keep = (item: Item) => {
        undelivered.set(item.token, item)
        const { bytes, messages } = loads.get(item.destination) ?? { messages: 0, bytes: 0 }
        loads.set(item.destination, { messages: messages + 1, bytes: bytes + item.bytes })
      }

      const forget = ({ bytes, destination, token }: Item) => {
        undelivered.delete(token)
        released.delete(token)
        const load = loads.get(destination)!
        load.messages--
        load.bytes -= bytes
        if (load.messages === 0) loads.delete(destination)
      }

      for (const [key, record] of store.unsafeRange(records, { from: "", until: "~" })) {
        keep({ ...itemOf(key, record, text(record.metadata, "target_endpoint_id") ?? inbox), mayBeKnown: true })
        waiting.set(record.messageId, { messageId: record.messageId, status: "stored" })
        last = Number.parseInt(key, 36)
      }

      const endpointsThatSent = (correlationId: string) =>
        correlations.unsafeSenders(correlationId).flatMap((key) => directory.unsafeByKey(key) ?? [])

      /** The endpoint that gets the message, active or not; `undefined` when it goes to the inbox. */
      const receiverOf = (metadata: Metadata, agent: string): Endpoint | undefined => {
        const route = plan<Endpoint>(metadata, agent, { endpoint: directory.unsafeGet, senders: endpointsThatSent })
        return route._tag === "Endpoint" ? route.endpoint : undefined
      }

      const rejected = (code: string, reason: string) => new SendRejected({ code, reason })
      /** Its receiver may have it already; its sender must not rely on it. */
      const unwritten =
        ({ messageId }: OutboundMessage) =>
        () =>
          new SendOutcomeUnknown({ messageId, reason: "the broker cannot write it to its store" })

      const send = (message: OutboundMessage) =>
        Effect.suspend((): Effect.Effect<SendReceipt, SendError> => {
          const before = waiting.get(message.messageId) ?? accepted.get(message.messageId)
          if (before !== undefined) {
            // The first time it may not be durable yet.
            const written = new Transaction()
            written.isBarrier = true
            return store.unsafeCommitWithin(written).pipe(Effect.mapError(unwritten(message)), Effect.as(before))
          }
          const sender = message.agent ?? accountId
          if (!isProperText(sender)) {
            return rejected("address_invalid", "the sender has no address, because its agent id is no proper text")
          }
          const address = parseAddress(message.to)
          if (address === undefined) {
            return rejected(
              "address_invalid",
              `"${message.to}" is no address of the loopback network; write local:<agent> or local:<agent>/<endpoint>`
            )
          }
          const { agent, endpointId } = address
          if (agent !== accountId && !directory.unsafeKnowsAgent(agent)) {
            return rejected("recipient_unknown", `this broker knows no session of agent "${agent}"`)
          }
          const target = endpointId === undefined ? undefined : directory.unsafeGet(endpointId)
          if (target !== undefined && target.agent !== agent) {
            return rejected("recipient_unknown", `endpoint "${endpointId}" is not one of agent "${agent}"`)
          }
          const metadata =
            endpointId === undefined ? message.metadata : { ...message.metadata, target_endpoint_id: endpointId }
          const receiver = receiverOf(metadata, agent)
          const status = receiver?.state._tag === "Active" ? ("delivered" as const) : ("stored" as const)
          if (message.requireLive && status === "stored") {
            return rejected("recipient_not_live", `no active session takes messages to "${message.to}" now`)
          }
          const destination = receiver?.id ?? inbox
          const load = loads.get(destination)
          if (load !== undefined && (load.messages >= loopbackPending || load.bytes >= loopbackBytes)) {
            return new ConnectorUnavailable({
              reason: `the loopback network holds ${load.messages} undelivered messages for the same receiver and takes no more`
            })
          }

          const key = ordered(++last)
          const record: Undelivered = {
            messageId: message.messageId,
            recipient: agent,
            from: addressOf(sender),
            content: message.content,
            contentType: message.contentType,
            metadata,
            bytes: Buffer.byteLength(message.content) + JSON.stringify(metadata).length
          }
          const receipt = { messageId: message.messageId, status }
          const mayBeKnown = message.mayBeKnown === true
          const item = { ...itemOf(key, record, destination), mayBeKnown }
          keep(item)
          waiting.set(message.messageId, receipt)
          const transaction = new Transaction()
          transaction.put(records, key, record)
          // Before the handler, which may accept at once: what it deletes must be there.
          const written = store.unsafeCommitWithin(transaction)
          handler?.([item])
          return written.pipe(Effect.mapError(unwritten(message)), Effect.as(receipt))
        })

      const remember = (messageId: string) => {
        accepted.set(messageId, waiting.get(messageId)!)
        waiting.delete(messageId)
        if (accepted.size > remembered) accepted.delete(oldestAccepted())
      }

      return {
        name: "loopback",
        abilities: { accept: "individual", redelivers: true, dedupesSends: true, maxFrameBytes: bodyBytes },
        receive: (given) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              handler = given
              released.clear()
              if (undelivered.size > 0) given([...undelivered.values()])
            }),
            () =>
              Effect.sync(() => {
                handler = undefined
              })
          ),
        unsafeAccept: (tokens) => {
          const transaction = new Transaction()
          for (const token of tokens as ReadonlyArray<string>) {
            const item = undelivered.get(token)
            if (item === undefined) continue
            forget(item)
            remember(item.messageId)
            transaction.delete(records, token)
          }
          store.unsafeCommit(transaction)
        },
        unsafeRelease: (tokens) => {
          for (const token of tokens as ReadonlyArray<string>) if (undelivered.has(token)) released.add(token)
        },
        unsafeRedeliver: () => {
          const again = [...released].sort().map((token) => undelivered.get(token)!)
          released.clear()
          if (again.length > 0) handler?.(again)
        },
        send,
        unsafeLink: () => link,
        links: Stream.concat(Stream.make(link), Stream.never)
      }
    })
  )
