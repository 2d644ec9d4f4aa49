import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import * as ControlEventsNone from "../../src/layers/ControlEventsNone.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { ControlEvents } from "../../src/services/ControlEvents.js"
import { Shutdown } from "../../src/services/Shutdown.js"
import { settle } from "../kit/core.js"
import { jitter } from "../kit/steps.js"

import { SubscriptionWorld as World } from "../kit/subscription.js"

const pass = (ms: number) => settle.pipe(Effect.zipRight(TestClock.adjust(ms)), Effect.zipRight(settle))
const status = Effect.map(ControlEvents, (events) => events.unsafeStatus())

/** The test in one life of the subscription. */
const lives = (name: string, test: (world: World) => Effect.Effect<void, never, any>, settings?: Partial<Settings>) =>
  it.scoped(name, () => {
    const world = new World()
    return Effect.gen(function* () {
      yield* jitter(1)
      yield* settle
      yield* test(world)
    }).pipe(Effect.provide(world.life(settings))) as Effect.Effect<void>
  })

describe("the subscription", () => {
  lives("asks as the account, with its token, for a stream of events; the second time after what is handled", (world) =>
    Effect.gen(function* () {
      const [first] = world.source.subscriptions
      assert.strictEqual(first!.url, "https://api.example/v1/runtime/control-events?agent_id=node%205")
      assert.strictEqual(first!.headers.authorization, "Bearer token")
      assert.strictEqual(first!.headers.accept, "text/event-stream")
      assert.notProperty(first!.headers, "last-event-id")
      assert.deepInclude(yield* status, { state: "open", position: undefined, lastFailure: undefined })
      first!.event("881", "a")
      first!.event("ä-2", "b")
      yield* settle
      assert.deepStrictEqual(world.handled, ["a", "b"])
      first!.end()
      yield* pass(1_000)
      assert.strictEqual(world.asked[1], Buffer.from("ä-2").toString("latin1"))
      assert.notInclude(JSON.stringify(world.log.lines), "token")
    })
  )

  lives("F7: names an event as seen only when it and all before it are handled", (world) =>
    Effect.gen(function* () {
      const slow = Effect.unsafeMakeLatch(false)
      world.onEvent = (data) => (data === "slow" ? slow.await : Effect.void)
      world.source.last.event("1", "quick")
      world.source.last.event("2", "slow")
      world.source.last.event("3", "quick too")
      yield* settle
      assert.deepStrictEqual(world.handled, ["quick", "quick too"], "D11: a slow one holds up no other")
      assert.strictEqual((yield* status).position, "1")
      world.source.last.end()
      yield* pass(1_000)
      assert.strictEqual(world.asked[1], "1")
      yield* slow.open
      yield* settle
      assert.strictEqual((yield* status).position, "3")
      assert.deepStrictEqual(
        world.store.recordsOf<{ id: string }>("control_position").map(({ id }) => id),
        ["3"]
      )
    })
  )

  lives(
    "F7: counts id-only frames, and ids of events that are too large; ids no header can repeat do not count",
    (world) =>
      Effect.gen(function* () {
        world.source.last.send("id: 5\n\n")
        yield* settle
        assert.strictEqual((yield* status).position, "5")
        world.source.last.send(`id: 6\ndata: ${"x".repeat(600)}\n\n`)
        yield* settle
        assert.strictEqual((yield* status).position, "6")
        assert.include(world.log.events, "sse_frame_too_large")
        world.source.last.send("id: a\u0001b\ndata: x\n\n")
        yield* settle
        assert.deepStrictEqual(world.handled, ["x"])
        assert.strictEqual((yield* status).position, "6")
      }),
    { controlEventBytes: 500 }
  )

  it.scoped("F7, B9: begins in the next life where the last one had handled all, unless it is another platform", () => {
    const world = new World()
    world.onEvent = (data) => (data === "slow" ? Effect.never : Effect.void)
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        yield* settle
        for (const [id, data] of [
          ["1", "a"],
          ["2", "slow"],
          ["3", "c"]
        ])
          world.source.last.event(id!, data!)
        yield* settle
      }).pipe(Effect.provide(world.life()))
      yield* Effect.provide(settle, world.life())
      yield* Effect.provide(settle, world.life({}, "https://other.example"))
      assert.deepStrictEqual(world.asked, [undefined, "1", undefined])
    })
  })

  lives("reads characters, lines and frames over chunks, whatever else is on the stream", (world) =>
    Effect.gen(function* () {
      for (const byte of new TextEncoder().encode(': hi\r\nid: 7\r\nevent: x\r\ndata: {"ä":\r\ndata: "😀"}\r\n\r\n')) {
        world.source.last.controller!.enqueue(Uint8Array.of(byte))
        yield* Effect.yieldNow()
      }
      yield* settle
      assert.deepStrictEqual(world.handled, ['{"ä":\n"😀"}'])
      assert.strictEqual((yield* status).position, "7")
    })
  )

  lives("discards what the end of the stream cuts in two", (world) =>
    Effect.gen(function* () {
      world.source.last.send("id: 7\ndata: a\n")
      world.source.last.end()
      yield* pass(1_000)
      world.source.last.send("\ndata: b\n\n")
      yield* settle
      assert.deepStrictEqual([world.handled, world.asked], [["b"], [undefined, undefined]])
    })
  )

  lives("hands events over in the order they came", (world) =>
    Effect.gen(function* () {
      const wanted = Array.from({ length: 200 }, (_, index) => String(index))
      world.source.last.send(wanted.map((one) => `id: ${one}\ndata: ${one}\n\n`).join(""))
      yield* settle
      assert.deepStrictEqual(world.begun, wanted)
    })
  )

  lives("stops reading while 256 events are not handled, and does not take that for silence", (world) =>
    Effect.gen(function* () {
      const slow = Effect.unsafeMakeLatch(false)
      world.onEvent = () => slow.await
      for (let n = 0; n < 300; n++) {
        world.source.last.send(`data: ${n}\n\n`)
        yield* Effect.yieldNow()
      }
      yield* settle
      assert.isAtLeast(world.begun.length, 256)
      const before = world.begun.length
      world.source.last.send("data: late\n\n")
      yield* pass(200_000)
      assert.strictEqual(world.begun.length, before)
      assert.strictEqual(world.source.subscriptions.length, 1)
      yield* slow.open
      yield* settle
      assert.strictEqual(world.handled.at(-1), "late")
    })
  )
})

describe("a subscription that is lost", () => {
  lives("is opened again after 1, 2, 4, 8, 16, 30 and 30 seconds", (world) =>
    Effect.gen(function* () {
      world.source.answer = "unreachable"
      world.source.last.breakOff()
      yield* settle
      for (const [index, wait] of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].entries()) {
        assert.strictEqual((yield* status).state, "waiting")
        yield* pass(wait - 1)
        assert.strictEqual(world.source.subscriptions.length, index + 1, `before ${wait}`)
        yield* pass(1)
        assert.strictEqual(world.source.subscriptions.length, index + 2, `after ${wait}`)
      }
      assert.deepStrictEqual(world.reasons, ["the connection failed", "the connection failed (ECONNREFUSED)"])
    })
  )

  lives("waits longer each time it does not last for 60 seconds, and one second after it did", (world) =>
    Effect.gen(function* () {
      const ends = (lived: number, wait: number) =>
        Effect.gen(function* () {
          yield* pass(lived)
          const before = world.source.subscriptions.length
          world.source.last.end()
          yield* pass(wait - 1)
          assert.strictEqual(world.source.subscriptions.length, before)
          yield* pass(1)
          assert.strictEqual(world.source.subscriptions.length, before + 1)
        })
      for (const wait of [1_000, 2_000, 4_000]) yield* ends(0, wait)
      yield* ends(59_999, 8_000)
      yield* ends(60_000, 1_000)
      yield* ends(0, 2_000)
    })
  )

  it.scoped("waits at least 75 % of that", () => {
    const world = new World()
    return Effect.gen(function* () {
      yield* jitter(0)
      yield* settle
      world.source.last.end()
      yield* pass(749)
      assert.strictEqual(world.source.subscriptions.length, 1)
      yield* pass(1)
      assert.strictEqual(world.source.subscriptions.length, 2)
    }).pipe(Effect.provide(world.life()))
  })

  lives("D12: is one that is silent for 90 seconds; comments count as life", (world) =>
    Effect.gen(function* () {
      yield* pass(89_999)
      world.source.last.send(": alive\n\n")
      yield* pass(89_999)
      assert.strictEqual(world.source.subscriptions.length, 1)
      yield* pass(1)
      assert.isTrue(world.source.last.isAborted)
      assert.strictEqual((yield* status).lastFailure, "nothing came for 90000 ms")
      yield* pass(1_000)
      assert.strictEqual(world.source.subscriptions.length, 2)
    })
  )

  lives("is one that is not answered within 15 seconds, or not with a stream; every status is tried again", (world) =>
    Effect.gen(function* () {
      world.source.last.end()
      world.source.answer = "silence"
      yield* pass(1_000)
      yield* pass(15_000)
      for (const code of [401, 403, 404, 500, 302, 204]) {
        world.source.answer = { status: code }
        yield* pass(30_000)
      }
      world.source.answer = "throw"
      yield* pass(30_000)
      world.source.answer = "stream"
      yield* pass(30_000)
      assert.deepStrictEqual(world.reasons, [
        "the stream ended",
        "no answer within 15000 ms",
        ...[401, 403, 404, 500, 302, 204].map((code) => `status ${code}`),
        "the request could not be sent"
      ])
      assert.strictEqual((yield* status).state, "open")
    })
  )

  lives("waits as the server asks: Retry-After, and retry on the stream as the first wait", (world) =>
    Effect.gen(function* () {
      world.source.answer = { status: 503, headers: { "retry-after": "100" } }
      world.source.last.end()
      yield* pass(1_000)
      yield* pass(99_999)
      assert.strictEqual(world.source.subscriptions.length, 2)
      world.source.answer = "stream"
      yield* pass(1)
      assert.strictEqual(world.source.subscriptions.length, 3)
      world.source.last.send("retry: 250\n\n")
      yield* pass(60_000)
      world.source.last.end()
      yield* pass(249)
      assert.strictEqual(world.source.subscriptions.length, 3)
      yield* pass(1)
      assert.strictEqual(world.source.subscriptions.length, 4)
      // As short as it wants, it is no loop without a pause; as long as it wants, it is no end.
      for (const [wish, wait] of [
        [0, 100],
        [999_999_999, 30_000]
      ] as const) {
        world.source.last.send(`retry: ${wish}\n\n`)
        yield* pass(60_000)
        const before = world.source.subscriptions.length
        world.source.last.end()
        yield* pass(wait - 1)
        assert.strictEqual(world.source.subscriptions.length, before)
        yield* pass(1)
        assert.strictEqual(world.source.subscriptions.length, before + 1)
      }
    })
  )

  lives("is told once per outage, not at each attempt, and without the words of errors", (world) =>
    Effect.gen(function* () {
      world.source.answer = "unreachable"
      world.source.last.end()
      for (let n = 0; n < 10; n++) yield* pass(30_000)
      assert.deepStrictEqual(world.reasons, ["the stream ended", "the connection failed (ECONNREFUSED)"])
      assert.notInclude(JSON.stringify(world.log.lines), "secret")
    })
  )
})

describe("what is known of it", () => {
  lives("one outage is one, from its beginning, with the latest reason; then it is open since then", (world) =>
    Effect.gen(function* () {
      assert.deepInclude(yield* status, { state: "open", since: 0 })
      yield* pass(5_000)
      world.source.last.end()
      world.source.answer = { status: 503 }
      yield* settle
      assert.deepInclude(yield* status, { state: "waiting", since: 5_000, lastFailure: "the stream ended" })
      yield* pass(3_000)
      assert.deepInclude(yield* status, { state: "waiting", since: 5_000, lastFailure: "status 503" })
      world.source.answer = "silence"
      yield* pass(4_000)
      assert.deepInclude(yield* status, { state: "connecting", since: 5_000, lastFailure: "status 503" })
      world.source.answer = "stream"
      yield* pass(15_000)
      yield* pass(8_000)
      assert.deepInclude(yield* status, { state: "open", since: 35_000, lastFailure: undefined })
    })
  )

  it.scoped("nothing is asked before it is told to listen", () => {
    const world = new World()
    return Effect.gen(function* () {
      yield* pass(60_000)
      assert.deepInclude(yield* status, { state: "connecting", since: 0 })
      assert.lengthOf(world.source.subscriptions, 0)
      yield* (yield* ControlEvents).listen
      yield* settle
      assert.deepInclude(yield* status, { state: "open", since: 60_000 })
    }).pipe(Effect.provide(world.silent()))
  })
})

describe("D2: the end of the broker", () => {
  const leave = Effect.flatMap(Shutdown, (shutdown) => shutdown.request("signal"))

  lives("ends the wait of 30 seconds at once", (world) =>
    Effect.gen(function* () {
      world.source.answer = "unreachable"
      world.source.last.end()
      for (let n = 0; n < 8; n++) yield* pass(30_000)
      assert.strictEqual((yield* status).state, "waiting")
      yield* leave
      yield* settle
      assert.strictEqual((yield* status).state, "off")
      const before = world.source.subscriptions.length
      yield* pass(3_600_000)
      assert.strictEqual(world.source.subscriptions.length, before)
    })
  )

  lives("ends an open stream, and takes no more of it", (world) =>
    Effect.gen(function* () {
      const { last } = world.source
      yield* leave
      yield* settle
      assert.isTrue(last.isAborted)
      assert.strictEqual((yield* status).state, "off")
      assert.deepStrictEqual(world.begun, [])
    })
  )

  lives("ends a request without answer", (world) =>
    Effect.gen(function* () {
      world.source.answer = "silence"
      world.source.last.end()
      yield* pass(1_000)
      assert.strictEqual((yield* status).state, "connecting")
      yield* leave
      yield* settle
      assert.isTrue(world.source.last.isAborted)
    })
  )
})

describe("a network without control events", () => {
  it.scoped("has none: no account, or the variant for it", () => {
    const world = new World()
    world.account = Effect.succeed(undefined)
    return Effect.gen(function* () {
      const ended = Effect.gen(function* () {
        yield* pass(60_000)
        return yield* status
      })
      assert.deepInclude(yield* Effect.provide(ended, world.life()), { state: "off" })
      assert.deepStrictEqual(world.source.subscriptions, [])
      assert.deepInclude(yield* Effect.provide(ended, ControlEventsNone.layer), { state: "off", position: undefined })
    })
  })

  it.scoped("is not asked before the platform has named the account", () => {
    const world = new World()
    world.account = Effect.never
    return Effect.gen(function* () {
      yield* pass(60_000)
      assert.deepStrictEqual(world.source.subscriptions, [])
      assert.deepInclude(yield* status, { state: "connecting" })
    }).pipe(Effect.provide(world.life()))
  })
})
