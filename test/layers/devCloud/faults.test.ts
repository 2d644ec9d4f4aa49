import { assert, describe, it } from "@effect/vitest"
import type { Fault } from "../../../src/services/devCloud/Faults.js"
import { accountOf, type Cloud, call, Runtime, run, runtime, Subscriber, soon, withCloud } from "./kit.js"

const inject = async (cloud: Cloud, ...contents: ReadonlyArray<string>) => {
  for (const content of contents) await run(cloud.inject({ account: "alice", content }))
}
const set = (cloud: Cloud, fault: Fault) => run(cloud.fault(fault))
const bob = "mstp://dev/bob"

describe("faults of connections", () => {
  it.live("cut: what is open ends, without a word or with a close code", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      const b = await runtime(cloud, "bob")
      const events = await Subscriber.open(cloud, "alice")
      assert.strictEqual(await run(cloud.cut({ account: "alice" })), 2)
      assert.strictEqual((await a.end()).code, 1006)
      assert.isUndefined(b.closed)
      for (let n = 0; n < 100 && !events.isEnded; n++) await soon(10)
      assert.isTrue(events.isEnded)
      await run(cloud.cut({ code: 1000, reason: "bye" }))
      assert.deepStrictEqual(await b.end(), { code: 1000, reason: "bye" })
    })
  )

  it.live("replace: the runtime is told that another one has taken over", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      assert.strictEqual(await run(cloud.replace("alice")), 1)
      assert.deepStrictEqual(await a.end(), { code: 4001, reason: "Replaced by new Runtime" })
    })
  )

  it.live("at connect: refused with a status, cut, late, or never answered; of one account only", () =>
    withCloud(async (cloud) => {
      const alice = accountOf(cloud, "alice")
      const failing = (one: Runtime) =>
        new Promise<string>((resolve) => one.socket.on("error", ({ message }) => resolve(message)))
      await set(cloud, { at: "connect", does: "refuse", status: 502, account: "alice", times: 1 })
      assert.match(await failing(new Runtime(alice)), /502/)
      await set(cloud, { at: "connect", does: "cut", account: "alice", times: 1 })
      assert.match(await failing(new Runtime(alice)), /hang up|ECONNRESET/)
      await set(cloud, { at: "connect", does: "delay", ms: 100, account: "alice", times: 1 })
      const before = Date.now()
      await new Runtime(alice).opened
      assert.isAtLeast(Date.now() - before, 95)
      await set(cloud, { at: "connect", does: "lose", account: "alice" })
      await runtime(cloud, "bob")
      const hanging = new Runtime(alice)
      await soon()
      assert.strictEqual(hanging.socket.readyState, hanging.socket.CONNECTING)
      await run(cloud.clear())
      await runtime(cloud, "alice")
      hanging.socket.terminate()
    })
  )

  it.live("at register: refused with any reason, unanswered, held back, or nonsense first", () =>
    withCloud(async (cloud) => {
      const attempt = async () => {
        const one = await new Runtime(accountOf(cloud, "alice")).opened
        one.register()
        return one
      }
      await set(cloud, { at: "register", does: "refuse", times: 1 })
      assert.deepInclude(await (await attempt()).next(), { status: "error", reason: "Already connected" })
      await set(cloud, { at: "register", does: "refuse", reason: "Maintenance", times: 1 })
      assert.deepInclude(await (await attempt()).next(), { status: "error", reason: "Maintenance" })

      await inject(cloud, "x")
      const { id } = await set(cloud, { at: "register", does: "hold" })
      const held = await attempt()
      await soon()
      assert.deepStrictEqual(held.frames, [])
      await run(cloud.clear(id))
      assert.deepInclude(await held.next(), { event: "REGISTER_ACK", status: "ok" })
      assert.deepInclude(await held.next(), { event: "MESSAGE_RECEIVED", content: "x" })

      await set(cloud, { at: "register", does: "malformed", text: "\u0000", times: 1 })
      const garbled = await attempt()
      assert.deepInclude(await garbled.next(), { status: "ok" })
      assert.deepStrictEqual(garbled.nonsense, ["\u0000"])
    })
  )

  it.live("stall: nothing is read, answered or sent, pings included, until cleared", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      let pongs = 0
      a.socket.on("pong", () => pongs++)
      const fault = await set(cloud, { at: "connection", does: "stall", account: "alice" })
      a.socket.ping()
      a.message("m1", bob)
      await inject(cloud, "x")
      await soon(80)
      assert.deepStrictEqual([pongs, a.frames.length, a.closed], [0, 1, undefined])
      assert.deepInclude((await run(cloud.view("alice"))).connections[0], { stalled: true, registered: true })
      await run(cloud.clear(fault.id))
      await a.until(() => (a.frames.length === 3 && pongs === 1 ? true : undefined))
    })
  )

  it.live("stall of one account ends with its own fault, whatever others there are", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      await runtime(cloud, "bob")
      const mine = await set(cloud, { at: "connection", does: "stall", account: "alice" })
      await set(cloud, { at: "connection", does: "stall", account: "bob" })
      await inject(cloud, "x")
      await run(cloud.clear(mine.id))
      assert.deepInclude(await a.next(), { content: "x" })
      assert.isTrue((await run(cloud.view("bob"))).connections[0]!.stalled)
    })
  )

  it.live("stall does not touch a new connection, which replaces the half-open one", () =>
    withCloud(async (cloud) => {
      await runtime(cloud, "alice")
      await set(cloud, { at: "connection", does: "stall" })
      const second = await runtime(cloud, "alice")
      await inject(cloud, "x")
      assert.deepInclude(await second.next(), { content: "x" })
    })
  )
})

describe("faults of sends", () => {
  it.live("refuse: an error with the code, and nothing is delivered", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      await set(cloud, { at: "send", does: "refuse", code: "rate_limited", reason: "slow down", times: 1 })
      a.message("m1", bob)
      assert.deepStrictEqual(await a.next(), {
        event: "ERROR",
        code: "rate_limited",
        message: "slow down",
        messageId: "m1",
        to: bob
      })
      a.message("m1", bob)
      assert.deepInclude(await a.next(), { event: "SEND_ACK", messageId: "m1" })
      assert.strictEqual((await run(cloud.view("bob"))).mail.last_seq, 1)
    })
  )

  it.live("lose and cut: the message was taken, and its sender does not know", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      await set(cloud, { at: "send", does: "lose", times: 1 })
      a.message("m1", bob)
      await soon()
      assert.lengthOf(a.frames, 1)
      await set(cloud, { at: "send", does: "cut", times: 1 })
      a.message("m2", bob)
      await a.end()
      assert.strictEqual((await run(cloud.view("bob"))).mail.waiting, 2)
    })
  )

  it.live("hold, delay, duplicate, reorder and malformed change when and how often answers come", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      const acked = async () => (await a.nextOf("SEND_ACK")).messageId
      const hold = await set(cloud, { at: "send", does: "hold" })
      a.message("m1", bob)
      a.message("m2", bob)
      await soon()
      assert.lengthOf(a.frames, 1)
      await run(cloud.clear(hold.id))
      assert.deepStrictEqual([await acked(), await acked()], ["m1", "m2"])

      await set(cloud, { at: "send", does: "delay", ms: 60, times: 1 })
      a.message("m3", bob)
      a.message("m4", bob)
      await soon(20)
      assert.lengthOf(a.frames, 3)
      assert.deepStrictEqual([await acked(), await acked()], ["m3", "m4"])

      await set(cloud, { at: "send", does: "duplicate", times: 1 })
      a.message("m5", bob)
      assert.deepStrictEqual([await acked(), await acked()], ["m5", "m5"])

      await set(cloud, { at: "send", does: "reorder", times: 1 })
      a.message("m6", bob)
      a.message("m7", bob)
      assert.deepStrictEqual([await acked(), await acked()], ["m7", "m6"])

      await set(cloud, { at: "send", does: "malformed", times: 1 })
      a.message("m8", bob)
      assert.strictEqual(await acked(), "m8")
      assert.lengthOf(a.nonsense, 1)
    })
  )
})

describe("faults of deliveries", () => {
  it.live("lose makes a gap, duplicate repeats, reorder swaps pairs, malformed puts nonsense in front", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      const expect = async (...contents: ReadonlyArray<string>) => {
        await a.until(() => (a.contents.length >= contents.length ? true : undefined))
        await soon(20)
        assert.deepStrictEqual(a.contents, contents)
        a.frames.length = 0
      }
      await set(cloud, { at: "deliver", does: "lose", times: 1 })
      await inject(cloud, "1", "2")
      await expect("2")
      a.send({ event: "REQUEST_GAP_FILL", sinceSeq: 0 })
      await expect("1", "2")
      await set(cloud, { at: "deliver", does: "duplicate", times: 1 })
      await inject(cloud, "3", "4")
      await expect("3", "3", "4")
      const reorder = await set(cloud, { at: "deliver", does: "reorder" })
      await inject(cloud, "5", "6", "7", "8", "9")
      await expect("6", "5", "8", "7")
      await run(cloud.clear(reorder.id))
      await expect("9")
      await set(cloud, { at: "deliver", does: "malformed", times: 1 })
      await inject(cloud, "10")
      await expect("10")
      assert.lengthOf(a.nonsense, 1)
    })
  )

  it.live("hold keeps them back in order; a runtime that comes again gets them too", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      const hold = await set(cloud, { at: "deliver", does: "hold", account: "alice" })
      await inject(cloud, "1", "2")
      await soon()
      assert.deepStrictEqual(a.contents, [])
      const again = await runtime(cloud, "alice")
      await run(cloud.clear(hold.id))
      await again.until(() => (again.contents.length === 2 ? true : undefined))
      assert.deepStrictEqual([a.contents, again.contents], [[], ["1", "2"]])
    })
  )

  it.live("delay keeps the order, also of what comes later without delay; cut ends the connection", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      await set(cloud, { at: "deliver", does: "delay", ms: 80, times: 1 })
      await inject(cloud, "1", "2")
      await soon(30)
      assert.deepStrictEqual(a.contents, [])
      await a.until(() => (a.contents.length === 2 ? true : undefined))
      assert.deepStrictEqual(a.contents, ["1", "2"])
      await set(cloud, { at: "deliver", does: "cut", times: 1 })
      await inject(cloud, "3")
      await a.end()
      assert.strictEqual((await run(cloud.view("alice"))).mail.waiting, 3)
    })
  )

  it.live("acknowledgements and requests to fill gaps can be lost", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      await inject(cloud, "1")
      await set(cloud, { at: "delivery_ack", does: "lose", times: 1 })
      await set(cloud, { at: "gap_fill", does: "lose", times: 1 })
      a.ack(1)
      a.send({ event: "REQUEST_GAP_FILL", sinceSeq: 0 })
      await soon()
      assert.strictEqual((await run(cloud.view("alice"))).mail.waiting, 1)
      assert.deepStrictEqual(a.contents, ["1"])
      a.send({ event: "REQUEST_GAP_FILL", sinceSeq: 0 })
      await a.until(() => (a.contents.length === 2 ? true : undefined))
    })
  )

  it.live("any frame can be sent, and the cursor announced", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      await run(cloud.frame({ account: "alice", frame: { event: "ERROR", code: "x", message: "y" } }))
      assert.deepStrictEqual(await a.next(), { event: "ERROR", code: "x", message: "y" })
      await run(cloud.frame({ account: "alice", frame: "{" }))
      await a.until(() => a.nonsense[0])
      await run(cloud.announce("alice"))
      assert.deepStrictEqual(await a.next(), { event: "DELIVERY_CURSOR", deliverySeq: 0, deliveredSeq: 0 })
    })
  )
})

describe("faults of the platform", () => {
  it.live("refuse answers any status, a number of times, one call or all, one account or all", () =>
    withCloud(async (cloud) => {
      const status = async (name: string, path = "/whoami") => (await call(cloud, name, "GET", path)).status
      await set(cloud, { at: "whoami", does: "refuse", account: "alice", times: 2 })
      assert.deepStrictEqual(
        [await status("bob"), await status("alice", "/runtime-endpoints"), await status("alice")],
        [200, 200, 503]
      )
      assert.deepStrictEqual([await status("alice"), await status("alice")], [503, 200])
      await set(cloud, { at: "platform", does: "refuse", status: 429, code: "slow_down", retry_after: "7" })
      const refused = await call(cloud, "bob", "POST", "/runtime-endpoints", {})
      assert.deepStrictEqual(
        [refused.status, refused.body.error, refused.headers.get("retry-after")],
        [429, "slow_down", "7"]
      )
      await run(cloud.clear())
      await set(cloud, { at: "presence_changed", does: "refuse", status: 200 })
      assert.strictEqual((await call(cloud, "bob", "POST", "/runtime/network-presence-changed", {})).status, 200)
      assert.isNull((await run(cloud.view("bob"))).presence)
    })
  )

  it.live("lose and hold leave a call that was done without answer; cut leaves it undone", () =>
    withCloud(async (cloud) => {
      const body = { runtime_kind: "x", endpoint_nonce: "n", display_label: "x" }
      const attempt = (signal?: AbortSignal) => call(cloud, "alice", "POST", "/runtime-endpoints", body, signal)
      const outcome = (promise: Promise<unknown>) =>
        promise.then(
          () => "answered",
          (error) => error.name
        )
      await set(cloud, { at: "register_endpoint", does: "cut", times: 1 })
      assert.strictEqual(await outcome(attempt()), "TypeError")
      assert.lengthOf((await run(cloud.view("alice"))).endpoints, 0)
      await set(cloud, { at: "register_endpoint", does: "lose", times: 1 })
      assert.strictEqual(await outcome(attempt(AbortSignal.timeout(60))), "TimeoutError")
      assert.lengthOf((await run(cloud.view("alice"))).endpoints, 1)
      const hold = await set(cloud, { at: "platform", does: "hold" })
      const waiting = attempt()
      await soon()
      const [last] = (await run(cloud.happened({ call: "register_endpoint" }))).slice(-1)
      assert.deepInclude(last, { status: null })
      await run(cloud.clear(hold.id))
      assert.strictEqual((await waiting).status, 201)
      assert.lengthOf((await run(cloud.view("alice"))).endpoints, 1)
    })
  )

  it.live("delay answers late, malformed answers what is no JSON", () =>
    withCloud(async (cloud) => {
      await set(cloud, { at: "whoami", does: "delay", ms: 80, times: 1 })
      const before = Date.now()
      assert.strictEqual((await call(cloud, "alice", "GET", "/whoami")).status, 200)
      assert.isAtLeast(Date.now() - before, 75)
      await set(cloud, { at: "whoami", does: "malformed", times: 1 })
      const garbled = await call(cloud, "alice", "GET", "/whoami")
      assert.deepStrictEqual([garbled.status, garbled.body], [200, undefined])
    })
  )

  it.live("subscriptions can be refused, and control events held back, repeated, garbled, cut", () =>
    withCloud(async (cloud) => {
      await set(cloud, { at: "control_events", does: "refuse", status: 401, times: 1 })
      assert.match(String(await Subscriber.open(cloud, "alice").catch(String)), /401/)
      const one = await Subscriber.open(cloud, "alice")
      const send = (type: string) => run(cloud.control({ account: "alice", event: { type } }))
      const hold = await set(cloud, { at: "event", does: "hold" })
      await send("a")
      await soon()
      assert.lengthOf(one.events, 0)
      await run(cloud.clear(hold.id))
      await one.count(1)
      await set(cloud, { at: "event", does: "duplicate", times: 1 })
      await send("b")
      await one.count(3)
      await set(cloud, { at: "event", does: "malformed", times: 1 })
      await send("c")
      assert.deepInclude((await one.count(5))[3], { data: "{no JSON" })
      await set(cloud, { at: "event", does: "cut", times: 1 })
      await send("d")
      for (let n = 0; n < 100 && !one.isEnded; n++) await soon(10)
      assert.isTrue(one.isEnded)
    })
  )
})
