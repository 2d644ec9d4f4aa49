import { createServer } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import {
  BrokerTimeoutError,
  BrokerUnreachableError,
  ClientClosedError,
  ClientStateError
} from "../../../src/programs/client.js"
import { FakeBroker, push, until } from "../../kit/FakeBroker.js"
import { connected, newClient, quick } from "../../kit/sdk.js"

/** What the promise failed with. */
const failure = (promise: Promise<unknown>): Promise<any> =>
  promise.then(
    (value) => assert.fail(`it succeeded with ${JSON.stringify(value)}`),
    (error) => error
  )

const unusedPort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

describe("connect", () => {
  it("does the handshake, opens the stream and says what it can", async () => {
    const broker = await FakeBroker.start()
    const client = newClient(broker.place)
    assert.strictEqual(client.connectionState.phase, "never_connected")
    const initialized = await client.connect({ ...quick, pluginPid: 4711, clientKind: "kind", clientVersion: "1.2.3" })
    assert.strictEqual(initialized.session_id, "session of the fake")
    const { body, headers } = broker.calls("POST", "/v1/initialize")[0]!
    assert.strictEqual(headers.authorization, "Bearer token of the fake")
    assert.deepInclude(body, { client_protocol_version: "1.1", client_kind: "kind", client_version: "1.2.3" })
    assert.strictEqual(broker.stream.headers["x-plugin-pid"], "4711")
    const announced = String(broker.stream.headers["x-masons-ipc-capabilities"]).split(",")
    assert.includeMembers(announced, [
      "endpoint_resume_v1",
      "endpoint_owner_token_v1",
      "push_receipt_ack_v1",
      "push_nack_v1",
      "endpoint_metadata_v1"
    ])
    assert.strictEqual(client.connectionState.phase, "connected")
    assert.strictEqual(client.sessionId, "session of the fake")
    assert.strictEqual(client.serverVersion, "runtime-broker/0.1.0")
    assert.strictEqual(client.networkPresence, "online")
    assert.strictEqual(client.ipcUrl, broker.place.ipcUrl)
    assert.strictEqual(client.serverCapabilities?.push_nack_v1, true)
    assert.strictEqual(client.spawnedNew, false)
  })

  it("is called once; calls before it say so", async () => {
    const broker = await FakeBroker.start()
    const client = newClient(broker.place)
    assert.instanceOf(await failure(client.send("ep_1", "to", "text")), ClientStateError)
    assert.instanceOf(await failure(client.listUndispatched()), ClientStateError)
    await client.connect(quick)
    assert.instanceOf(await failure(client.connect(quick)), ClientStateError)
  })

  it("fails when the broker is not there, and is made good in the background when it comes", async () => {
    const port = await unusedPort()
    const client = newClient({ ipcUrl: `http://127.0.0.1:${port}`, bearerToken: "token of the fake" })
    const error = await failure(client.connect(quick))
    assert.instanceOf(error, BrokerUnreachableError)
    assert.isTrue(error.surelyNotSent)
    assert.strictEqual(client.connectionState.phase, "never_connected")
    assert.match(String(client.connectionState.lastFailureReason), /ECONNREFUSED/)
    const listed = client.listUndispatched()
    await FakeBroker.start(port)
    assert.deepStrictEqual(await listed, { items: [] })
    assert.strictEqual(client.connectionState.phase, "connected")
  })

  it("fails with the broker's refusal of the stream, and comes again not before it may", async () => {
    const broker = await FakeBroker.start()
    broker.refusesStreams = { status: 429, headers: "retry-after: 1\r\n" }
    const client = newClient(broker.place)
    const began = Date.now()
    assert.strictEqual((await failure(client.connect(quick))).status, 429)
    broker.refusesStreams = undefined
    await until(() => client.connectionState.phase === "connected")
    assert.isAtLeast(Date.now() - began, 1_000)
  })
})

describe("a stream that is lost", () => {
  it("is opened again; listeners hear of it", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    const heard: Array<string> = []
    client.on("disconnected", () => heard.push("disconnected"))
    client.on("connectionstate", ({ lastFailureReason, phase }) => heard.push(`${phase} ${lastFailureReason}`))
    broker.stream.socket.terminate()
    await until(() => client.connectionState.phase === "connected" && broker.streams.length === 2)
    assert.deepStrictEqual(heard, ["disconnected", "reconnecting stream_closed", "connected stream_closed"])
  })

  it("is opened again after any number of failures, at the place where the broker then is", async () => {
    const first = await FakeBroker.start()
    let place = first.place
    let finds = 0
    const client = await connected(async () => {
      finds++
      return place
    })
    await first.stop()
    await until(() => finds >= 5)
    const second = await FakeBroker.start()
    place = second.place
    await until(() => client.connectionState.phase === "connected")
    assert.strictEqual(second.openStreams, 1)
    assert.strictEqual(client.ipcUrl, second.place.ipcUrl)
  })

  it("half-open, without a pong, is given up and opened again", async () => {
    const broker = await FakeBroker.start()
    broker.pongs = false
    const heartbeat = { heartbeatIntervalMs: 20, heartbeatTimeoutMs: 20, heartbeatMissesBeforeDisconnect: 2 }
    const client = await connected(broker.place, heartbeat)
    await until(() => broker.streams.length === 2)
    broker.pongs = true
    await until(() => client.connectionState.phase === "connected" && broker.openStreams === 1)
  })

  it("with pongs lives on", async () => {
    const broker = await FakeBroker.start()
    let pings = 0
    const heartbeat = { heartbeatIntervalMs: 10, heartbeatTimeoutMs: 5_000, heartbeatMissesBeforeDisconnect: 1 }
    await connected(broker.place, heartbeat)
    broker.stream.socket.on("ping", () => pings++)
    await until(() => pings >= 10)
    assert.strictEqual(broker.streams.length, 1)
  })

  it("that misses a pong now and then lives on", async () => {
    const broker = await FakeBroker.start()
    broker.pongs = false
    const heartbeat = { heartbeatIntervalMs: 20, heartbeatTimeoutMs: 400, heartbeatMissesBeforeDisconnect: 2 }
    await connected(broker.place, heartbeat)
    let pings = 0
    const { socket } = broker.stream
    socket.on("ping", () => ++pings % 2 === 0 && socket.pong())
    await until(() => pings >= 7)
    assert.strictEqual(broker.streams.length, 1)
  })

  it("is noticed by a request that does not get through, too, and the old stream is ended", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    broker.replies = ({ path }) => (path === "/v1/undispatched" ? "reset" : undefined)
    const error = await failure(client.listUndispatched())
    assert.instanceOf(error, BrokerUnreachableError)
    assert.isFalse(error.surelyNotSent)
    await until(() => client.connectionState.phase === "connected" && broker.streams.length === 2)
    assert.strictEqual(client.connectionState.lastFailureReason, "ipc_fetch_failed")
    await until(() => broker.streams[0]!.closed() !== undefined)
    assert.deepStrictEqual(broker.streams[0]!.closed(), { code: 1012, reason: "broker_recover" })
  })

  it("has nothing more to say: its frames are ignored", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    broker.replies = ({ path }) => (path === "/v1/undispatched" ? "reset" : undefined)
    // It does not hear the goodbye.
    broker.stream.socket.pause()
    await failure(client.listUndispatched())
    await until(() => broker.streams.length === 2)
    const seen: Array<string> = []
    client.on("presence", (presence) => seen.push(presence))
    broker.streams[0]!.send({ event: "presence_changed", presence: "offline" })
    broker.streams[1]!.send({ event: "presence_changed", presence: "reconnecting" })
    await until(() => seen.includes("reconnecting"))
    assert.deepStrictEqual(seen, ["reconnecting"])
  })
})

describe("a broker that is leaving", () => {
  it("is left alone until the time it names, and messages of its stream still count", async () => {
    const broker = await FakeBroker.start()
    const seen: Array<string> = []
    const client = await connected(broker.place, { onMessage: ({ content }) => void seen.push(content) })
    const began = Date.now()
    broker.stream.send({ event: "broker_draining", retry_after_ms: 400 })
    broker.stream.send(push(1))
    await until(() => broker.stream.frames.length === 1)
    assert.strictEqual(client.connectionState.phase, "reconnecting")
    assert.strictEqual(client.connectionState.lastFailureReason, "broker_draining")
    broker.stream.socket.close(1001)
    await until(() => client.connectionState.phase === "connected")
    assert.isAtLeast(Date.now() - began, 400)
    assert.deepStrictEqual(seen, ["message 1"])
  })

  it("has its calls wait for the next one", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    broker.stream.send({ event: "broker_draining", retry_after_ms: 100 })
    await until(() => client.connectionState.phase === "reconnecting")
    assert.deepStrictEqual(await client.listUndispatched(), { items: [] })
    assert.strictEqual(broker.streams.length, 2)
  })
})

describe("a call", () => {
  it("fails when the answer takes too long, and the stream lives on", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place, { requestTimeoutMs: 200 })
    broker.replies = ({ path }) => (path === "/v1/undispatched" ? "hang" : undefined)
    const error = await failure(client.listUndispatched())
    assert.instanceOf(error, BrokerTimeoutError)
    assert.match(error.message, /GET \/v1\/undispatched was not answered within 200 ms/)
    assert.strictEqual(broker.streams.length, 1)
    assert.strictEqual(client.connectionState.phase, "connected")
  })

  it("fails with the reason of its signal, waiting or under way, and the stream lives on", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    broker.replies = () => "hang"
    const id = "ep_1"
    const calls = [
      (signal: AbortSignal) => client.listUndispatched({ signal }),
      (signal: AbortSignal) => client.dispatch("message", id, { signal }),
      (signal: AbortSignal) => client.setTaskHint(id, "hint", { signal }),
      (signal: AbortSignal) => client.unregisterEndpoint(id, { signal }),
      (signal: AbortSignal) => client.registerEndpoint({ kind: "test" }, { signal }),
      (signal: AbortSignal) => client.send(id, "to", "text", "text", {}, { signal })
    ]
    for (const call of calls) {
      const before = broker.requests.length
      const controller = new AbortController()
      const outcome = failure(call(controller.signal))
      await until(() => broker.requests.length > before)
      controller.abort(new Error("given up"))
      assert.strictEqual((await outcome).message, "given up")
      assert.strictEqual((await failure(call(controller.signal))).message, "given up")
      assert.strictEqual(broker.requests.length, before + 1)
    }
    assert.strictEqual(client.connectionState.phase, "connected")
    assert.strictEqual(broker.streams.length, 1)
  })

  it("waits for the connection no longer than it may", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place, { retryForMs: 200 })
    await broker.stop()
    await until(() => client.connectionState.phase === "reconnecting")
    const error = await failure(client.listUndispatched())
    assert.instanceOf(error, BrokerUnreachableError)
    assert.match(error.message, /could not be reached within 200 ms/)
  })
})

describe("close", () => {
  it("says goodbye, is final, and is no disconnection", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    const { endpoint_id } = await client.registerEndpoint({ kind: "test" })
    const heard: Array<string> = []
    client.on("disconnected", () => heard.push("disconnected"))
    broker.replies = ({ path }) => (path === "/v1/undispatched" ? "hang" : undefined)
    const pending = failure(client.listUndispatched())
    await until(() => broker.calls("GET", "/v1/undispatched").length === 1)
    await client.close(endpoint_id)
    assert.deepStrictEqual(broker.stream.closed(), { code: 1000, reason: "client_close" })
    assert.strictEqual(broker.calls("DELETE", `/v1/endpoint/${endpoint_id}`).length, 1)
    assert.instanceOf(await pending, ClientClosedError)
    assert.instanceOf(await failure(client.listUndispatched()), ClientClosedError)
    assert.instanceOf(await failure(client.connect()), ClientClosedError)
    assert.deepStrictEqual(heard, [])
    await until(() => broker.connections === 0)
    await client.close()
  })

  it("ends attempts to connect", async () => {
    const broker = await FakeBroker.start()
    let finds = 0
    const client = await connected(async () => {
      finds++
      return broker.place
    })
    await broker.stop()
    await until(() => finds >= 3)
    await client.close()
    const before = finds
    await new Promise((resolve) => setTimeout(resolve, 300))
    assert.strictEqual(finds, before)
  })
})
