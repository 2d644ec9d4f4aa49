/** A gateway connector within a test: on a fake gateway, with a store and a log the test can look at. */
import { Effect, Layer, Redacted, type Scope } from "effect"
import * as ConnectorGateway from "../../src/layers/ConnectorGateway.js"
import * as ShutdownDefault from "../../src/layers/ShutdownDefault.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Connector, type InboundItem, type OutboundMessage } from "../../src/services/Connector.js"
import { Credentials } from "../../src/services/Credentials.js"
import { Shutdown } from "../../src/services/Shutdown.js"
import { FakeGateway, until } from "./FakeGateway.js"
import { FakeStore } from "./FakeStore.js"
import { configWith, KeptLog } from "./ground.js"

export interface GatewayOptions {
  readonly settings?: Partial<Settings>
  readonly store?: FakeStore
  readonly log?: KeptLog
}

/** Waits are short where a test does not hold the clock. */
export const brisk: Partial<Settings> = { backoffMs: 5, backoffMaxMs: 20, alreadyConnectedMs: 5, cursorMs: 1 }

export const connectorOn = (
  url: string,
  { log = new KeptLog(), settings, store = new FakeStore() }: GatewayOptions = {}
): Layer.Layer<Connector | Shutdown> =>
  Layer.suspend(() =>
    ConnectorGateway.layer.pipe(
      Layer.provideMerge(ShutdownDefault.layer),
      Layer.provide(store.layer),
      Layer.provide(
        Layer.mergeAll(
          configWith(settings),
          log.layer,
          Layer.succeed(Credentials, {
            accountId: "default",
            runtimeToken: Redacted.make("rk_live_x"),
            connectorUrl: url,
            apiOrigin: "https://api.example"
          })
        )
      )
    )
  )

/** What a broker does with a connector. */
export interface Driven {
  readonly connector: Connector["Type"]
  readonly shutdown: Shutdown["Type"]
  /** Everything handed over so far, and its contents. */
  readonly items: Array<InboundItem>
  readonly contents: ReadonlyArray<string>
  /** How many were handed over together. */
  readonly batches: Array<number>
  readonly receive: Effect.Effect<void, never, Scope.Scope>
  /** Those of the items with these contents, the latest of each, are accepted; all without any. */
  readonly accept: (...contents: ReadonlyArray<string>) => void
  readonly release: (...contents: ReadonlyArray<string>) => void
  readonly send: (content: string, given?: Partial<OutboundMessage>) => ReturnType<Connector["Type"]["send"]>
  readonly isUp: Effect.Effect<void>
  /** So many were handed over, by the real clock. */
  readonly got: (count: number) => Effect.Effect<void>
}

export const driven: Effect.Effect<Driven, never, Connector | Shutdown> = Effect.gen(function* () {
  const connector = yield* Connector
  const shutdown = yield* Shutdown
  const items: Array<InboundItem> = []
  const batches: Array<number> = []
  const tokensOf = (contents: ReadonlyArray<string>) =>
    contents.length === 0
      ? items.map(({ token }) => token)
      : contents.map((content) => items.findLast((item) => item.content === content)?.token)
  return {
    connector,
    shutdown,
    items,
    get contents() {
      return items.map(({ content }) => content)
    },
    batches,
    receive: connector.receive((batch) => {
      batches.push(batch.length)
      items.push(...batch)
    }),
    accept: (...contents) => connector.unsafeAccept(tokensOf(contents)),
    release: (...contents) => connector.unsafeRelease(tokensOf(contents)),
    send: (content, given = {}) =>
      connector.send({
        messageId: content,
        to: "mstp://acme.example/bob",
        content,
        contentType: "text",
        metadata: {},
        agent: undefined,
        requireLive: false,
        ...given
      }),
    isUp: until("the link is up", () => connector.unsafeLink().state === "up"),
    got: (count) => until(`${count} messages came`, () => items.length >= count)
  }
})

/** A fake gateway, and `use` with a connector on it that receives and is registered. */
export const onGateway = <A, E>(
  use: (driven: Driven, gateway: FakeGateway) => Effect.Effect<A, E, Scope.Scope>,
  options: GatewayOptions & { readonly before?: (gateway: FakeGateway) => void } = {}
): Effect.Effect<A, E, Scope.Scope> =>
  Effect.gen(function* () {
    const gateway = yield* FakeGateway.make
    options.before?.(gateway)
    return yield* withConnector(gateway, (one) => use(one, gateway), options)
  })

/** `use` with one connector on this gateway, from its start to its end. */
export const withConnector = <A, E>(
  gateway: FakeGateway,
  use: (driven: Driven) => Effect.Effect<A, E, Scope.Scope>,
  options: GatewayOptions = {}
): Effect.Effect<A, E> =>
  Effect.gen(function* () {
    const one = yield* driven
    yield* one.receive
    yield* one.isUp
    return yield* use(one)
  }).pipe(Effect.scoped, Effect.provide(connectorOn(gateway.url, options)))

/** A frame with a message; the content doubles as the id. */
export const message = (content: string, given: object = {}) => ({
  event: "MESSAGE_RECEIVED",
  messageId: content,
  from: "mstp://acme.example/bob",
  content,
  ...given
})
/** One with a number and a content made of it. */
export const numbered = (seq: number, given: object = {}) => message(`m${seq}`, { seq, ...given })

/** The cursors in the store. */
export const cursorOf = (store: FakeStore) => store.recordsOf<{ sequence: number }>("gateway_cursor")
/** The ids of delivered messages in the store. */
export const idsOf = (store: FakeStore) => store.recordsOf<ReadonlyArray<string>>("gateway_delivered").flat()

/** Done when everything the gateway said before was heard, and what the connector answered, too. */
export const heard = (gateway: FakeGateway, send: Driven["send"]): Effect.Effect<void> =>
  Effect.asVoid(Effect.orDie(send(`ping ${gateway.heard.length}`)))
