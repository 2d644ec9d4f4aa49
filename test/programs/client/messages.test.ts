import { assert, describe, it } from "@effect/vitest"
import { BrokerClient, type ReceivedMessage } from "../../../src/programs/client.js"
import { FakeBroker, type FakeStream, push, until } from "../../kit/FakeBroker.js"
import { connected, quick } from "../../kit/sdk.js"

const receipts = ({ frames }: FakeStream) => frames.map(({ event, push_id }) => `${event} ${push_id}`)
/** What the client sent before this comes after it: once the broker has answered, earlier frames were read. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 50))
const contents = (messages: ReadonlyArray<ReceivedMessage>) => messages.map(({ content }) => content)

/** A promise, and what fulfils it. */
const gate = () => {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

describe("a message", () => {
  it("reaches listeners without the frame's own fields, and is acknowledged after they ran", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    const seen: Array<unknown> = []
    client.on("message_received", (message) => seen.push([message, receipts(broker.stream)]))
    broker.stream.send(push(1, { metadata: { correlation_id: "c" }, redelivered: true }))
    await until(() => broker.stream.frames.length === 1)
    const { event: _, push_id: __, ...message } = push(1, { metadata: { correlation_id: "c" }, redelivered: true })
    assert.deepStrictEqual(seen, [[message, []]])
    assert.deepStrictEqual(receipts(broker.stream), ["push_ack push 1"])
  })

  it("A20: waits without a receipt while nobody takes messages, and is handed over in order when somebody does", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    for (const n of [1, 2, 3]) broker.stream.send(push(n))
    await client.listUndispatched()
    await settled()
    assert.deepStrictEqual(broker.stream.frames, [])
    const seen: Array<ReceivedMessage> = []
    client.on("message_received", (message) => seen.push(message))
    await until(() => broker.stream.frames.length === 3)
    assert.deepStrictEqual(contents(seen), ["message 1", "message 2", "message 3"])
    assert.deepStrictEqual(receipts(broker.stream), ["push_ack push 1", "push_ack push 2", "push_ack push 3"])
  })

  it("A20: is acknowledged when the handler's promise is fulfilled, and the next one is handed over then", async () => {
    const broker = await FakeBroker.start()
    const first = gate()
    const began: Array<string> = []
    const client = await connected(broker.place, {
      onMessage: async ({ content }) => {
        began.push(content)
        if (content === "message 1") await first.opened
      }
    })
    broker.stream.send(push(1))
    broker.stream.send(push(2))
    await until(() => began.length === 1)
    await client.listUndispatched()
    await settled()
    assert.deepStrictEqual(began, ["message 1"])
    assert.deepStrictEqual(broker.stream.frames, [])
    first.open()
    await until(() => broker.stream.frames.length === 2)
    assert.deepStrictEqual(receipts(broker.stream), ["push_ack push 1", "push_ack push 2"])
  })

  it("is refused with the reason when the handler fails, and handled again when it comes again", async () => {
    const broker = await FakeBroker.start()
    let calls = 0
    const client = await connected(broker.place, {
      onMessage: async () => {
        if (++calls === 1) throw new Error("the disk is full")
      }
    })
    broker.stream.send(push(1))
    await until(() => broker.stream.frames.length === 1)
    assert.deepStrictEqual(broker.stream.frames, [
      { event: "push_nack", push_id: "push 1", reason: "the disk is full" }
    ])
    assert.deepStrictEqual(
      client.errors.map(({ message }) => message),
      ["the disk is full"]
    )
    broker.stream.send(push(1, { push_id: "push 1 again" }))
    await until(() => broker.stream.frames.length === 2)
    assert.strictEqual(calls, 2)
    assert.deepStrictEqual(receipts(broker.stream), ["push_nack push 1", "push_ack push 1 again"])
  })

  it("is refused when a listener throws", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    client.on("message_received", () => {
      throw new Error("not now")
    })
    broker.stream.send(push(1))
    await until(() => broker.stream.frames.length === 1)
    assert.deepStrictEqual(broker.stream.frames, [{ event: "push_nack", push_id: "push 1", reason: "not now" }])
  })

  it("has one handler at a time", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    const remove = client.onMessage(() => undefined)
    assert.throws(() => client.onMessage(() => undefined), /one onMessage or one loop/)
    remove()
    client.onMessage(() => undefined)
  })
})

describe("B11: a message that comes again", () => {
  it("after it was acknowledged is only acknowledged again", async () => {
    const broker = await FakeBroker.start()
    const seen: Array<ReceivedMessage> = []
    const client = await connected(broker.place, { onMessage: (message) => void seen.push(message) })
    broker.stream.send(push(1))
    await until(() => broker.stream.frames.length === 1)
    broker.stream.socket.terminate()
    await until(() => broker.streams.length === 2)
    broker.stream.send(push(1, { push_id: "again", redelivered: true }))
    await until(() => broker.stream.frames.length === 1)
    assert.deepStrictEqual(receipts(broker.stream), ["push_ack again"])
    assert.strictEqual(seen.length, 1)
    assert.strictEqual(client.connectionState.phase, "connected")
  })

  it("while it is in hand is acknowledged once, for its latest push, on the stream that is open", async () => {
    const broker = await FakeBroker.start()
    const busy = gate()
    let calls = 0
    await connected(broker.place, {
      onMessage: () => {
        calls++
        return busy.opened
      }
    })
    broker.stream.send(push(1))
    await until(() => calls === 1)
    broker.stream.socket.terminate()
    await until(() => broker.streams.length === 2)
    broker.stream.send(push(1, { push_id: "again", redelivered: true }))
    await settled()
    busy.open()
    await until(() => broker.stream.frames.length === 1)
    assert.deepStrictEqual(receipts(broker.stream), ["push_ack again"])
    assert.strictEqual(calls, 1)
  })

  it("before it was handed over is handed over once, in its place", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    for (const n of [1, 2]) broker.stream.send(push(n))
    await client.listUndispatched()
    broker.stream.socket.terminate()
    await until(() => broker.streams.length === 2)
    for (const n of [1, 2, 3]) broker.stream.send(push(n, { push_id: `again ${n}` }))
    await client.listUndispatched()
    await settled()
    const seen: Array<ReceivedMessage> = []
    client.onMessage((message) => void seen.push(message))
    await until(() => broker.stream.frames.length === 3)
    assert.deepStrictEqual(contents(seen), ["message 1", "message 2", "message 3"])
    assert.deepStrictEqual(receipts(broker.stream), ["push_ack again 1", "push_ack again 2", "push_ack again 3"])
  })

  it("because its owner dispatched it is another delivery", async () => {
    const broker = await FakeBroker.start()
    const seen: Array<ReceivedMessage> = []
    await connected(broker.place, { onMessage: (message) => void seen.push(message) })
    broker.stream.send(push(1))
    broker.stream.send(push(1, { push_id: "dispatched", metadata: { dispatched_from: "id 1" } }))
    await until(() => broker.stream.frames.length === 2)
    assert.strictEqual(seen.length, 2)
  })
})

describe("the loop over messages", () => {
  it("acknowledges a message when the next one is asked for", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    const messages = client.messages()
    const first = messages.next()
    for (const n of [1, 2]) broker.stream.send(push(n))
    assert.strictEqual((await first).value?.content, "message 1")
    await client.listUndispatched()
    await settled()
    assert.deepStrictEqual(broker.stream.frames, [])
    assert.strictEqual((await messages.next()).value?.content, "message 2")
    await until(() => broker.stream.frames.length === 1)
    assert.deepStrictEqual(receipts(broker.stream), ["push_ack push 1"])
  })

  it("puts the message it holds back when it is left, and the next taker gets it first", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    for (const n of [1, 2]) broker.stream.send(push(n))
    for await (const { content } of client.messages()) {
      assert.strictEqual(content, "message 1")
      break
    }
    const seen: Array<ReceivedMessage> = []
    client.onMessage((message) => void seen.push(message))
    await until(() => broker.stream.frames.length === 2)
    assert.deepStrictEqual(contents(seen), ["message 1", "message 2"])
    assert.deepStrictEqual(receipts(broker.stream), ["push_ack push 1", "push_ack push 2"])
  })

  it("leaves it to the message itself to be acknowledged earlier, or refused", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    for (const n of [1, 2]) broker.stream.send(push(n))
    for await (const message of client.messages()) {
      if (message.content === "message 1") message.refuse("too early")
      else {
        message.acknowledge()
        break
      }
    }
    await until(() => broker.stream.frames.length === 2)
    assert.deepStrictEqual(broker.stream.frames, [
      { event: "push_nack", push_id: "push 1", reason: "too early" },
      { event: "push_ack", push_id: "push 2" }
    ])
    assert.deepStrictEqual(client.errors, [])
  })

  it("ends when the client is closed, and fails with the reason of its signal", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    const controller = new AbortController()
    const aborted = client.messages({ signal: controller.signal }).next()
    controller.abort(new Error("enough"))
    await aborted.then(
      () => assert.fail("it did not fail"),
      ({ message }) => assert.strictEqual(message, "enough")
    )
    const closed = client.messages().next()
    await settled()
    await client.close()
    assert.deepStrictEqual(await closed, { done: true, value: undefined })
  })
})

describe("C8: frames and listeners", () => {
  it("that are no JSON, unknown or malformed end neither the process nor the stream, without any listener", async () => {
    const broker = await FakeBroker.start()
    const client = BrokerClient.at(broker.place)
    await client.connect(quick)
    const warnings: Array<Error> = []
    const hear = (warning: Error) => void warnings.push(warning)
    process.on("warning", hear)
    for (const frame of ["no JSON", "[]", "null", '"text"', { event: "news" }, {}, { event: "presence_changed" }]) {
      broker.stream.send(frame)
    }
    broker.stream.send({ event: "message_received" })
    broker.stream.socket.send(Buffer.from([1, 2, 3]), { binary: true })
    for (const frame of [{ event: "send_result" }, { event: "send_result", request_id: "no such", status: 200 }]) {
      broker.stream.send(frame)
    }
    broker.stream.send({ event: "presence_changed", presence: "offline" })
    await until(() => client.networkPresence === "offline")
    assert.strictEqual(broker.openStreams, 1)
    await settled()
    assert.deepStrictEqual(warnings, [])
    process.off("warning", hear)
    await client.close()
  })

  it("that are no JSON are errors for whom it interests", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    broker.stream.send("no JSON")
    await until(() => client.errors.length === 1)
    assert.match(client.errors[0]!.message, /a frame of 7 characters that is no JSON object/)
  })

  it("that throw do not stop the client", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    for (const event of ["disconnected", "connectionstate", "presence"] as const) {
      client.on(event, () => {
        throw new Error(`a listener of ${event}`)
      })
    }
    broker.stream.send({ event: "presence_changed", presence: "offline", reason: "gone" })
    broker.stream.socket.terminate()
    await until(() => client.errors.filter(({ message }) => message.startsWith("a listener of")).length === 4)
    await until(() => client.connectionState.phase === "connected")
  })

  it("an error listener that throws, too, is a warning", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    client.removeAllListeners("error")
    client.on("error", () => {
      throw new Error("the listener of errors")
    })
    const warnings: Array<Error> = []
    const hear = (warning: Error) => void warnings.push(warning)
    process.on("warning", hear)
    broker.stream.send("no JSON")
    await until(() => warnings.some(({ message }) => message === "the listener of errors"))
    process.off("warning", hear)
  })
})
