import type { ServerResponse } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readBody } from "../../../src/layers/ipc/body.js"
import { Room } from "../../../src/layers/ipc/Room.js"
import { bareServer } from "../../kit/bareServer.js"
import { eventually } from "../../kit/broker.js"

const size = 100_000
/** What each connection has for itself. */
const own = 16 * 1024
const limits = { bodyBytes: 1024 * 1024, jsonDepth: 64 }
const post = `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n${"x".repeat(size)}`

/** A server that reads bodies and answers none; its room, and what it has read. */
const reading = (bytes: number) =>
  Effect.gen(function* () {
    const room = new Room(bytes, own)
    const waiting: Array<ServerResponse> = []
    const refused: Array<string> = []
    const { client } = yield* bareServer(
      (request, response) =>
        void readBody(request, response, limits, room).then(
          (read) => ("_tag" in read ? refused.push(read._tag) : waiting.push(response)),
          () => undefined
        ),
      (socket) => socket.once("close", () => room.giveAll(socket))
    )
    return { room, waiting, refused, client }
  })

/** So much room is left: that much is given, and not a byte more. */
const isLeft = (room: Room, bytes: number) => {
  const socket = {} as Parameters<Room["take"]>[0]
  const isMore = room.take(socket, own + bytes + 1)
  const isThat = room.take(socket, own + bytes)
  room.giveAll(socket)
  return isThat && !isMore
}

describe("the room for bodies of requests without an answer", () => {
  const room = 1_000_000

  it.scopedLive("is taken until each has its answer", () =>
    Effect.gen(function* () {
      const server = yield* reading(room)
      const client = yield* server.client
      client.resume().write(post.repeat(2))
      yield* eventually(
        Effect.sync(() => server.waiting),
        ({ length }) => length === 2
      )
      assert.isTrue(isLeft(server.room, room + own - 2 * size))
      server.waiting[0]!.end()
      yield* eventually(
        Effect.sync(() => isLeft(server.room, room + own - size)),
        (isSo) => isSo
      )
      server.waiting[1]!.end()
      yield* eventually(
        Effect.sync(() => isLeft(server.room, room)),
        (isSo) => isSo
      )
    })
  )

  it.scopedLive("is given back when the client goes, also of requests that wait behind others of its connection", () =>
    Effect.gen(function* () {
      const server = yield* reading(room)
      const client = yield* server.client
      client.write(post.repeat(3))
      yield* eventually(
        Effect.sync(() => server.waiting),
        ({ length }) => length === 3
      )
      client.destroy()
      yield* eventually(
        Effect.sync(() => isLeft(server.room, room)),
        (isSo) => isSo
      )
      // Answers that come too late give nothing back once more.
      for (const response of server.waiting) response.end()
      yield* Effect.sleep(20)
      assert.isTrue(isLeft(server.room, room))
    })
  )

  it.scopedLive("is taken by many small bodies of one connection as by a large one", () =>
    Effect.gen(function* () {
      const server = yield* reading(100_000)
      const client = yield* server.client
      const small = `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n${"x".repeat(10_000)}`
      client.write(small.repeat(20))
      yield* eventually(
        Effect.sync(() => server.waiting.length + server.refused.length),
        (count) => count === 20
      )
      assert.strictEqual(server.waiting.length, 11)
    })
  )

  it.scopedLive("is not there for one too many, and what that one took is given back", () =>
    Effect.gen(function* () {
      const server = yield* reading(2 * size - own)
      const client = yield* server.client
      client.write(post.repeat(2))
      yield* eventually(
        Effect.sync(() => server.waiting),
        ({ length }) => length === 2
      )
      const other = yield* server.client
      other.write(post)
      yield* eventually(
        Effect.sync(() => server.refused),
        ({ length }) => length === 1
      )
      assert.deepStrictEqual(server.refused, ["broker_busy"])
      client.destroy()
      other.destroy()
      yield* eventually(
        Effect.sync(() => isLeft(server.room, 2 * size - own)),
        (isSo) => isSo
      )
    })
  )
})
