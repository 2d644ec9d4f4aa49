import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Exit, Fiber, Stream } from "effect"
import { layer, PluginClient } from "../../../src/programs/clientEffect.js"
import { eventually } from "../../kit/broker.js"
import { FakeBroker, push } from "../../kit/FakeBroker.js"
import { quick } from "../../kit/sdk.js"

const fake = Effect.promise(() => FakeBroker.start())
const receipts = (broker: FakeBroker) => broker.stream.frames.map(({ event, push_id }) => `${event} ${push_id}`)
const untilReceipts = (broker: FakeBroker, count: number) =>
  eventually(
    Effect.sync(() => receipts(broker)),
    (sent) => sent.length === count
  )

describe("the client as a service", () => {
  it.live("is connected while its layer lives, and says goodbye with it", () =>
    Effect.gen(function* () {
      const broker = yield* fake
      yield* Effect.gen(function* () {
        const client = yield* PluginClient
        assert.strictEqual(client.initialized.session_id, "session of the fake")
        assert.strictEqual((yield* client.connectionState).phase, "connected")
        const { endpoint_id } = yield* client.register({ kind: "test" })
        const sent = yield* client.send({ endpointId: endpoint_id, to: "to", content: "text" }, { store: true })
        assert.deepStrictEqual(sent, { messageId: "sent text", status: "delivered" })
        assert.deepStrictEqual(yield* client.undispatched(), { items: [] })
        yield* client.setTaskHint(endpoint_id, "busy")
        yield* client.dispatch("message", endpoint_id)
        yield* client.unregister(endpoint_id)
      }).pipe(Effect.provide(layer(broker.place, quick)))
      assert.deepStrictEqual(broker.stream.closed(), { code: 1000, reason: "client_close" })
    })
  )

  it.live("fails with tagged errors that hold code and cause", () =>
    Effect.gen(function* () {
      const broker = yield* fake
      broker.replies = ({ path }) =>
        path === "/v1/dispatch"
          ? { status: 400, body: { error: "dispatch_failed", message: "No such message." } }
          : undefined
      const error = yield* Effect.flatMap(PluginClient, (client) => Effect.flip(client.dispatch("m", "e"))).pipe(
        Effect.provide(layer(broker.place, quick))
      )
      assert.deepInclude({ ...error }, { _tag: "PluginClientError", code: "dispatch_failed", retryable: false })
      const { place } = broker
      yield* Effect.promise(() => broker.stop())
      const refused = yield* Effect.flip(Effect.provide(PluginClient, layer(place, quick)))
      assert.strictEqual(refused.code, "broker_unreachable")
    })
  )

  it.live(
    "gives its messages as a stream: acknowledged when the next is asked for, put back when the stream ends",
    () =>
      Effect.gen(function* () {
        const broker = yield* fake
        yield* Effect.gen(function* () {
          const client = yield* PluginClient
          for (const n of [1, 2, 3]) broker.stream.send(push(n))
          const first = yield* Stream.runCollect(Stream.take(client.messages, 2))
          assert.deepStrictEqual(
            Chunk.toReadonlyArray(first).map(({ message }) => message.content),
            ["message 1", "message 2"]
          )
          yield* untilReceipts(broker, 1)
          yield* client.messages.pipe(
            Stream.take(2),
            Stream.runForEach(({ acknowledge, message, refuse }) =>
              message.content === "message 2" ? refuse("not now") : acknowledge
            )
          )
          yield* untilReceipts(broker, 3)
          assert.deepStrictEqual(receipts(broker), ["push_ack push 1", "push_nack push 2", "push_ack push 3"])
        }).pipe(Effect.provide(layer(broker.place, quick)))
      })
  )

  it.live("handles messages until it is interrupted, waiting or not, and refuses what the handler fails with", () =>
    Effect.gen(function* () {
      const broker = yield* fake
      yield* Effect.gen(function* () {
        const client = yield* PluginClient
        const handling = yield* Effect.fork(
          client.handle(({ content }) =>
            content === "message 1" ? Effect.fail(new Error("the disk is full")) : Effect.void
          )
        )
        for (const n of [1, 2]) broker.stream.send(push(n))
        yield* untilReceipts(broker, 2)
        assert.deepStrictEqual(broker.stream.frames[0], {
          event: "push_nack",
          push_id: "push 1",
          reason: "the disk is full"
        })
        assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(handling)))
        // Its place is free again.
        broker.stream.send(push(3))
        yield* Stream.runDrain(
          Stream.take(
            Stream.mapEffect(client.messages, ({ acknowledge }) => acknowledge),
            1
          )
        )
        yield* untilReceipts(broker, 3)
      }).pipe(Effect.provide(layer(broker.place, quick)))
    })
  )
})
