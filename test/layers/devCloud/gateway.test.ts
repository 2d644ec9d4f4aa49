import { assert, describe, it } from "@effect/vitest"
import { accountOf, Runtime, run, runtime, soon, withCloud } from "./kit.js"

const bob = "mstp://dev/bob"

describe("registration", () => {
  it.live("answers who the account is and where its mailbox stands", () =>
    withCloud(async (cloud) => {
      const one = await new Runtime(accountOf(cloud, "alice")).opened
      one.register()
      assert.deepStrictEqual(await one.next(), {
        event: "REGISTER_ACK",
        status: "ok",
        protocolVersion: 4,
        agent: { handle: "alice", name: "alice" },
        owner: { handle: "developer", displayName: "Developer" },
        deliverySeq: 0
      })
    })
  )

  it.live("refuses an unknown token and another protocol version, and closes with the reason", () =>
    withCloud(async (cloud) => {
      for (const [fields, reason] of [
        [{ token: "nobody" }, "Invalid token"],
        [{ protocolVersion: 5 }, "Unsupported protocol version"]
      ] as const) {
        const one = await new Runtime(accountOf(cloud, "alice")).opened
        one.register(fields)
        assert.deepInclude(await one.next(), { event: "REGISTER_ACK", status: "error", reason })
        assert.deepStrictEqual(await one.end(), { code: 4001, reason })
      }
    })
  )

  it.live("lets a second runtime replace the first, or refuses it while the first is open", () =>
    withCloud(async (cloud) => {
      const first = await runtime(cloud, "alice")
      const second = await runtime(cloud, "alice")
      assert.deepStrictEqual(await first.end(), { code: 4001, reason: "Replaced by new Runtime" })

      await run(cloud.configure({ account: "alice", second: "refuse" }))
      const third = await new Runtime(accountOf(cloud, "alice")).opened
      third.register()
      assert.deepInclude(await third.next(), { status: "error", reason: "Already connected" })
      assert.isUndefined(second.closed)
      second.socket.close()
      await second.end()
      await runtime(cloud, "alice")
    })
  )

  it.live("echoes a runtime session on every delivery", () =>
    withCloud(async (cloud) => {
      const one = await new Runtime(accountOf(cloud, "alice")).opened
      one.register({ runtimeSessionId: " night " })
      assert.deepInclude(await one.next(), { status: "ok", deliveryRuntimeSessionId: "night" })
      await run(cloud.inject({ account: "alice", content: "x" }))
      assert.deepInclude(await one.next(), { event: "MESSAGE_RECEIVED", runtimeSessionId: "night" })
    })
  )
})

describe("messages between accounts", () => {
  it.live("go out, are answered, and come in numbered with the sender's address", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      const b = await runtime(cloud, "bob")
      a.message("m1", bob, "hi", { correlation_id: "c1" })
      assert.deepStrictEqual(await a.next(), { event: "SEND_ACK", messageId: "m1", status: "delivered" })
      const { sentAt, ...received } = await b.next()
      assert.deepStrictEqual(received, {
        event: "MESSAGE_RECEIVED",
        messageId: "m1",
        from: "mstp://dev/alice",
        content: "hi",
        contentType: "text",
        metadata: { correlation_id: "c1" },
        seq: 1
      })
      assert.strictEqual(new Date(sentAt).toISOString(), sentAt)
      a.message("m2", `${bob}/ep%201`)
      assert.deepInclude((await b.next()).metadata, { target_endpoint_id: "ep 1" })
    })
  )

  it.live("wait for a runtime that is away, and come again until they are acknowledged", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      for (const id of ["m1", "m2", "m3"]) a.message(id, bob)
      for (let n = 0; n < 3; n++) assert.deepInclude(await a.next(), { event: "SEND_ACK", status: "stored" })

      const first = await runtime(cloud, "bob")
      await first.until(() => (first.contents.length === 3 ? true : undefined))
      first.ack(1)
      assert.deepInclude(await a.next(), { event: "DELIVERY_STATUS", messageId: "m1", status: "delivered" })
      first.socket.terminate()
      await soon()

      const second = await runtime(cloud, "bob", { lastKnownSeq: 1 })
      assert.deepStrictEqual([(await second.next()).seq, (await second.next()).seq], [2, 3])
      second.ack(3)
      await a.nextOf("DELIVERY_STATUS")
      await a.nextOf("DELIVERY_STATUS")
      assert.deepStrictEqual((await run(cloud.view("bob"))).mail, { last_seq: 3, acknowledged_seq: 3, waiting: 0 })
    })
  )

  it.live("are not sent after the runtime's own cursor, even when the acknowledgement was lost", () =>
    withCloud(async (cloud) => {
      for (const content of ["1", "2", "3"]) await run(cloud.inject({ account: "alice", content }))
      const one = await runtime(cloud, "alice", { lastKnownSeq: 2 })
      assert.strictEqual((await one.next()).seq, 3)
      assert.strictEqual(one.frames[0].deliverySeq, 0)
    })
  )

  it.live("sent twice under one id are delivered once and answered alike", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      a.message("m1", bob)
      a.message("m1", bob)
      assert.deepStrictEqual(
        [await a.next(), await a.next()].map(({ status }) => status),
        ["stored", "stored"]
      )
      assert.strictEqual((await run(cloud.view("bob"))).mail.last_seq, 1)
    })
  )

  it.live("are rejected with a code when the recipient is unknown or must be there", () =>
    withCloud(async (cloud) => {
      const a = await runtime(cloud, "alice")
      a.message("m1", "mstp://dev/nobody")
      assert.deepInclude(await a.next(), {
        event: "ERROR",
        code: "recipient_unknown",
        messageId: "m1",
        to: "mstp://dev/nobody"
      })
      a.message("m2", "mstp://elsewhere.example/bob")
      assert.deepInclude(await a.next(), { code: "recipient_unknown", messageId: "m2" })
      a.message("m3", bob, "now", { require_live: true })
      assert.deepInclude(await a.next(), { code: "recipient_not_live", messageId: "m3" })
      assert.strictEqual((await run(cloud.view("bob"))).mail.last_seq, 0)
    })
  )
})

describe("the cursor", () => {
  it.live("fills a gap from where it is asked, and tells a runtime that is behind", () =>
    withCloud(async (cloud) => {
      for (const content of ["1", "2", "3"]) await run(cloud.inject({ account: "alice", content }))
      const one = await runtime(cloud, "alice")
      await one.until(() => (one.contents.length === 3 ? true : undefined))
      one.send({ event: "REQUEST_GAP_FILL", sinceSeq: 1 })
      await one.until(() => (one.contents.length === 5 ? true : undefined))
      assert.deepStrictEqual(one.contents, ["1", "2", "3", "2", "3"])
      one.ack(2)
      await soon()
      const again = await runtime(cloud, "alice", { lastKnownSeq: 0 })
      assert.strictEqual(again.frames[0].deliverySeq, 2)
      assert.deepInclude(await again.next(), { event: "DELIVERY_CURSOR", deliverySeq: 3, deliveredSeq: 2 })
      assert.strictEqual((await again.next()).seq, 3)
    })
  )

  it.live("of a runtime that knew an earlier cloud is taken over, and what waits gets later numbers", () =>
    withCloud(async (cloud) => {
      await run(cloud.inject({ account: "alice", content: "x" }))
      const one = await runtime(cloud, "alice", { lastKnownSeq: 70 })
      assert.strictEqual(one.frames[0].deliverySeq, 70)
      assert.strictEqual((await one.next()).seq, 71)
    })
  )

  it.live("skips what the owner dismissed, live and when it is asked for later", () =>
    withCloud(async (cloud) => {
      const one = await runtime(cloud, "alice")
      const { message_id } = await run(cloud.inject({ account: "alice", content: "x" }))
      await one.next()
      await run(cloud.skip({ account: "alice", seq: 1 }))
      const skip = { event: "DELIVERY_SKIP", seq: 1, reason: "runtime_mailbox_dismissed", messageId: message_id }
      assert.deepStrictEqual(await one.next(), skip)
      one.send({ event: "REQUEST_GAP_FILL", sinceSeq: 0 })
      assert.deepStrictEqual(await one.next(), skip)
      const error = await run(cloud.skip({ account: "alice", seq: 2 })).catch((error) => error)
      assert.match(String(error), /number 2/)
    })
  )

  it.live("is announced, and nothing sent unasked, where the account is set so", () =>
    withCloud(async (cloud) => {
      await run(cloud.configure({ account: "alice", backlog: "announce" }))
      await run(cloud.inject({ account: "alice", content: "x" }))
      const one = await runtime(cloud, "alice")
      assert.deepInclude(await one.next(), { event: "DELIVERY_CURSOR", deliverySeq: 1, deliveredSeq: 0 })
      await soon()
      assert.deepStrictEqual(one.contents, [])
      one.send({ event: "REQUEST_GAP_FILL", sinceSeq: 0 })
      assert.strictEqual((await one.next()).seq, 1)
    })
  )

  it.live("of the older form has no numbers: DELIVERY_PENDING says what to acknowledge", () =>
    withCloud(async (cloud) => {
      await run(cloud.configure({ account: "alice", form: "pending" }))
      for (const content of ["1", "2"]) await run(cloud.inject({ account: "alice", content }))
      const one = await runtime(cloud, "alice")
      assert.notProperty(one.frames[0], "deliverySeq")
      assert.notProperty(await one.next(), "seq")
      await one.next()
      assert.deepStrictEqual(await one.next(), { event: "DELIVERY_PENDING", count: 2, upTo: "cur-2" })
      one.send({ event: "DELIVERY_ACK", upTo: "cur-2" })
      await one.until(() => (one.frames.length === 4 ? true : undefined))
      await soon()
      assert.strictEqual((await run(cloud.view("alice"))).mail.waiting, 0)
    })
  )
})

describe("what a client should not send", () => {
  it.live("is answered with an error and ends nothing", () =>
    withCloud(async (cloud) => {
      const one = await new Runtime(accountOf(cloud, "alice")).opened
      one.ack(1)
      assert.deepInclude(await one.next(), { event: "ERROR", code: "not_registered" })
      one.register()
      await one.nextOf("REGISTER_ACK")
      const wrong = [
        "{",
        "null",
        "[]",
        '"x"',
        {},
        { event: "NEW" },
        { event: "REGISTER" },
        { event: "DELIVERY_ACK", upToSeq: -1 },
        { event: "DELIVERY_ACK", upToSeq: 1.5 },
        { event: "DELIVERY_ACK" },
        { event: "REQUEST_GAP_FILL", sinceSeq: "1" },
        { event: "SEND_MESSAGE" },
        { event: "TYPING" }
      ]
      for (const frame of wrong) {
        one.send(frame)
        assert.deepInclude(await one.next(), { event: "ERROR", code: "invalid_frame" })
      }
      one.socket.send(Buffer.from([1, 2]), { binary: true })
      assert.deepInclude(await one.next(), { code: "invalid_frame" })
      one.send({ event: "SEND_MESSAGE", messageId: "m1", to: bob, content: 1 })
      assert.deepInclude(await one.next(), { code: "invalid_frame", messageId: "m1" })
      one.send({ event: "SEND_MESSAGE", messageId: "m1", to: bob, content: "", metadata: [] })
      assert.deepInclude(await one.next(), { code: "invalid_frame", messageId: "m1" })
      one.ack(9)
      assert.deepInclude(await one.next(), { code: "ack_out_of_range" })
      one.register()
      assert.deepInclude(await one.next(), { code: "already_registered" })
      one.message("m1", "mstp://dev/%zz")
      assert.deepInclude(await one.next(), { code: "recipient_unknown" })
      one.send({ event: "TYPING", to: bob, isTyping: true })
      one.message("m2", bob)
      assert.deepInclude(await one.next(), { event: "SEND_ACK", messageId: "m2" })
    })
  )

  it.live("a frame over 16 MiB ends its connection only", () =>
    withCloud(async (cloud) => {
      const one = await runtime(cloud, "alice")
      const other = await runtime(cloud, "bob")
      one.message("m1", bob, "x".repeat(17 * 1024 * 1024))
      assert.strictEqual((await one.end()).code, 1009)
      other.message("m2", "mstp://dev/alice")
      assert.deepInclude(await other.next(), { event: "SEND_ACK", status: "stored" })
    })
  )
})
