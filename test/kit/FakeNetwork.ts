/** A network the test holds in its hands: what it delivers, what the broker accepted of it, how it answers sends. */
import { Effect, Stream, SubscriptionRef } from "effect"
import type {
  Connector,
  ConnectorAbilities,
  InboundItem,
  Link,
  OutboundMessage,
  SendError,
  SendReceipt
} from "../../src/services/Connector.js"

export type Given = Partial<Omit<InboundItem, "token">> & { readonly content: string }

export class FakeNetwork {
  readonly link = Effect.runSync(SubscriptionRef.make<Link>({ state: "up", since: 0 }))
  private current: Link = { state: "up", since: 0 }
  abilities: ConnectorAbilities = {
    accept: "cumulative",
    redelivers: true,
    dedupesSends: false,
    maxFrameBytes: 16 * 1024 * 1024
  }
  /** Ids in the order the broker accepted them. */
  readonly accepted: Array<string> = []
  readonly sent: Array<OutboundMessage> = []
  /** How the next sends are answered. */
  answer: (message: OutboundMessage) => Effect.Effect<SendReceipt, SendError> = ({ messageId }) =>
    Effect.succeed({ messageId, status: "delivered" })
  redeliveries = 0
  private readonly released = new Map<string, InboundItem>()
  private readonly unaccepted = new Map<string, InboundItem>()
  private handler: ((batch: ReadonlyArray<InboundItem>) => void) | undefined

  /** Delivers messages in one batch; the content doubles as the id. */
  deliver(...messages: ReadonlyArray<Given>): void {
    this.pass(
      messages.map((given) => {
        const messageId = given.messageId ?? given.content
        const item: InboundItem = {
          messageId,
          from: "mstp://peer",
          contentType: "text",
          metadata: {},
          bytes: 100,
          redeliverable: true,
          ...given,
          token: messageId
        }
        this.unaccepted.set(messageId, item)
        return item
      })
    )
  }

  private pass(items: ReadonlyArray<InboundItem>): void {
    if (this.handler === undefined) throw new Error("nobody receives")
    this.handler(items)
  }

  get releasedIds(): ReadonlyArray<string> {
    return [...this.released.keys()]
  }

  /** Delivered and neither accepted nor released: in flight. */
  get openIds(): ReadonlyArray<string> {
    return [...this.unaccepted.keys()].filter((id) => !this.released.has(id))
  }

  setLink(link: Link): Effect.Effect<void> {
    this.current = link
    return SubscriptionRef.set(this.link, link)
  }

  readonly connector: Connector["Type"] = (() => {
    const network = this
    return {
      name: "fake",
      get abilities() {
        return network.abilities
      },
      receive: (handler) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            network.handler = handler
          }),
          () =>
            Effect.sync(() => {
              network.handler = undefined
            })
        ),
      unsafeAccept: (tokens) => {
        for (const token of tokens as ReadonlyArray<string>) {
          network.accepted.push(token)
          network.unaccepted.delete(token)
          network.released.delete(token)
        }
      },
      unsafeRelease: (tokens) => {
        for (const token of tokens as ReadonlyArray<string>) {
          const item = network.unaccepted.get(token)
          if (item !== undefined) network.released.set(token, item)
        }
      },
      unsafeRedeliver: () => {
        network.redeliveries++
        const items = [...network.unaccepted].flatMap(([token, item]) => (network.released.has(token) ? [item] : []))
        network.released.clear()
        if (items.length > 0) network.pass(items)
      },
      send: (message) =>
        Effect.suspend(() => {
          network.sent.push(message)
          return network.answer(message)
        }),
      unsafeLink: () => network.current,
      links: Stream.suspend(() => network.link.changes)
    }
  })()
}
