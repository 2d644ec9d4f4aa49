import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { ChannelId, MessageId, PushId } from "../../../src/services/model/Ids.js"
import { type Letter, type MailboxLimits, MailboxState, type Place } from "../../../src/services/model/MailboxState.js"
import type { Message } from "../../../src/services/model/Message.js"
import { MailboxDriver } from "../../kit/MailboxDriver.js"

const limits: MailboxLimits = { windowMessages: 2, windowBytes: 100, deliveryLimit: 3 }

describe("pushing", () => {
  it("is live while the window is open: nothing is written", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    mailbox.arrive()
    mailbox.arrive()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2"])
    assert.strictEqual(mailbox.state.count, 0)
  })
  it("stops at the window and goes on, in order, as receipts come and writes complete", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    for (let n = 0; n < 4; n++) mailbox.arrive()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2"])
    mailbox.acknowledge(0)
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2"], "m3 is not durable yet")
    mailbox.wrote()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2", "m3"])
    mailbox.finish()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2", "m3", "m4"])
  })
  it("takes one message that is larger than the window, alone", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    mailbox.arrive(1_000)
    mailbox.arrive(1)
    assert.deepStrictEqual(mailbox.pushes, ["m1"])
    mailbox.wrote()
    mailbox.acknowledge(0)
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2"])
  })
  it("fills the window to the byte", () => {
    const mailbox = new MailboxDriver({ ...limits, windowMessages: 10 })
    mailbox.attach(true)
    mailbox.arrive(60)
    mailbox.arrive(40)
    mailbox.arrive(1)
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2"])
  })
  it("without receipts is delivery: no window, nothing in flight, nothing written", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(false)
    for (let n = 0; n < 5; n++) mailbox.arrive()
    assert.deepStrictEqual(mailbox.delivered, ["m1", "m2", "m3", "m4", "m5"])
    assert.strictEqual(mailbox.state.size, 0)
  })
  it("rests while the channel is congested: mail is written, and follows in order", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(false)
    mailbox.congest()
    mailbox.arrive()
    mailbox.arrive()
    assert.deepStrictEqual(mailbox.pushes, [])
    mailbox.wrote()
    mailbox.wrote()
    assert.deepStrictEqual(mailbox.pushes, [])
    mailbox.readOn()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2"])
  })
  it("of held mail comes before live mail, also while it lies in the store only", () => {
    const mailbox = new MailboxDriver(limits)
    for (let n = 0; n < 10; n++) mailbox.arrive()
    for (let n = 0; n < 10; n++) mailbox.wrote()
    assert.strictEqual(mailbox.state.unloadedCount, 10)
    mailbox.attach(true)
    mailbox.arrive()
    mailbox.finish()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9", "m10", "m11"])
  })
  it("reads large mail from the store as far as the window holds its bytes, at least one message", () => {
    const mailbox = new MailboxDriver({ ...limits, windowMessages: 10 })
    for (const bytes of [40, 40, 40, 500, 10, 10]) mailbox.arrive(bytes)
    for (let n = 0; n < 6; n++) mailbox.wrote()
    mailbox.attach(true)
    assert.deepStrictEqual([mailbox.state.flying, mailbox.state.unloadedCount], [2, 3], "the third is held")
    mailbox.acknowledge(0)
    mailbox.acknowledge(0)
    assert.deepStrictEqual([mailbox.state.flying, mailbox.state.unloadedCount], [1, 2])
    mailbox.finish()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2", "m3", "m4", "m5", "m6"])
  })
  it("skips what expired while it waited, at its time, not 1 ms before", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.arrive(10, 100)
    mailbox.arrive(10, 101)
    mailbox.wrote()
    mailbox.wrote()
    mailbox.advance(100)
    mailbox.attach(true)
    assert.deepStrictEqual(mailbox.expired, ["m1"])
    assert.deepStrictEqual(mailbox.pushes, ["m2"])
  })
})

describe("writing", () => {
  it("takes earlier live letters along, and they stay in flight", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    mailbox.arrive()
    mailbox.arrive()
    assert.strictEqual(mailbox.state.count, 0)
    mailbox.arrive()
    assert.strictEqual(mailbox.state.count, 3)
    assert.strictEqual(mailbox.state.flying, 2)
  })
  it("of a live push takes the earlier ones along and leaves the later ones", () => {
    const mailbox = new MailboxDriver({ ...limits, windowMessages: 3 })
    mailbox.attach(true)
    for (let n = 0; n < 3; n++) mailbox.arrive()
    mailbox.spill(1)
    assert.strictEqual(mailbox.state.count, 2)
    assert.strictEqual(mailbox.state.flying, 3)
    mailbox.finish()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2", "m3"])
  })
  it("of what is acknowledged meanwhile changes nothing any more", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    mailbox.arrive()
    mailbox.spill(0)
    mailbox.acknowledge(0)
    mailbox.wrote()
    mailbox.finish()
    assert.deepStrictEqual(mailbox.delivered, ["m1"])
  })
})

describe("stored mail whose time is over", () => {
  it("leaves from memory and from the store at its time, not 1 ms before, and makes room for what comes behind it", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.arrive(10, 100)
    mailbox.arrive(10)
    for (let n = 0; n < 2; n++) mailbox.wrote()
    mailbox.advance(99)
    mailbox.sweep()
    assert.deepStrictEqual(mailbox.expired, [])
    mailbox.advance(1)
    mailbox.sweep()
    assert.deepStrictEqual(mailbox.expired, ["m1"])
    assert.deepStrictEqual([mailbox.state.count, mailbox.state.bytes], [1, 10])
    mailbox.finish()
    assert.deepStrictEqual(mailbox.pushes, ["m2"])
  })
  it("stays while it is in flight, and leaves when its channel ended", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    mailbox.arrive(10, 100)
    mailbox.spill(0)
    mailbox.wrote()
    mailbox.advance(100)
    mailbox.sweep()
    assert.deepStrictEqual([mailbox.state.flying, mailbox.expired], [1, []])
    mailbox.detach()
    mailbox.wrote()
    mailbox.sweep()
    assert.deepStrictEqual([mailbox.state.size, mailbox.expired], [0, ["m1"]])
  })
  it("is not read again before its leaving is durable", () => {
    const mailbox = new MailboxDriver(limits)
    for (const lives of [100, undefined]) mailbox.arrive(10, lives)
    for (let n = 0; n < 2; n++) mailbox.wrote()
    mailbox.advance(100)
    mailbox.sweep()
    mailbox.attach(true)
    assert.deepStrictEqual(mailbox.pushes, [])
    mailbox.wrote()
    assert.deepStrictEqual([mailbox.pushes, mailbox.expired], [["m2"], ["m1"]])
  })
})

describe("a channel that ends", () => {
  it("gives back what was in flight; it comes first over the next one, marked as redelivered", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    for (let n = 0; n < 3; n++) mailbox.arrive()
    mailbox.detach()
    mailbox.finish()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2", "m1", "m2", "m3"])
    assert.deepStrictEqual(mailbox.delivered, ["m1", "m2", "m3"])
  })
  it("counts against the oldest in flight only, until that is dead", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    mailbox.arrive()
    mailbox.arrive()
    for (let end = 1; end <= 3; end++) {
      assert.deepStrictEqual(mailbox.dead, [])
      mailbox.detach()
      mailbox.wrote()
      mailbox.attach(true)
    }
    assert.deepStrictEqual(mailbox.dead, ["m1"])
    mailbox.finish()
    assert.deepStrictEqual(mailbox.delivered, ["m2"])
  })
})

describe("a refused push", () => {
  it("comes again at the head after its pause, not 1 ms before, and nothing overtakes it", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    mailbox.arrive()
    mailbox.refuse(0, 1_000)
    mailbox.arrive()
    mailbox.wrote()
    mailbox.wrote()
    mailbox.advance(999)
    assert.deepStrictEqual(mailbox.pushes, ["m1"])
    mailbox.advance(1)
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m1", "m2"])
  })
  it("is dead at the delivery limit, and its successor goes on", () => {
    const mailbox = new MailboxDriver(limits)
    mailbox.attach(true)
    mailbox.arrive()
    mailbox.arrive()
    for (let failure = 1; failure <= 3; failure++) {
      assert.deepStrictEqual(mailbox.dead, [])
      mailbox.refuse(0, 0)
      mailbox.wrote()
    }
    assert.deepStrictEqual(mailbox.dead, ["m1"])
    mailbox.finish()
    assert.deepStrictEqual(mailbox.delivered, ["m2"])
  })
  it("is held alone where the next message is too large beside it; what is in flight behind it is not read again", () => {
    const mailbox = new MailboxDriver({ ...limits, windowMessages: 3 })
    mailbox.attach(true)
    mailbox.arrive(60)
    mailbox.arrive(10)
    mailbox.refuse(0, 20)
    mailbox.arrive(60)
    for (let n = 0; n < 2; n++) mailbox.wrote()
    assert.strictEqual(mailbox.state.unloadedCount, 1)
    mailbox.advance(20)
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2", "m1"])
    mailbox.finish()
    assert.deepStrictEqual(mailbox.pushes, ["m1", "m2", "m1", "m3"])
  })
  it("that is not in flight is not known", () => {
    const state = new MailboxState(limits)
    assert.isUndefined(state.refuse(PushId("p"), 0, () => 0))
    assert.isUndefined(state.acknowledge(PushId("p")))
  })
})

const message = (id: string): Message => ({
  id: MessageId(id),
  from: "peer",
  content: id,
  contentType: "text",
  metadata: {},
  arrivedAt: 0,
  bytes: 10
})
const letterFor = (state: MailboxState, id: string) => state.letter(message(id), { token: id, isAccepted: false })

describe("the place of a message", () => {
  it("is behind everything that arrived before", () => {
    const state = new MailboxState(limits)
    assert.deepStrictEqual(
      ["a", "b", "c"].map((id) => letterFor(state, id).place),
      [1, 2, 3]
    )
  })
  it("is behind what the store holds of it from before", () => {
    assert.strictEqual(
      letterFor(new MailboxState(limits, { count: 2, bytes: 20, last: 7, knownUpTo: 0 }), "a").place,
      8
    )
  })
})

describe("a mailbox found in the store", () => {
  it("counts what it finds, reads it from its beginning and pushes nothing before", () => {
    const last = 7
    const state = new MailboxState(limits, { count: 2, bytes: 20, last, knownUpTo: 0 })
    assert.deepStrictEqual([state.size, state.count, state.bytes, state.unloadedCount], [2, 2, 20, 2])
    state.attach({ channel: ChannelId(1), receipts: true })
    assert.isFalse(state.canPushLive(letterFor(state, "new"), 0))
    const next = state.next(0)
    assert.strictEqual(next._tag, "Load")
    const stored = (id: string, place: Place): Letter => ({
      ...letterFor(new MailboxState(limits), id),
      place,
      stored: "written"
    })
    if (next._tag === "Load") assert.strictEqual(next.after, 0)
    state.load([stored("a", 3), stored("b", last)])
    const first = state.next(0)
    assert.strictEqual(first._tag === "Push" ? first.letter.message.content : first._tag, "a")
  })
  it("is empty when the store turns out to hold less", () => {
    const state = new MailboxState(limits, { count: 2, bytes: 20, last: 7, knownUpTo: 0 })
    state.attach({ channel: ChannelId(1), receipts: true })
    state.load([])
    assert.strictEqual(state.next(0)._tag, "Wait")
    assert.deepStrictEqual([state.size, state.bytes], [0, 0])
  })
})

type Op = (mailbox: MailboxDriver) => void
const named = (name: string, op: Op): Op => Object.assign(op, { toString: () => name })
const index = fc.nat(3)
const arrival = fc
  .tuple(fc.constantFrom(10, 10, 10, 60, 200), fc.option(fc.integer({ min: 1, max: 60 }), { nil: undefined }))
  .map(([bytes, lives]) => named(`arrive(${bytes}, ${lives})`, (mailbox) => mailbox.arrive(bytes, lives)))
const script = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: arrival },
    {
      weight: 6,
      arbitrary: fc.constantFrom(
        named("wrote", (mailbox) => mailbox.wrote()),
        named("durable", (mailbox) => mailbox.durable())
      )
    },
    { weight: 4, arbitrary: index.map((n) => named(`acknowledge(${n})`, (mailbox) => mailbox.acknowledge(n))) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(index, fc.constantFrom(0, 20))
        .map(([n, pause]) => named(`refuse(${n}, ${pause})`, (mailbox) => mailbox.refuse(n, pause)))
    },
    { weight: 2, arbitrary: index.map((n) => named(`spill(${n})`, (mailbox) => mailbox.spill(n))) },
    {
      weight: 2,
      arbitrary: fc.boolean().map((receipts) => named(`attach(${receipts})`, (mailbox) => mailbox.attach(receipts)))
    },
    {
      weight: 3,
      arbitrary: fc.constantFrom(
        named("detach", (mailbox) => mailbox.detach()),
        named("congest", (mailbox) => mailbox.congest()),
        named("readOn", (mailbox) => mailbox.readOn())
      )
    },
    { weight: 2, arbitrary: fc.constant(named("sweep", (mailbox) => mailbox.sweep())) },
    { weight: 1, arbitrary: fc.constantFrom(1, 20).map((ms) => named(`advance(${ms})`, (m) => m.advance(ms))) }
  ),
  { maxLength: 80, size: "max" }
)
const window = fc.integer({ min: 1, max: 4 })
const run = (windowMessages: number, ops: ReadonlyArray<Op>) => {
  const mailbox = new MailboxDriver({ ...limits, windowMessages })
  mailbox.attach(true)
  for (const op of ops) op(mailbox)
  return mailbox
}
describe("whatever happens in whatever order, model and mailbox agree", () => {
  const fastCheck = { numRuns: 1_000 }
  it.prop("and all mail arrives in the end", [window, script], ([w, ops]) => run(w, ops).finish(), {
    fastCheck
  })
  it.prop("and the end of the endpoint finds all mail", [window, script], ([w, ops]) => run(w, ops).close(), {
    fastCheck
  })
})
