import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import type { SendResult } from "../../../src/services/ipc/StreamFrame.js"
import { Shutdown } from "../../../src/services/Shutdown.js"
import { core, type FakePlugin } from "../../kit/core.js"
import { FakeNetwork } from "../../kit/FakeNetwork.js"
import { names, quiet, session, settled } from "../../kit/steps.js"

const results = ({ socket }: FakePlugin) =>
  socket.frames.filter((frame): frame is SendResult => frame.event === "send_result")
const sendFrame = (endpoint_id: string, request_id: string, rest: object = {}) =>
  JSON.stringify({ event: "send", request_id, endpoint_id, to: "mstp://peer", content: request_id, ...rest })

describe("stream_send_v1", () => {
  it.scoped("messages reach the network in the order of their frames; every send is answered under its id", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const ids = names("r", 300)
      for (const id of ids) plugin.say(sendFrame(plugin.endpointId, id))
      yield* settled
      assert.deepStrictEqual(
        network.sent.map(({ content }) => content),
        ids
      )
      assert.sameMembers(
        results(plugin).map(({ request_id }) => request_id),
        [...ids]
      )
      for (const { body, status } of results(plugin)) {
        assert.strictEqual(status, 200)
        assert.hasAllKeys(body, ["messageId", "status"])
      }
    }).pipe(Effect.provide(core({ network, settings: quiet })))
  })

  it.scoped("a channel with too many unanswered sends is not read until one is answered and has left", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const answered = yield* Deferred.make<void>()
      network.answer = ({ messageId }) => Effect.as(Deferred.await(answered), { messageId, status: "stored" })
      for (const id of ["a", "b"]) plugin.say(sendFrame(plugin.endpointId, id))
      yield* settled
      assert.isFalse(plugin.socket.isPaused)
      plugin.say(sendFrame(plugin.endpointId, "c"))
      yield* settled
      assert.isTrue(plugin.socket.isPaused)
      plugin.socket.stopReading()
      yield* Deferred.succeed(answered, undefined)
      yield* settled
      assert.lengthOf(results(plugin), 3)
      assert.isTrue(plugin.socket.isPaused, "the answers have not left")
      plugin.socket.readOn()
      assert.isFalse(plugin.socket.isPaused)
    }).pipe(Effect.provide(core({ network, settings: { ...quiet, streamSends: 3 } })))
  })

  it.scoped("a channel with sends of too many bytes is not read until enough of them are answered", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const answers = new Map<string, Deferred.Deferred<void>>()
      network.answer = ({ content, messageId }) =>
        Effect.as(Deferred.await(answers.get(content[0]!)!), { messageId, status: "stored" })
      for (const id of ["a", "b", "c"]) answers.set(id, yield* Deferred.make<void>())
      const say = (id: string, length: number) => {
        plugin.say(sendFrame(plugin.endpointId, id, { content: id + "é".repeat(length) }))
        return settled
      }
      yield* say("a", 200)
      assert.isFalse(plugin.socket.isPaused)
      yield* say("b", 2_000)
      assert.isTrue(plugin.socket.isPaused, "one may be larger, and nothing is read behind it")
      // What had been read with it is taken.
      yield* say("c", 200)
      yield* Deferred.succeed(answers.get("a")!, undefined)
      yield* settled
      assert.isTrue(plugin.socket.isPaused)
      yield* Deferred.succeed(answers.get("b")!, undefined)
      yield* settled
      assert.isFalse(plugin.socket.isPaused)
      yield* Deferred.succeed(answers.get("c")!, undefined)
      yield* settled
      assert.isFalse(plugin.socket.isPaused)
      assert.lengthOf(results(plugin), 3)
    }).pipe(Effect.provide(core({ network, settings: { ...quiet, streamSendBytes: 2_000 } })))
  })

  it.scoped("what is wrong with a send is its answer, also where it names no request", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const deep = `${'{"a":'.repeat(80)}1${"}".repeat(80)}`
      const say = (text: string) =>
        Effect.gen(function* () {
          plugin.say(text)
          yield* settled
          const { body, request_id, status } = results(plugin).at(-1)!
          return [request_id, status, (body as { readonly error: string }).error]
        })
      const { endpointId } = plugin
      assert.deepStrictEqual(yield* say(sendFrame("nobody", "1")), ["1", 404, "unknown_endpoint"])
      assert.deepStrictEqual(yield* say(sendFrame(endpointId, "2", { to: 7 })), ["2", 400, "bad_request"])
      assert.deepStrictEqual(yield* say(sendFrame(endpointId, "3", { metadata: JSON.parse(deep) })), [
        "3",
        400,
        "bad_request"
      ])
      assert.deepStrictEqual(yield* say('{"event":"send"}'), [null, 400, "bad_request"])
      assert.deepStrictEqual(yield* say(sendFrame(endpointId, "x".repeat(129))), [null, 400, "bad_request"])
      yield* (yield* Shutdown).request("operator")
      assert.deepStrictEqual(yield* say(sendFrame(endpointId, "4")), ["4", 503, "broker_draining"])
      assert.deepStrictEqual(network.sent, [])
    }).pipe(Effect.provide(core({ network, settings: quiet })))
  })
})
