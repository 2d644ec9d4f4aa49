/** Frames of a WebSocket that are almost right. */
import { almostJson } from "./json.js"
import type { Random } from "./Random.js"
import type { World } from "./World.js"

interface Frame {
  readonly opcode: number
  readonly payload: Buffer
  readonly fin?: boolean
  readonly reserved?: number
  readonly isMasked?: boolean
  /** What it says of its length, when not the truth. */
  readonly says?: bigint
}

const encode = (
  random: Random,
  { fin = true, isMasked = true, opcode, payload, reserved = 0, says }: Frame
): Buffer => {
  const length = says ?? BigInt(payload.length)
  const mask = isMasked ? random.bytes(4) : Buffer.alloc(0)
  const masked = isMasked ? payload.map((byte, n) => byte ^ mask[n % 4]!) : payload
  const flag = isMasked ? 0x80 : 0
  const size =
    length < 126n
      ? Buffer.from([flag | Number(length)])
      : length < 65_536n
        ? Buffer.from([flag | 126, Number(length >> 8n), Number(length & 255n)])
        : Buffer.concat([Buffer.from([flag | 127]), bigEndian(length)])
  return Buffer.concat([Buffer.from([(fin ? 0x80 : 0) | (reserved << 4) | opcode]), size, mask, masked])
}

const bigEndian = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}

const text = 1
const binary = 2
const close = 8
const ping = 9
const pong = 10

const events = ["push_ack", "push_nack", "message_received", "presence_changed", "", "__proto__"]
const ids = ["p1", "1", "", "x".repeat(300)]
const receiptJson = (random: Random) => ({
  event: random.pick(events),
  push_id: random.pick(ids),
  ...(random.chance(0.5) ? { reason: "busy" } : {})
})
const sendJson = (random: Random, { victim }: World) => ({
  event: "send",
  request_id: random.pick(ids),
  endpoint_id: victim.id,
  to: victim.address,
  content: "hello",
  ...(random.chance(0.5) ? { endpoint_owner_token: victim.ownerToken, metadata: { in_reply_to: "c1" } } : {}),
  ...(random.chance(0.2) ? { idempotency_key: random.pick(ids), store: true } : {})
})
const frameJson = (random: Random, world: World): Buffer =>
  almostJson(random, random.chance(0.5) ? receiptJson(random) : sendJson(random, world))

const isText = (bytes: Buffer) => Buffer.from(bytes.toString("utf8")).equals(bytes)

/** Frames that any WebSocket takes: what is odd is what they say. */
export const goodFrame = (random: Random, world: World): Buffer => {
  const payload = frameJson(random, world)
  return random.weighted<() => Buffer>([
    [8, () => encode(random, { opcode: isText(payload) ? text : binary, payload })],
    [1, () => encode(random, { opcode: binary, payload })],
    [1, () => encode(random, { opcode: random.pick([ping, pong]), payload: random.bytes(random.below(126)) })],
    [1, () => fragmented(random, isText(payload) ? text : binary, payload)]
  ])()
}

const fragmented = (random: Random, opcode: number, payload: Buffer): Buffer => {
  const at = random.below(payload.length + 1)
  return Buffer.concat([
    encode(random, { opcode, payload: payload.subarray(0, at), fin: false }),
    ...random.some(1, () => encode(random, { opcode: ping, payload: Buffer.alloc(0) })),
    encode(random, { opcode: 0, payload: payload.subarray(at) })
  ])
}

const MiB = 1024 * 1024

/** What a WebSocket must not take: the last thing that is said on a connection. */
export const badFrame = (random: Random): Buffer => {
  const payload = random.bytes(random.below(100))
  const control = random.pick([close, ping, pong])
  return random.weighted<() => Buffer>([
    [2, () => encode(random, { opcode: random.pick([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), payload })],
    [2, () => encode(random, { opcode: text, payload, isMasked: false })],
    [2, () => encode(random, { opcode: text, payload, reserved: 1 + random.below(7) })],
    [2, () => encode(random, { opcode: control, payload: payload.subarray(0, 10), fin: false })],
    [2, () => encode(random, { opcode: control, payload: Buffer.alloc(126 + random.below(1_000)) })],
    [2, () => encode(random, { opcode: text, payload: Buffer.from([0xc3, 0x28, 0xff, 0xed, 0xa0, 0x80]) })],
    [2, () => encode(random, { opcode: 0, payload })],
    [
      2,
      () =>
        Buffer.concat([
          encode(random, { opcode: text, payload, fin: false }),
          encode(random, { opcode: text, payload })
        ])
    ],
    [
      1,
      () =>
        encode(random, { opcode: text, payload, says: random.pick([2n ** 63n, 2n ** 64n - 1n, 2n ** 53n, 2n ** 32n]) })
    ],
    [1, () => encode(random, { opcode: text, payload, says: BigInt(MiB + 1) })],
    [1, () => encode(random, { opcode: close, payload: Buffer.from([random.below(256)]) })],
    [1, () => encode(random, { opcode: close, payload: Buffer.from([random.below(40), random.below(256)]) })],
    [1, () => encode(random, { opcode: close, payload: Buffer.from([3, 0xe8, 0xc3, 0x28]) })],
    [1, () => random.bytes(1 + random.below(300))]
  ])()
}

/** Part of a frame: the connection ends in the middle of it. */
export const halfFrame = (random: Random, world: World): Buffer => {
  const whole = goodFrame(random, world)
  return whole.subarray(0, 1 + random.below(whole.length))
}
