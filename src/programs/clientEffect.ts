/** The client SDK as a service: the same promises as effects, its messages as a stream, its errors tagged. */
import { Context, Data, Effect, Layer, Option, type Scope, Stream } from "effect"
import {
  BrokerClient,
  BrokerClientError,
  type ConnectionState,
  type ConnectOptions,
  type Delivery,
  type DiscoverOptions,
  type Initialized,
  type KnownBroker,
  type ListUndispatchedOptions,
  type Metadata,
  type NetworkPresence,
  type ReceivedMessage,
  type RegisterArguments,
  type Registered,
  type SendOptions,
  type SendResult,
  type UndispatchedList
} from "./client.js"

/** What the client refused or the broker said. `code` is that of the cause, an error of `runtime-broker/client`. */
export class PluginClientError extends Data.TaggedError("PluginClientError")<{
  readonly code: string
  readonly message: string
  readonly retryable: boolean
  readonly cause: BrokerClientError
}> {}

/** A message, and how to answer for it. The first answer counts; asking the stream for the next message acknowledges. */
export interface Incoming {
  readonly message: ReceivedMessage
  readonly acknowledge: Effect.Effect<void>
  /** The broker pushes it again after a while. */
  readonly refuse: (reason?: string) => Effect.Effect<void>
}

export interface Send {
  readonly endpointId: string
  readonly to: string
  readonly content: string
  /** `text` when left out. */
  readonly contentType?: string
  readonly metadata?: Metadata
}

/** Sessions of this process at a broker, as `BrokerClient` keeps them: connected for as long as the layer lives. */
export class PluginClient extends Context.Tag("runtime-broker/client/PluginClient")<
  PluginClient,
  {
    readonly register: (args: RegisterArguments) => Effect.Effect<Registered, PluginClientError>
    readonly send: (
      message: Send,
      options?: Omit<SendOptions, "signal">
    ) => Effect.Effect<SendResult, PluginClientError>
    readonly undispatched: (
      page?: Omit<ListUndispatchedOptions, "signal">
    ) => Effect.Effect<UndispatchedList, PluginClientError>
    readonly dispatch: (undispatchedId: string, endpointId: string) => Effect.Effect<void, PluginClientError>
    readonly setTaskHint: (endpointId: string, hint: string) => Effect.Effect<void, PluginClientError>
    readonly unregister: (endpointId: string) => Effect.Effect<void, PluginClientError>
    /**
     * The messages, one at a time and in order. A message is acknowledged when the next one is asked for; a stream that ends
     * early puts the one it holds back. One reader of `messages` or `handle` at a time; a second one dies.
     */
    readonly messages: Stream.Stream<Incoming>
    /** Handles messages one after the other, for ever: acknowledged on success, refused with the error on failure. */
    readonly handle: <E, R>(
      handler: (message: ReceivedMessage) => Effect.Effect<void, E, R>
    ) => Effect.Effect<never, never, R>
    readonly connectionState: Effect.Effect<ConnectionState>
    readonly networkPresence: Effect.Effect<NetworkPresence | undefined>
    readonly initialized: Initialized
  }
>() {}

/** Where the broker is: one to be discovered, or a known one. */
export type Where = DiscoverOptions | KnownBroker

/** Discovers the broker and connects. What it registered waits for its grace period when the layer ends. */
export const layer = (
  where: Where,
  options: Omit<ConnectOptions, "onMessage"> = {}
): Layer.Layer<PluginClient, PluginClientError> => Layer.scoped(PluginClient, make(where, options))

const make = (
  where: Where,
  options: ConnectOptions
): Effect.Effect<Context.Tag.Service<typeof PluginClient>, PluginClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const client =
      "ipcUrl" in where
        ? BrokerClient.at(where)
        : yield* attempt((signal) => BrokerClient.discover({ ...where, signal }))
    yield* Effect.addFinalizer(() => Effect.promise(() => client.close()))
    const initialized = yield* attempt((signal) => client.connect({ ...options, signal }))

    const messages = Stream.acquireRelease(
      Effect.sync(() => {
        const stop = new AbortController()
        return { stop, loop: client.messages({ signal: stop.signal }) }
      }),
      ({ loop, stop }) =>
        Effect.promise(() => {
          // It may be waiting for a message.
          stop.abort()
          return loop.return()
        })
    ).pipe(
      Stream.flatMap(({ loop }) =>
        Stream.repeatEffectOption(
          Effect.flatMap(
            Effect.promise(() => loop.next()),
            (next) => (next.done === true ? Effect.fail(Option.none()) : Effect.succeed(incoming(next.value)))
          )
        )
      )
    )
    return {
      register: (args) => attempt((signal) => client.registerEndpoint(args, { signal })),
      send: ({ content, contentType, endpointId, metadata, to }, sendOptions) =>
        attempt((signal) => client.send(endpointId, to, content, contentType, metadata, { ...sendOptions, signal })),
      undispatched: (page) => attempt((signal) => client.listUndispatched({ ...page, signal })),
      dispatch: (undispatchedId, endpointId) =>
        Effect.asVoid(attempt((signal) => client.dispatch(undispatchedId, endpointId, { signal }))),
      setTaskHint: (endpointId, hint) =>
        Effect.asVoid(attempt((signal) => client.setTaskHint(endpointId, hint, { signal }))),
      unregister: (endpointId) => attempt((signal) => client.unregisterEndpoint(endpointId, { signal })),
      messages,
      handle: (handler) =>
        messages.pipe(
          Stream.runForEach(({ acknowledge, message, refuse }) =>
            Effect.matchEffect(handler(message), {
              onSuccess: () => acknowledge,
              onFailure: (error) => refuse(error instanceof Error ? error.message : String(error))
            })
          ),
          // The messages end with the client.
          Effect.zipRight(Effect.never)
        ),
      connectionState: Effect.sync(() => client.connectionState),
      networkPresence: Effect.sync(() => client.networkPresence),
      initialized
    }
  })

const incoming = ({ acknowledge, refuse, ...message }: Delivery): Incoming => ({
  message,
  acknowledge: Effect.sync(acknowledge),
  refuse: (reason) => Effect.sync(() => refuse(reason))
})

/** Errors of the client fail, all others are defects. */
const attempt = <A>(call: (signal: AbortSignal) => Promise<A>): Effect.Effect<A, PluginClientError> =>
  Effect.tryPromise({ try: call, catch: (error) => error }).pipe(
    Effect.catchAll((error) =>
      error instanceof BrokerClientError
        ? new PluginClientError({ code: error.code, message: error.message, retryable: error.retryable, cause: error })
        : Effect.die(error)
    )
  )
