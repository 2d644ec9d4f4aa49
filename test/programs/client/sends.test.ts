import { assert, describe, it } from "@effect/vitest"
import {
  BrokerRefusedError,
  ConnectorSendOutcomeUnknownError,
  ConnectorUnavailableError
} from "../../../src/programs/client.js"
import { allCapabilities, FakeBroker, type FakeReply, type FakeStream, until } from "../../kit/FakeBroker.js"
import { connected } from "../../kit/sdk.js"

const posts = (broker: FakeBroker) => broker.calls("POST", "/v1/send").map(({ body }) => body)
const withoutKeys = { ...allCapabilities, send_idempotency_v1: false }
const withStream = { ...allCapabilities, stream_send_v1: true }

const failure = (promise: Promise<unknown>): Promise<any> =>
  promise.then(
    (value) => assert.fail(`it succeeded with ${JSON.stringify(value)}`),
    (error) => error
  )

const answer = (stream: FakeStream, frame: any, status = 200, body: unknown = undefined) =>
  stream.send({
    event: "send_result",
    request_id: frame.request_id,
    status,
    body: body ?? { messageId: `sent ${frame.content}`, status: "delivered" }
  })

const session = async (broker: FakeBroker, options: Parameters<typeof connected>[1] = {}) => {
  const client = await connected(broker.place, options)
  await client.registerEndpoint({ kind: "test" })
  return client
}

/** The first of these requests gets this reply. */
const once = (broker: FakeBroker, path: string, reply: FakeReply) => {
  let isOver = false
  broker.replies = (request) => {
    if (request.path !== path || isOver) return undefined
    isOver = true
    return reply
  }
}

describe("a message that is sent", () => {
  it("goes with the fields that were given, and a key of its own", async () => {
    const broker = await FakeBroker.start()
    const client = await session(broker)
    assert.deepStrictEqual(await client.send("ep_1", "local:to", "text"), {
      messageId: "sent text",
      status: "delivered"
    })
    await client.send(
      "ep_1",
      "local:to",
      "text",
      "markdown",
      { in_reply_to: "c" },
      {
        idempotencyKey: "mine",
        requireLive: true,
        store: true
      }
    )
    const [plain, full] = posts(broker)
    const { idempotency_key, ...rest } = plain
    assert.match(idempotency_key, /^[0-9a-f-]{36}$/)
    assert.deepStrictEqual(rest, { endpoint_id: "ep_1", to: "local:to", content: "text", contentType: "text" })
    assert.deepStrictEqual(full, {
      endpoint_id: "ep_1",
      to: "local:to",
      content: "text",
      contentType: "markdown",
      metadata: { in_reply_to: "c" },
      require_live: true,
      store: true,
      idempotency_key: "mine"
    })
  })

  it("has no key made up for a broker that does not know keys", async () => {
    const broker = await FakeBroker.start()
    broker.capabilities = withoutKeys
    const client = await session(broker)
    await client.send("ep_1", "local:to", "text")
    assert.deepStrictEqual(posts(broker), [
      { endpoint_id: "ep_1", to: "local:to", content: "text", contentType: "text" }
    ])
  })

  it("fails as the broker says", async () => {
    const broker = await FakeBroker.start()
    const client = await session(broker)
    const refusals = [
      [503, "connector_unavailable", ConnectorUnavailableError, true],
      [503, "connector_send_outcome_unknown", ConnectorSendOutcomeUnknownError, false],
      [502, "connector_rejected", BrokerRefusedError, false],
      [404, "unknown_endpoint", BrokerRefusedError, false]
    ] as const
    for (const [status, code, type, retryable] of refusals) {
      once(broker, "/v1/send", { status, body: { error: code, message: `a sentence on ${code}` } })
      const before = posts(broker).length
      const error = await failure(client.send("ep_1", "local:to", "text"))
      assert.instanceOf(error, type)
      assert.strictEqual(error.code, code)
      assert.strictEqual(error.retryable, retryable)
      assert.include(error.message, `a sentence on ${code}`)
      assert.strictEqual(posts(broker).length, before + 1)
    }
  })

  it("and not answered for because the connection broke is sent again under the same key", async () => {
    const broker = await FakeBroker.start()
    const client = await session(broker)
    once(broker, "/v1/send", "reset")
    assert.deepInclude(await client.send("ep_1", "local:to", "text"), { messageId: "sent text" })
    const [first, second] = posts(broker)
    assert.deepStrictEqual(first, second)
    assert.isString(first.idempotency_key)
  })

  it("to a broker that went silent is sent again to the next one, without waiting for an answer", async () => {
    const silent = await FakeBroker.start()
    const next = await FakeBroker.start()
    next.endpoints.set("ep_1", "token of ep_1")
    let { place } = silent
    const client = await connected(async () => place)
    await client.registerEndpoint({ kind: "test" })
    silent.replies = () => "hang"
    const sent = client.send("ep_1", "local:to", "text")
    await until(() => posts(silent).length === 1)
    place = next.place
    silent.stream.socket.terminate()
    assert.deepInclude(await sent, { messageId: "sent text" })
    assert.deepStrictEqual(posts(next), posts(silent))
  })

  it("is not sent again without a key the broker knows: the outcome is unknown", async () => {
    const broker = await FakeBroker.start()
    broker.capabilities = withoutKeys
    const client = await session(broker)
    once(broker, "/v1/send", "reset")
    assert.instanceOf(await failure(client.send("ep_1", "local:to", "text")), ConnectorSendOutcomeUnknownError)
    assert.strictEqual(posts(broker).length, 1)
  })

  it("is not sent again as another endpoint, whose keys are others", async () => {
    const broker = await FakeBroker.start()
    const client = await session(broker)
    broker.replies = ({ path }) => {
      if (path !== "/v1/send") return undefined
      broker.endpoints.delete("ep_1")
      return "reset"
    }
    assert.instanceOf(await failure(client.send("ep_1", "local:to", "text")), ConnectorSendOutcomeUnknownError)
    assert.strictEqual(posts(broker).length, 1)
  })

  it("waits for the connection, and is tried no longer than it may", async () => {
    const broker = await FakeBroker.start()
    const client = await session(broker)
    const { port } = broker
    await broker.stop()
    await until(() => client.connectionState.phase === "reconnecting")
    const error = await failure(client.send("ep_1", "local:to", "too late", "text", {}, { retryForMs: 200 }))
    assert.match(error.message, /could not be reached within 200 ms/)
    assert.isTrue(error.retryable)
    const sent = client.send("ep_1", "local:to", "in time")
    await broker.listen(port)
    assert.deepInclude(await sent, { messageId: "sent in time" })
  })

  it("waits for its endpoint to be back, and asks for it when the broker says it is away", async () => {
    const broker = await FakeBroker.start()
    const client = await session(broker)
    once(broker, "/v1/send", { status: 409, body: { error: "endpoint_not_active", message: "Its plugin is away." } })
    await client.send("ep_1", "local:to", "text")
    const paths = broker.requests.map(({ path }) => path).slice(2)
    assert.deepStrictEqual(paths, ["/v1/send", "/v1/endpoint/ep_1/reattach", "/v1/send"])
  })

  it("is taken by the next broker when this one is leaving", async () => {
    const broker = await FakeBroker.start()
    const client = await session(broker)
    once(broker, "/v1/send", { status: 503, body: { error: "broker_draining", message: "Leaving.", retryable: true } })
    assert.deepInclude(await client.send("ep_1", "local:to", "text"), { messageId: "sent text" })
  })
})

describe("a message that is sent over the stream", () => {
  const start = async () => {
    const broker = await FakeBroker.start()
    broker.capabilities = withStream
    return { broker, client: await session(broker) }
  }

  it("is a frame with the fields of the body and the owner token, answered under its request id", async () => {
    const { broker, client } = await start()
    broker.onFrame = answer
    const sent = client.send("ep_1", "local:to", "text", "text", { a: 1 }, { store: true })
    assert.deepStrictEqual(await sent, { messageId: "sent text", status: "delivered" })
    const { idempotency_key, request_id, ...frame } = broker.stream.frames[0]
    assert.isString(idempotency_key)
    assert.isString(request_id)
    assert.deepStrictEqual(frame, {
      event: "send",
      endpoint_owner_token: "token of ep_1",
      endpoint_id: "ep_1",
      to: "local:to",
      content: "text",
      contentType: "text",
      metadata: { a: 1 },
      store: true
    })
    assert.deepStrictEqual(posts(broker), [])
  })

  it("goes in the order of the calls, and each gets its own answer, in whatever order they come", async () => {
    const { broker, client } = await start()
    const numbers = Array.from({ length: 300 }, (_, n) => String(n))
    const held: Array<any> = []
    broker.onFrame = (stream, frame) => {
      held.push(frame)
      if (held.length % 20 === 0) for (const each of held.splice(0).reverse()) answer(stream, each)
    }
    const answers = await Promise.all(numbers.map((n) => client.send("ep_1", "local:to", n)))
    assert.deepStrictEqual(
      answers.map(({ messageId }) => messageId),
      numbers.map((n) => `sent ${n}`)
    )
    assert.deepStrictEqual(
      broker.stream.frames.map(({ content }) => content),
      numbers
    )
  })

  it("is refused as by the route", async () => {
    const { broker, client } = await start()
    broker.onFrame = (stream, frame) =>
      answer(stream, frame, 503, { error: "connector_unavailable", message: "No link.", retryable: true })
    assert.instanceOf(await failure(client.send("ep_1", "local:to", "text")), ConnectorUnavailableError)
  })

  it("and not answered for when the stream ends is sent again by request, under the same key", async () => {
    const { broker, client } = await start()
    broker.onFrame = (stream) => stream.socket.terminate()
    const sent = client.send("ep_1", "local:to", "text")
    assert.deepInclude(await sent, { messageId: "sent text" })
    const [frame] = broker.streams[0]!.frames
    assert.deepStrictEqual(
      posts(broker).map(({ idempotency_key }) => idempotency_key),
      [frame.idempotency_key]
    )
  })

  it("is answered while the broker is leaving, and the next one waits for the next broker", async () => {
    const { broker, client } = await start()
    const first = client.send("ep_1", "local:to", "first")
    await until(() => broker.stream.frames.length === 1)
    const [frame] = broker.stream.frames
    const leaving = broker.stream
    leaving.send({ event: "broker_draining", retry_after_ms: 300 })
    await until(() => client.connectionState.phase === "reconnecting")
    const second = client.send("ep_1", "local:to", "second")
    answer(leaving, frame)
    assert.deepInclude(await first, { messageId: "sent first" })
    broker.onFrame = answer
    assert.deepInclude(await second, { messageId: "sent second" })
    assert.strictEqual(leaving.frames.length, 1)
    assert.strictEqual(broker.streams.length, 2)
  })

  it("is given up with the reason of its signal, and makes room for the next one", async () => {
    const { broker, client } = await start()
    const controller = new AbortController()
    const options = { signal: controller.signal }
    const given = Array.from({ length: 100 }, (_, n) =>
      failure(client.send("ep_1", "to", String(n), "text", {}, options))
    )
    await until(() => broker.stream.frames.length === 64)
    controller.abort(new Error("given up"))
    for (const error of await Promise.all(given)) assert.strictEqual(error.message, "given up")
    broker.onFrame = answer
    assert.deepInclude(await client.send("ep_1", "local:to", "next"), { messageId: "sent next" })
  })

  it("is a request when it is too large for a frame", async () => {
    const { broker, client } = await start()
    broker.onFrame = answer
    await client.send("ep_1", "local:to", "ä".repeat(40_000))
    assert.deepStrictEqual(broker.stream.frames, [])
    assert.strictEqual(posts(broker).length, 1)
  })
})
