/**
 * Frames no gateway should send. The seed of a failed run is in its message; `FUZZ_SEED` repeats it.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import type { InboundItem } from "../../src/services/Connector.js"
import { FakeGateway, until } from "../kit/FakeGateway.js"
import { brisk, connectorOn, driven } from "../kit/gatewayConnector.js"
import { KeptLog } from "../kit/ground.js"

const rounds = 10
const framesPerRound = Number(process.env.GATEWAY_FRAMES ?? 2_500) / rounds
const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31)

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

class Chance {
  private state: number
  constructor(seed: number) {
    this.state = seed >>> 0
  }
  /** Uniform in [0, 1). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  below(count: number): number {
    return Math.floor(this.next() * count)
  }
  one<A>(choices: ReadonlyArray<A>): A {
    return choices[this.below(choices.length)]!
  }
  is(probability: number): boolean {
    return this.next() < probability
  }
}

/** Frames near to proper ones, one after the other. */
const makeFrames = (chance: Chance) => {
  let last = 0
  const near = () => Math.max(0, last + chance.below(9) - 5)
  const number = () => (chance.is(0.7) ? ++last : near())
  const odd = (): unknown =>
    chance.one<() => unknown>([
      () => null,
      () => undefined,
      () => true,
      () => -chance.below(10),
      () => chance.below(100) + 0.5,
      () => (chance.is(0.02) ? 2 ** 53 - 1 : near()),
      () => String(near()),
      () => "",
      () => "\ud800",
      () => "__proto__",
      () => "x".repeat(chance.below(3_000)),
      () => [],
      () => ({}),
      () => ({ event: "ERROR", toString: 1, length: -1 }),
      () => JSON.parse('{"__proto__": {"a": 1}, "constructor": {"prototype": null}}'),
      () => JSON.parse(`${"[".repeat(500)}${"]".repeat(500)}`)
    ])()
  const proper = (): Record<string, unknown> =>
    chance.one<() => Record<string, unknown>>([
      ...Array(6).fill(() => {
        const seq = number()
        return { event: "MESSAGE_RECEIVED", messageId: `m${seq}`, from: "mstp://bob", content: "c", seq, metadata: {} }
      }),
      () => ({ event: "MESSAGE_RECEIVED", messageId: `u${near()}`, from: "mstp://bob", content: "c" }),
      () => ({ event: "DELIVERY_PENDING", count: chance.below(9), upTo: `cur-${near()}` }),
      () => ({ event: "DELIVERY_CURSOR", deliverySeq: near(), deliveredSeq: near() - 10 }),
      () => ({ event: "DELIVERY_SKIP", seq: near(), reason: "runtime_mailbox_dismissed" }),
      () => ({ event: "SEND_ACK", messageId: `s${near()}`, status: "stored" }),
      () => ({ event: "ERROR", messageId: `s${near()}`, code: "c", message: "m" }),
      () => ({ event: "DELIVERY_STATUS", messageId: `s${near()}`, status: "read" }),
      () => ({ event: "REGISTER_ACK", status: "ok", protocolVersion: 4, deliverySeq: near() })
    ])()
  const mutated = (): Record<string, unknown> => {
    const frame = proper()
    for (let changes = chance.below(4); changes > 0; changes--) {
      const field = chance.one([...Object.keys(frame), "runtimeSessionId", "deliveryRuntimeSessionId", "status"])
      if (chance.is(0.2)) delete frame[field]
      else frame[field] = chance.is(0.2) ? proper() : odd()
    }
    return frame
  }
  const spoilt = (text: string): string => {
    const at = chance.below(text.length)
    return chance.one([
      () => text.slice(0, at),
      () => text.slice(0, at) + chance.one(['"', "{", "}", ",", "\\", "\u0000", "1e999"]) + text.slice(at),
      () => text.slice(0, at) + text.slice(at + 1 + chance.below(9)),
      () => `${text}${text}`,
      () => "[".repeat(100_000),
      () =>
        `{"event":"MESSAGE_RECEIVED","from":"b","content":"c","metadata":${'{"a":'.repeat(9_000)}1${"}".repeat(9_001)}`
    ])()
  }
  return () => {
    const text = JSON.stringify(mutated())
    return chance.is(0.1) ? spoilt(text) : text
  }
}

/** What a broker does with messages, by chance. */
const makeBroker = (chance: Chance, connector: Effect.Effect.Success<typeof driven>["connector"]) => {
  let open: Array<unknown> = []
  return (batch: ReadonlyArray<InboundItem>) => {
    for (const { redeliverable, token } of batch) {
      const fate = chance.next()
      if (fate < 0.5) connector.unsafeAccept([token])
      else if (fate < 0.7 && redeliverable) connector.unsafeRelease([token, token])
      else open.push(token)
    }
    if (chance.is(0.1)) connector.unsafeRedeliver()
    if (open.length < 100) return
    connector.unsafeAccept(open)
    open = []
  }
}

const round = (chance: Chance) =>
  Effect.gen(function* () {
    const gateway = yield* FakeGateway.make
    gateway.redelivers = false
    const log = new KeptLog()
    yield* Effect.gen(function* () {
      const { connector, isUp, send, shutdown } = yield* driven
      let received = 0
      let isLast = false
      const broker = makeBroker(chance, connector)
      yield* connector.receive((batch) => {
        received += batch.length
        isLast ||= batch.some(({ messageId }) => messageId === "last")
        broker(batch)
      })
      yield* isUp
      const frame = makeFrames(chance)
      for (let sent = 0; sent < framesPerRound; sent++) {
        gateway.sayRaw(frame())
        if (sent % 100 === 99) yield* gateway.roundTrip
        if (sent % 500 === 499) yield* Effect.ignore(Effect.fork(send(`s${sent}`)))
      }
      gateway.answer = ({ messageId }) => ({ event: "SEND_ACK", messageId, status: "stored" })
      assert.strictEqual((yield* Effect.orDie(send("last word"))).status, "stored")
      gateway.say({ event: "MESSAGE_RECEIVED", messageId: "last", from: "mstp://bob", content: "c" })
      yield* until("the last message came", () => isLast)
      assert.isAbove(received, 0)
      assert.strictEqual(gateway.registered.length, 1, "the connection stayed")
      assert.isFalse(shutdown.unsafeIsLeaving())
      assert.notInclude(log.events, "connection_failed")
      const told = gateway.acknowledged.filter((upToSeq) => upToSeq !== undefined)
      assert.deepStrictEqual(
        told,
        [...told].sort((a, b) => a - b),
        "the cursor never goes back"
      )
    }).pipe(
      Effect.provide(connectorOn(gateway.url, { log, settings: { ...brisk, deliveredIds: 500, waitingMessages: 300 } }))
    )
  }).pipe(Effect.scoped)

it.live(
  `${rounds * framesPerRound} mutated frames do no harm`,
  () =>
    Effect.gen(function* () {
      const chance = new Chance(seed)
      const heap: Array<number> = []
      for (let count = 0; count < rounds; count++) {
        yield* round(chance)
        collect()
        heap.push(process.memoryUsage().heapUsed)
      }
      const grown = heap.at(-1)! - heap[2]!
      assert.isBelow(grown, 8 * 1024 * 1024, "and leave nothing behind")
    }).pipe(Effect.tapErrorCause(() => Effect.sync(() => console.error(`FUZZ_SEED=${seed}`)))),
  120_000 + rounds * framesPerRound * 2
)
