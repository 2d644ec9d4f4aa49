/** S9: frames that are larger than the limit, and larger than can be read. The limit here is 1,000 bytes. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { FakeGateway } from "../kit/FakeGateway.js"
import { until } from "../kit/FakeGateway.js"
import { brisk, onGateway } from "../kit/gatewayConnector.js"
import { KeptLog } from "../kit/ground.js"
import { jitter, pass } from "../kit/steps.js"

const limit = { gatewayFrameBytes: 1_000 }
const of = (length: number) => "x".repeat(length)
/** A message of about so many bytes. */
const large = (gateway: FakeGateway, messageId: string, bytes: number) => gateway.keep(of(bytes - 130), { messageId })
const sizeOf = (frame: object) => Buffer.byteLength(JSON.stringify(frame))

describe("a frame over the limit", () => {
  it.scopedLive("is an outline of its message that is accepted in its turn; the link stays and it comes no more", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          const frames = [gateway.keep("a"), large(gateway, "b", 1_900), gateway.keep("c")]
          gateway.say(...frames)
          yield* one.got(3)
          assert.deepStrictEqual(
            one.items.map(({ bytes, isTooLarge, messageId }) => [messageId, bytes, isTooLarge]),
            [
              ["a", sizeOf(frames[0]!), undefined],
              ["b", sizeOf(frames[1]!), true],
              ["c", sizeOf(frames[2]!), undefined]
            ]
          )
          assert.strictEqual(one.items[1]!.content, of(1_000))
          one.accept()
          yield* until("all is acknowledged", () => gateway.acknowledged.at(-1) === 3)
          assert.lengthOf(gateway.registered, 1)
          gateway.cut()
          yield* until("it registered again", () => gateway.registered.length === 2)
          yield* one.isUp
          yield* one.send("ping")
          assert.lengthOf(one.items, 3)
        }),
      { settings: { ...brisk, ...limit } }
    )
  )

  it.scopedLive("by one byte is over it, and by none is whole", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          const empty = sizeOf(gateway.keep("", { messageId: "a", seq: 1 }))
          gateway.say(gateway.keep(of(1_000 - empty), { messageId: "a", seq: 1 }))
          gateway.say(gateway.keep(of(1_001 - empty), { messageId: "b", seq: 2 }))
          yield* one.got(2)
          assert.deepStrictEqual(
            one.items.map(({ bytes, isTooLarge }) => [bytes, isTooLarge]),
            [
              [1_000, undefined],
              [1_001, true]
            ]
          )
        }),
      { settings: { ...brisk, ...limit } }
    )
  )

  it.scopedLive("of another kind is ignored", () => {
    const log = new KeptLog()
    return onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          gateway.say({ event: "DELIVERY_SKIP", seq: 1, reason: "runtime_mailbox_dismissed", messageId: of(1_000) })
          gateway.say({ event: "ERROR", code: "c", message: of(1_000) })
          yield* one.send("ping")
          assert.strictEqual(log.events.filter((event) => event === "gateway_frame_ignored").length, 2)
          assert.strictEqual(one.connector.unsafeLink().state, "up")
          assert.deepStrictEqual(gateway.acknowledged, [])
        }),
      { settings: { ...brisk, ...limit }, log }
    )
  })
})

describe("a frame larger than can be read", () => {
  const unreadable = (log: KeptLog) => log.lines.filter(({ event }) => event === "gateway_frame_unreadable")

  it.scoped("is tried again ever later: after three times at the longest wait, and that is said once", () => {
    const log = new KeptLog()
    return onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          yield* jitter(1)
          const isDown = until("it is down", () => one.connector.unsafeLink().state === "down")
          gateway.deliver("a")
          yield* one.got(1)
          one.accept()
          yield* until("it is acknowledged", () => gateway.acknowledged.at(-1) === 1)
          gateway.deliver(of(3_000))
          let attempts = 1
          for (const wait of [1_000, 2_000, 30_000, 30_000]) {
            yield* isDown
            assert.lengthOf(unreadable(log), attempts < 3 ? 0 : 1)
            const { reason } = one.connector.unsafeLink()
            assert.include(reason, "a frame of more than 2000 bytes")
            assert.strictEqual(reason?.includes("behind message 1 again and again"), attempts >= 3, reason)
            yield* pass(wait - 1)
            assert.lengthOf(gateway.registered, attempts)
            yield* pass(1)
            attempts++
            yield* until("it registered again", () => gateway.registered.length === attempts)
            yield* until("it was lost again", () => gateway.closes.length === attempts)
          }
          assert.deepStrictEqual(unreadable(log)[0]!.fields, { cursor: 1, times: 3 })
          assert.deepStrictEqual(
            gateway.registered.map(({ lastKnownSeq }) => lastKnownSeq),
            [0, 1, 1, 1, 1],
            "nothing is skipped"
          )
          assert.isTrue(gateway.closes.every(({ code }) => code === 1009))
          assert.lengthOf(one.items, 1)
        }),
      // Nothing else moves the clock's sleepers.
      { settings: { ...limit, linkPingMs: 1e9 }, log }
    )
  })

  it.scopedLive("that the gateway gives up leaves a link like any other, and all behind it comes", () =>
    onGateway(
      (one, gateway) =>
        Effect.gen(function* () {
          gateway.deliver(of(3_000), "b")
          yield* until("it was tried four times", () => gateway.registered.length >= 4)
          assert.deepStrictEqual(one.contents, [])
          gateway.redelivers = false
          yield* one.isUp
          yield* until("it stays", () => {
            gateway.say({ event: "DELIVERY_SKIP", seq: 1, reason: "runtime_mailbox_dismissed" })
            return gateway.acknowledged.at(-1) === 1
          })
          gateway.redelivers = true
          gateway.say({ event: "DELIVERY_CURSOR", deliverySeq: 2, deliveredSeq: 1 })
          yield* one.got(1)
          assert.deepStrictEqual(one.contents, ["b"])
        }),
      { settings: { ...brisk, ...limit } }
    )
  )
})
