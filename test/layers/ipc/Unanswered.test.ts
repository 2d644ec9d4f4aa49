import type { ServerResponse } from "node:http"
import type { Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Unanswered } from "../../../src/layers/ipc/Unanswered.js"
import { bareServer } from "../../kit/bareServer.js"
import { eventually } from "../../kit/broker.js"

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

/** A server that answers when it is told to; `isTaken` of each request, in the order of their coming. */
const serving = (limit: number) =>
  Effect.gen(function* () {
    const unanswered = new Unanswered(limit)
    const taken: Array<boolean> = []
    const answers: Array<ServerResponse> = []
    const sockets: Array<Socket> = []
    const { client: connected } = yield* bareServer(
      (request, response) => {
        taken.push(unanswered.begin(request, response))
        answers.push(response)
      },
      (socket) => {
        sockets.push(socket)
        socket.once("close", () => unanswered.ended(socket))
      }
    )
    const ask = (count: number) =>
      Effect.gen(function* () {
        const before = taken.length
        const client = yield* connected
        client.resume().write(get.repeat(count))
        yield* eventually(
          Effect.sync(() => taken.length),
          (length) => length === before + count
        )
        return { client, taken: taken.slice(before), answers: answers.slice(before) }
      })
    return { unanswered, ask, sockets }
  })

describe("requests without an answer", () => {
  it.scopedLive("are so many, and one of each connection", () =>
    Effect.gen(function* () {
      const { ask } = yield* serving(2)
      /** Asks so often on a connection of its own: was the last one taken? */
      const lastTakenOf = (count: number) => Effect.scoped(Effect.map(ask(count), ({ taken }) => taken.at(-1) === true))
      const one = yield* ask(4)
      assert.deepStrictEqual(one.taken, [true, true, true, false])
      assert.deepStrictEqual((yield* ask(2)).taken, [true, false])
      one.answers[0]!.end()
      yield* eventually(lastTakenOf(2), (isTaken) => isTaken)
      one.client.destroy()
      yield* eventually(lastTakenOf(3), (isTaken) => isTaken)
    })
  )

  it.scopedLive("of a connection are over when the last answer is written, not when it is ended", () =>
    Effect.gen(function* () {
      const { ask, sockets, unanswered } = yield* serving(10)
      const { answers } = yield* ask(2)
      const socket = sockets[0]!
      let calls = 0
      answers[1]!.end()
      unanswered.whenOver(socket, () => calls++)
      assert.strictEqual(unanswered.of(socket), answers[1])
      answers[0]!.end()
      assert.strictEqual(calls, 0)
      yield* eventually(
        Effect.sync(() => calls),
        (count) => count === 1
      )
      assert.isUndefined(unanswered.of(socket))
      unanswered.whenOver(socket, () => calls++)
      assert.strictEqual(calls, 2)
    })
  )
})
