import { assert, describe, it } from "@effect/vitest"
import { BrokerRefusedError, type RegisterArguments } from "../../../src/programs/client.js"
import { FakeBroker, type FakeReply, until } from "../../kit/FakeBroker.js"
import { connected } from "../../kit/sdk.js"

const registers = (broker: FakeBroker) => broker.calls("POST", "/v1/endpoint/register")
const reattaches = (broker: FakeBroker, id: string) => broker.calls("POST", `/v1/endpoint/${id}/reattach`)

/** Cuts the stream and waits until the client has another one and has come back with this endpoint. */
const lose = async (broker: FakeBroker, id: string) => {
  const before = reattaches(broker, id).length
  broker.stream.socket.terminate()
  await until(() => reattaches(broker, id).length > before)
}

/** Nothing is reattached from now on. */
const refuseReattach = (broker: FakeBroker, status: number, error: string, message: string) => {
  broker.replies = ({ path }) => (path.endsWith("/reattach") ? { status, body: { error, message } } : undefined)
}

describe("an endpoint", () => {
  it("is registered for this process, and its owner token goes with every call for it", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place, { pluginPid: 4711 })
    const args: RegisterArguments = { agent_id: "agent", kind: "test", workspace: "/srv", spawn_token: "spawn" }
    const registered = await client.registerEndpoint(args)
    assert.deepStrictEqual(registered, {
      endpoint_id: "ep_1",
      endpoint_owner_token: "token of ep_1",
      resumed: false
    })
    assert.deepStrictEqual(registers(broker)[0]!.body, { ...args, plugin_pid: 4711 })
    await client.send("ep_1", "to", "text")
    assert.deepStrictEqual(await client.setTaskHint("ep_1", "busy"), { ok: true })
    await client.unregisterEndpoint("ep_1")
    const calls = ["/v1/send", "/v1/endpoint/ep_1/task-hint", "/v1/endpoint/ep_1"].map((path) =>
      broker.requests.find((request) => request.path === path)
    )
    for (const call of calls) {
      assert.strictEqual(call?.headers["x-endpoint-owner-token"], "token of ep_1", call?.path)
      assert.strictEqual(call?.headers["x-plugin-pid"], "4711")
    }
    assert.deepStrictEqual(calls[1]!.body, { plugin_pid: 4711, task_hint: "busy" })
  })

  it("G8: comes back by reattaching, under its id, and is not registered again", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    await client.registerEndpoint({ kind: "test" })
    await lose(broker, "ep_1")
    const reattach = reattaches(broker, "ep_1")[0]!
    assert.deepStrictEqual(reattach.body, { plugin_pid: process.pid })
    assert.strictEqual(reattach.headers["x-endpoint-owner-token"], "token of ep_1")
    await client.send("ep_1", "to", "text")
    assert.strictEqual(registers(broker).length, 1)
  })

  it("G8: is registered anew only when it is gone, without what was good for once; its old ids stay valid", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    await client.registerEndpoint({
      kind: "test",
      agent_id: "agent",
      spawn_token: "spawn",
      resume: { endpoint_id: "ep_0", endpoint_owner_token: "token" }
    })
    for (const [id, next] of [
      ["ep_1", "ep_2"],
      ["ep_2", "ep_3"]
    ] as const) {
      broker.endpoints.delete(id)
      await lose(broker, id)
      await until(() => broker.endpoints.has(next))
    }
    // The broker has it before the client hears of it: the id it knows waits for that.
    await client.send("ep_1", "to", "it is back")
    assert.deepStrictEqual(registers(broker)[2]!.body, { kind: "test", agent_id: "agent", plugin_pid: process.pid })
    for (const id of ["ep_1", "ep_2", "ep_3"]) await client.send(id, "to", id)
    assert.strictEqual(registers(broker).length, 3)
    for (const { body, headers } of broker.calls("POST", "/v1/send")) {
      assert.strictEqual(body.endpoint_id, "ep_3")
      assert.strictEqual(headers["x-endpoint-owner-token"], "token of ep_3")
    }
    await client.dispatch("message", "ep_1")
    assert.strictEqual(broker.calls("POST", "/v1/dispatch")[0]!.body.target_endpoint_id, "ep_3")
    await client.unregisterEndpoint("ep_1")
    assert.strictEqual(broker.calls("DELETE", "/v1/endpoint/ep_3").length, 1)
  })

  it("G9: that cannot come back is tried again for itself; the others are where they were", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    for (const session_name of ["first", "second", "third"])
      await client.registerEndpoint({ kind: "test", session_name })
    for (const id of ["ep_1", "ep_2", "ep_3"]) broker.endpoints.delete(id)
    let refusals = 3
    broker.replies = ({ body, path }): FakeReply | undefined =>
      path === "/v1/endpoint/register" && body.session_name === "second" && refusals-- > 0
        ? { status: 503, body: { error: "platform_unavailable", message: "The platform is away.", retryable: true } }
        : undefined
    broker.stream.socket.terminate()
    await until(() => broker.endpoints.size === 3)
    const names = registers(broker)
      .slice(3)
      .map(({ body }) => body.session_name)
    assert.deepStrictEqual(names.toSorted(), ["first", "second", "second", "second", "second", "third"])
    assert.strictEqual(broker.streams.length, 2)
    assert.strictEqual(client.errors.filter(({ message }) => /ep_2 is not back yet.*platform/.test(message)).length, 3)
    for (const id of ["ep_1", "ep_2", "ep_3"]) await client.send(id, "to", "text")
    assert.strictEqual(new Set(broker.calls("POST", "/v1/send").map(({ body }) => body.endpoint_id)).size, 3)
  })

  it("G9: that was being registered when the stream was lost again is not registered twice", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    await client.registerEndpoint({ kind: "test" })
    broker.endpoints.delete("ep_1")
    let answer = (_: undefined) => {}
    broker.replies = ({ path }) =>
      path === "/v1/endpoint/register" ? new Promise<undefined>((resolve) => (answer = resolve)) : undefined
    await lose(broker, "ep_1")
    await until(() => registers(broker).length === 2)
    broker.stream.socket.terminate()
    await until(() => broker.streams.length === 3)
    await client.listUndispatched()
    answer(undefined)
    await client.send("ep_1", "to", "text")
    assert.strictEqual(registers(broker).length, 2)
    assert.strictEqual(broker.calls("POST", "/v1/send")[0]!.body.endpoint_id, "ep_2")
  })

  it("comes back to another broker without waiting for the answer of the one before", async () => {
    const first = await FakeBroker.start()
    const second = await FakeBroker.start()
    let { place } = first
    const client = await connected(async () => place)
    await client.registerEndpoint({ kind: "test" })
    first.endpoints.delete("ep_1")
    first.replies = ({ path }) => (path === "/v1/endpoint/register" ? "hang" : undefined)
    await lose(first, "ep_1")
    await until(() => registers(first).length === 2)
    place = second.place
    first.stream.socket.terminate()
    await client.send("ep_1", "to", "text")
    assert.strictEqual(registers(second).length, 1)
  })

  it("in use on this process's stream is where it belongs", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    await client.registerEndpoint({ kind: "test" })
    refuseReattach(broker, 409, "endpoint_not_reconnecting", "In use.")
    await lose(broker, "ep_1")
    await client.send("ep_1", "to", "text")
    assert.strictEqual(registers(broker).length, 1)
  })

  it("of a broker that cannot resume is registered anew when it hangs on a dead stream", async () => {
    const broker = await FakeBroker.start()
    broker.capabilities = {}
    const client = await connected(broker.place)
    await client.registerEndpoint({ kind: "test" })
    refuseReattach(broker, 409, "endpoint_not_reconnecting", "In use.")
    await lose(broker, "ep_1")
    await client.send("ep_1", "to", "text")
    assert.strictEqual(broker.calls("POST", "/v1/send")[0]!.body.endpoint_id, "ep_2")
  })

  it("that was taken over by another process is not taken back, nor registered anew", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    await client.registerEndpoint({ kind: "test" })
    refuseReattach(broker, 403, "reattach_pid_mismatch", "Not yours.")
    broker.stream.socket.terminate()
    await until(() => reattaches(broker, "ep_1").length >= 2)
    assert.strictEqual(registers(broker).length, 1)
    assert.match(client.errors.at(-1)!.message, /ep_1 is not back yet.*Not yours/)
  })

  it("that is unregistered does not come back", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    await client.registerEndpoint({ kind: "test" })
    await client.registerEndpoint({ kind: "test" })
    await client.unregisterEndpoint("ep_1")
    await lose(broker, "ep_2")
    assert.strictEqual(reattaches(broker, "ep_1").length, 0)
  })

  it("is refused with the broker's code, and the text holds method, path, status and body", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    broker.replies = () => ({ status: 422, body: { error: "invalid_request", message: "The workspace has no root." } })
    const error = await client.registerEndpoint({ kind: "test" }).catch((error) => error)
    assert.instanceOf(error, BrokerRefusedError)
    assert.deepInclude({ ...error }, { code: "invalid_request", status: 422, retryable: false })
    assert.strictEqual(
      error.message,
      'POST /v1/endpoint/register answered 422: {"error":"invalid_request","message":"The workspace has no root."}'
    )
    broker.replies = () => undefined
    await client.registerEndpoint({ kind: "test" })
  })

  it("registered while the others come back waits for them: it is not taken for one of them", async () => {
    const broker = await FakeBroker.start()
    const client = await connected(broker.place)
    await client.registerEndpoint({ kind: "test" })
    let answer = (_: undefined) => {}
    broker.replies = ({ path }) =>
      path.endsWith("/reattach") ? new Promise<undefined>((resolve) => (answer = resolve)) : undefined
    await lose(broker, "ep_1")
    const registered = client.registerEndpoint({ kind: "test" })
    await client.listUndispatched()
    assert.strictEqual(registers(broker).length, 1)
    answer(undefined)
    await registered
    const order = broker.requests.map(({ path }) => path).filter((path) => path.startsWith("/v1/endpoint/"))
    assert.deepStrictEqual(order, ["/v1/endpoint/register", "/v1/endpoint/ep_1/reattach", "/v1/endpoint/register"])
  })
})
