/** What every Connector owes the broker, shown on the real thing: the live clock, and a fresh layer per case. */
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Context, Effect, type Layer, Queue, type Scope, Stream } from "effect"
import { Connector, type InboundItem, type OutboundMessage } from "../Connector.js"

/** The other side of the network, as a variant's test provides it. */
export class Outside extends Context.Tag("test/Outside")<
  Outside,
  {
    /** Somebody sends these to the broker, one after the other; done when the network has taken them all. */
    readonly deliver: (...contents: ReadonlyArray<string>) => Effect.Effect<void>
    /** Somebody takes messages here. */
    readonly reachable: string
    /** Nobody ever did here. */
    readonly unreachable: string
    /** Contents of the messages that arrived at `reachable`. */
    readonly arrived: Effect.Effect<ReadonlyArray<string>>
  }
>() {}

export interface ConnectorLives<E> {
  /** A network of its own for each run; its layer may be built several times, one after the other, as the lives of one broker. */
  readonly reopened?: Effect.Effect<Layer.Layer<Connector | Outside, E>, never, Scope.Scope>
}

interface Inbound {
  /** The next so many messages. Fails the test when they do not come. */
  readonly take: (count: number) => Effect.Effect<ReadonlyArray<InboundItem>>
  /** Those that came and were not taken. */
  readonly rest: Effect.Effect<ReadonlyArray<InboundItem>>
}

/** Receives from now on; `onBatch` sees every batch within the handler. */
const receive = (
  onBatch: (batch: ReadonlyArray<InboundItem>) => void = () => {}
): Effect.Effect<Inbound, never, Connector | Scope.Scope> =>
  Effect.gen(function* () {
    const connector = yield* Connector
    const queue = yield* Queue.unbounded<InboundItem>()
    yield* connector.receive((batch) => {
      onBatch(batch)
      for (const item of batch) queue.unsafeOffer(item)
    })
    return {
      take: (count) =>
        Queue.takeN(queue, count).pipe(
          Effect.map(Chunk.toReadonlyArray),
          Effect.timeoutFail({ duration: "5 seconds", onTimeout: () => new Error(`${count} messages did not come`) }),
          Effect.orDie
        ),
      rest: Effect.map(Queue.takeAll(queue), Chunk.toReadonlyArray)
    }
  })

const contents = (items: ReadonlyArray<InboundItem>) => items.map(({ content }) => content)
const tokens = (items: ReadonlyArray<InboundItem>) => items.map(({ token }) => token)

const outbound = (to: string, content: string, messageId = `contract-${content}`): OutboundMessage => ({
  messageId,
  to,
  content,
  contentType: "text",
  metadata: { note: "contract" },
  agent: undefined,
  requireLive: false
})

/** Give `reopened` where messages outlive the broker: without it nothing shows that they do. */
export const connectorContract = <E>(
  name: string,
  layer: Layer.Layer<Connector | Outside, E>,
  { reopened }: ConnectorLives<E> = {}
) => {
  describe(`${name} as a Connector`, () => {
    it.scopedLive("messages that came before there was a handler wait for it, in order", () =>
      Effect.gen(function* () {
        yield* (yield* Outside).deliver("a", "b", "c")
        const inbound = yield* receive()
        assert.deepStrictEqual(contents(yield* inbound.take(3)), ["a", "b", "c"])
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("messages come in arrival order, each named by a token of its own", () =>
      Effect.gen(function* () {
        const { abilities } = yield* Connector
        const outside = yield* Outside
        const inbound = yield* receive()
        const sent = Array.from({ length: 50 }, (_, index) => `m${index}`)
        yield* outside.deliver(...sent)
        const items = yield* inbound.take(sent.length)
        assert.deepStrictEqual(contents(items), sent)
        assert.strictEqual(new Set(tokens(items)).size, sent.length)
        for (const { bytes, contentType, from, redeliverable } of items) {
          assert.isAbove(bytes, 0)
          assert.isNotEmpty(from)
          assert.strictEqual(contentType, "text")
          assert.strictEqual(redeliverable, abilities.redelivers)
        }
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("what comes while nobody receives waits for the next handler", () =>
      Effect.gen(function* () {
        const connector = yield* Connector
        const outside = yield* Outside
        yield* Effect.scoped(
          Effect.gen(function* () {
            const first = yield* receive()
            yield* outside.deliver("a")
            connector.unsafeAccept(tokens(yield* first.take(1)))
          })
        )
        yield* outside.deliver("b", "c")
        const second = yield* receive()
        assert.deepStrictEqual(contents(yield* second.take(2)), ["b", "c"])
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("a message may be accepted in any order, more than once, and within the handler", () =>
      Effect.gen(function* () {
        const connector = yield* Connector
        const outside = yield* Outside
        const inbound = yield* receive((batch) => {
          connector.unsafeAccept(batch.filter(({ content }) => content === "at once").map(({ token }) => token))
        })
        yield* outside.deliver("a", "b", "c", "at once")
        const [a, b, c, atOnce] = tokens(yield* inbound.take(4))
        connector.unsafeAccept([c, a])
        connector.unsafeAccept([b, a, atOnce])
        connector.unsafeAccept([c, b, a])
        connector.unsafeRelease([a, b, c, atOnce])
        connector.unsafeRedeliver()
        yield* outside.deliver("last")
        assert.deepStrictEqual(contents(yield* inbound.take(1)), ["last"], "nothing accepted comes again")
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("what was released and not accepted comes again when asked for, in its order, and nothing else", () =>
      Effect.gen(function* () {
        const connector = yield* Connector
        const outside = yield* Outside
        if (!connector.abilities.redelivers) return
        const inbound = yield* receive()
        yield* outside.deliver("a", "b", "c", "d", "e")
        const [a, b, , d, e] = tokens(yield* inbound.take(5))
        connector.unsafeAccept([b])
        connector.unsafeRelease([e, a])
        connector.unsafeRelease([d, a])
        connector.unsafeAccept([d])
        yield* outside.deliver("f")
        assert.deepStrictEqual(contents(yield* inbound.take(1)), ["f"], "nothing comes again before it is asked for")
        connector.unsafeRedeliver()
        const again = yield* inbound.take(2)
        assert.deepStrictEqual(contents(again), ["a", "e"])
        connector.unsafeRedeliver()
        yield* outside.deliver("g")
        assert.deepStrictEqual(contents(yield* inbound.take(1)), ["g"], "it comes again once")
        connector.unsafeRelease(tokens(again))
        connector.unsafeRedeliver()
        const third = yield* inbound.take(2)
        assert.deepStrictEqual(contents(third), ["a", "e"], "and again after it was released again")
        connector.unsafeAccept(tokens(third))
        connector.unsafeRedeliver()
        yield* outside.deliver("last")
        assert.deepStrictEqual(contents(yield* inbound.take(1)), ["last"])
        assert.deepStrictEqual(yield* inbound.rest, [])
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("a send is answered under the id it was given", () =>
      Effect.gen(function* () {
        const connector = yield* Connector
        const { arrived, reachable } = yield* Outside
        const receipt = yield* connector.send(outbound(reachable, "hello"))
        assert.strictEqual(receipt.messageId, "contract-hello")
        assert.oneOf(receipt.status, ["delivered", "stored"])
        assert.deepStrictEqual(yield* arrived, ["hello"])
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("a send to nobody is rejected with the network's code and arrives nowhere", () =>
      Effect.gen(function* () {
        const connector = yield* Connector
        const { arrived, unreachable } = yield* Outside
        const error = yield* Effect.flip(connector.send(outbound(unreachable, "hello")))
        assert.strictEqual(error._tag, "SendRejected")
        if (error._tag === "SendRejected") assert.isNotEmpty(error.code)
        assert.deepStrictEqual(yield* arrived, [])
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("the same id twice is answered twice, and arrives once where sends are deduplicated", () =>
      Effect.gen(function* () {
        const connector = yield* Connector
        const { arrived, reachable } = yield* Outside
        const first = yield* connector.send(outbound(reachable, "once", "same id"))
        const second = yield* connector.send(outbound(reachable, "once", "same id"))
        assert.deepStrictEqual([first.messageId, second.messageId], ["same id", "same id"])
        yield* connector.send(outbound(reachable, "other", "other id"))
        const all = yield* arrived
        assert.deepStrictEqual([all[0], all.at(-1)], ["once", "other"])
        if (connector.abilities.dedupesSends) assert.lengthOf(all, 2)
      }).pipe(Effect.provide(layer))
    )

    it.scopedLive("it has a name, says what it can, and tells its link at once", () =>
      Effect.gen(function* () {
        const connector = yield* Connector
        assert.isNotEmpty(connector.name)
        assert.oneOf(connector.abilities.accept, ["cumulative", "individual", "none"])
        assert.isAbove(connector.abilities.maxFrameBytes, 0)
        const [link] = yield* Effect.map(connector.links.pipe(Stream.take(1), Stream.runCollect), Chunk.toReadonlyArray)
        assert.deepStrictEqual(link, connector.unsafeLink())
        assert.strictEqual(link!.state, "up")
        assert.isUndefined(link!.reason)
      }).pipe(Effect.provide(layer))
    )
  })

  if (reopened === undefined) return
  describe(`${name}: in the next life of the broker`, () => {
    it.scopedLive("what was not accepted comes again, in its order, before what is new; nothing else does", () =>
      Effect.gen(function* () {
        const network = yield* reopened
        const life = <A>(run: Effect.Effect<A, never, Connector | Outside | Scope.Scope>) =>
          Effect.scoped(Effect.provide(run, network))
        yield* life(
          Effect.gen(function* () {
            const connector = yield* Connector
            const inbound = yield* receive()
            yield* (yield* Outside).deliver("a", "b", "c", "d")
            const [a, b, , d] = tokens(yield* inbound.take(4))
            connector.unsafeAccept([a, b])
            connector.unsafeRelease([d])
          })
        )
        yield* life(
          Effect.gen(function* () {
            const connector = yield* Connector
            const inbound = yield* receive()
            const again = yield* inbound.take(2)
            assert.deepStrictEqual(contents(again), ["c", "d"])
            yield* (yield* Outside).deliver("e")
            const fresh = yield* inbound.take(1)
            assert.deepStrictEqual(contents(fresh), ["e"])
            connector.unsafeAccept(tokens([...again, ...fresh]))
          })
        )
        yield* life(
          Effect.gen(function* () {
            const inbound = yield* receive()
            yield* (yield* Outside).deliver("last")
            assert.deepStrictEqual(contents(yield* inbound.take(1)), ["last"])
          })
        )
      })
    )
  })
}
