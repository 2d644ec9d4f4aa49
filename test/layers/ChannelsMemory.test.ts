import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import * as ChannelsMemory from "../../src/layers/ChannelsMemory.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { type Channel, type ChannelSocket, Channels } from "../../src/services/Channels.js"
import { groundWith, settle } from "../kit/core.js"
import { FakeSocket } from "../kit/FakeSocket.js"
import { pass } from "../kit/steps.js"

const layer = (settings: Partial<Settings> = {}) => ChannelsMemory.layer.pipe(Layer.provide(groundWith({ settings })))

/** Opens a channel whose end the broker hears of, as the IPC surface does. */
const open = (pid: number, socket: FakeSocket = new FakeSocket(), onWritable: (channel: Channel) => void = () => {}) =>
  Effect.map(Channels, (channels) => {
    const opened = channels.unsafeOpen(pid, new Set(["push_receipt_ack_v1"]), socket, onWritable)
    socket.onEnd = () => channels.unsafeClosed(opened.channel)
    return { ...opened, socket }
  })

/** A socket with a backlog the test sets. */
class SlowSocket implements ChannelSocket {
  readonly sent: Array<string> = []
  waiting = 0
  written: () => void = () => {}
  send(text: string, written: () => void) {
    this.sent.push(text)
    this.written = written
  }
  backlog() {
    return this.waiting
  }
  ping() {}
  pause() {}
  resume() {}
  close() {}
  terminate() {}
}

const frame = '{"event":"message_received"}'

describe("the current channel of a process", () => {
  it.scoped("is the one it opened, with what it announced", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const { channel, replaced } = yield* open(11)
      assert.strictEqual(channels.unsafeCurrent(11), channel)
      assert.strictEqual(channels.unsafeGet(channel.id), channel)
      assert.isTrue(channel.capabilities.has("push_receipt_ack_v1"))
      assert.isUndefined(replaced)
      assert.isUndefined(channels.unsafeCurrent(12))
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("is the newest: the one before is closed with 1000 replaced and takes nothing more", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const old = yield* open(11)
      const { channel, replaced } = yield* open(11)
      assert.strictEqual(replaced, old.channel)
      assert.deepStrictEqual(old.socket.closedWith, { code: 1000, reason: "replaced" })
      assert.strictEqual(channels.unsafeCurrent(11), channel)
      assert.isUndefined(channels.unsafeGet(old.channel.id))
      assert.strictEqual(channels.unsafePush(old.channel.id, frame), "closed")
      assert.strictEqual(channels.unsafeCount(), 1)
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("stays when the one it replaced reports its end late", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const old = yield* open(11)
      const { channel } = yield* open(11)
      assert.isFalse(channels.unsafeClosed(old.channel))
      assert.strictEqual(channels.unsafeCurrent(11), channel)
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("is none after it ended, and that counts once", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const { channel } = yield* open(11)
      yield* open(12)
      assert.isTrue(channels.unsafeClosed(channel))
      assert.isFalse(channels.unsafeClosed(channel))
      assert.isUndefined(channels.unsafeCurrent(11))
      assert.strictEqual(channels.unsafePush(channel.id, frame), "closed")
      assert.strictEqual(channels.unsafeCount(), 1)
    }).pipe(Effect.provide(layer()))
  )
})

describe("pushing", () => {
  it.scoped("hands frames to the socket in order", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const { channel, socket } = yield* open(11)
      for (const event of ["a", "b"])
        assert.strictEqual(channels.unsafePush(channel.id, `{"event":"${event}"}`), "pushed")
      assert.deepStrictEqual(socket.frames as ReadonlyArray<unknown>, [{ event: "a" }, { event: "b" }])
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("stops above the high mark and goes on below the low one, told once", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const socket = new SlowSocket()
      const writable: Array<Channel> = []
      const { channel } = channels.unsafeOpen(11, new Set(), socket, (one) => writable.push(one))
      const push = () => channels.unsafePush(channel.id, frame)
      socket.waiting = 1_000
      assert.strictEqual(push(), "pushed")
      assert.isTrue(channels.unsafeIsWritable(channel.id), "the mark itself is not above it")
      socket.waiting = 1_001
      assert.strictEqual(push(), "pushed")
      assert.isFalse(channels.unsafeIsWritable(channel.id))
      assert.strictEqual(push(), "congested")
      assert.strictEqual(socket.sent.length, 2)
      socket.waiting = 500
      socket.written()
      assert.deepStrictEqual(writable, [], "the low mark itself is not below it")
      assert.strictEqual(push(), "congested")
      socket.waiting = 499
      socket.written()
      socket.written()
      assert.deepStrictEqual(writable, [channel])
      assert.strictEqual(push(), "pushed")
    }).pipe(Effect.provide(layer({ congestedBytes: 1_000, uncongestedBytes: 500 })))
  )

  it.scoped("a channel that is not open is not writable, and a late write of it tells nobody", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const socket = new SlowSocket()
      const writable: Array<Channel> = []
      const { channel } = channels.unsafeOpen(11, new Set(), socket, (one) => writable.push(one))
      socket.waiting = 2_000
      channels.unsafePush(channel.id, frame)
      channels.unsafeClosed(channel)
      socket.waiting = 0
      socket.written()
      assert.deepStrictEqual(writable, [])
      assert.isFalse(channels.unsafeIsWritable(channel.id))
    }).pipe(Effect.provide(layer({ congestedBytes: 1_000, uncongestedBytes: 500 })))
  )

  it.scoped("a broadcast reaches every open channel, congested ones included", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const slow = new SlowSocket()
      const { channel } = channels.unsafeOpen(11, new Set(), slow, () => {})
      const { socket } = yield* open(12)
      const old = yield* open(13)
      const { socket: newer } = yield* open(13)
      slow.waiting = 2_000
      channels.unsafePush(channel.id, frame)
      channels.unsafeBroadcast('{"event":"presence_changed"}')
      assert.strictEqual(slow.sent.at(-1), '{"event":"presence_changed"}')
      for (const { frames } of [socket, newer]) assert.strictEqual(frames.length, 1)
      assert.deepStrictEqual(old.socket.frames, [])
    }).pipe(Effect.provide(layer({ congestedBytes: 1_000, uncongestedBytes: 500 })))
  )
})

describe("signs of life", () => {
  it.scoped("a channel is pinged every 15 s", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const { channel, socket } = yield* open(11)
      yield* pass(14_999)
      assert.strictEqual(socket.pings, 0)
      yield* pass(1)
      assert.strictEqual(socket.pings, 1)
      channels.unsafeHeard(channel)
      yield* pass(14_999)
      assert.strictEqual(socket.pings, 1)
      yield* pass(1)
      assert.strictEqual(socket.pings, 2)
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("a channel silent for 30 s is cut, not before", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const { socket } = yield* open(11)
      yield* pass(29_999)
      assert.isFalse(socket.isTerminated)
      yield* pass(1)
      assert.isTrue(socket.isTerminated)
      assert.strictEqual(channels.unsafeCount(), 0)
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("whatever is heard of the plugin starts the 30 s afresh", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const { channel, socket } = yield* open(11)
      yield* pass(20_000)
      channels.unsafeHeard(channel)
      yield* pass(29_999)
      assert.isFalse(socket.isTerminated)
      yield* pass(1)
      assert.isTrue(socket.isTerminated)
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("silence is counted per channel", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const first = yield* open(11)
      yield* pass(10_000)
      const second = yield* open(12)
      yield* pass(20_000)
      assert.isTrue(first.socket.isTerminated)
      assert.isFalse(second.socket.isTerminated)
      yield* pass(10_000)
      assert.isTrue(second.socket.isTerminated)
      assert.strictEqual(channels.unsafeCount(), 0)
    }).pipe(Effect.provide(layer()))
  )
})

describe("closing all", () => {
  it.scoped("asks every channel to close and is done when their sockets ended", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const a = yield* open(11)
      const b = yield* open(12)
      yield* channels.closeAll(1001, "leaving", 1_000)
      for (const { socket } of [a, b]) {
        assert.deepStrictEqual(socket.closedWith, { code: 1001, reason: "leaving" })
        assert.isFalse(socket.isTerminated)
      }
      assert.strictEqual(channels.unsafeCount(), 0)
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("cuts those that do not answer within the limit, and not before", () =>
    Effect.gen(function* () {
      const channels = yield* Channels
      const stubborn = new (class extends FakeSocket {
        override close(code: number, reason: string) {
          this.closedWith = { code, reason }
        }
      })()
      yield* open(11, stubborn)
      // A broker that leaves is not interrupted any more.
      const closing = yield* Effect.fork(Effect.uninterruptible(channels.closeAll(1001, "leaving", 1_000)))
      yield* pass(999)
      assert.deepStrictEqual(stubborn.closedWith, { code: 1001, reason: "leaving" })
      assert.isFalse(stubborn.isTerminated)
      yield* pass(1)
      yield* Fiber.join(closing)
      assert.isTrue(stubborn.isTerminated)
      assert.strictEqual(channels.unsafeCount(), 0)
    }).pipe(Effect.provide(layer()))
  )

  it.scoped("is done at once when none is open", () =>
    Effect.gen(function* () {
      const closing = yield* Effect.fork(Effect.flatMap(Channels, ({ closeAll }) => closeAll(1001, "leaving", 1_000)))
      yield* settle
      assert.isNotNull(closing.unsafePoll())
    }).pipe(Effect.provide(layer()))
  )
})
