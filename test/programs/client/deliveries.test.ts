import { assert, describe, it } from "@effect/vitest"
import { Deliveries, type DeliveriesOptions } from "../../../src/programs/client/deliveries.js"
import type { BrokerStream } from "../../../src/programs/client/stream.js"
import { push } from "../../kit/FakeBroker.js"

const start = (options: Partial<DeliveriesOptions> = {}) => {
  const sent: Array<any> = []
  const failures: Array<string> = []
  let rooms = 0
  const stream = { send: (frame: object) => sent.push(frame) > 0 } as unknown as BrokerStream
  const deliveries = new Deliveries({
    tellListeners: () => undefined,
    hasListeners: () => false,
    onFailure: ({ message }) => void failures.push(message),
    onRoom: () => rooms++,
    ...options
  })
  const receive = (...pushes: ReadonlyArray<object>) => {
    for (const each of pushes) deliveries.receive(stream, { ...each })
  }
  return { deliveries, receive, sent, failures, rooms: () => rooms }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))
const withoutReceipt = (n: number) => ({ ...push(n), push_id: undefined })

describe("messages nobody takes", () => {
  it("wait up to the bound; what comes after it is left to the broker, in order, until there is room", async () => {
    const { deliveries, failures, receive, rooms, sent } = start({ maxWaiting: 2 })
    receive(push(1), push(2), push(3), push(4))
    const seen: Array<string> = []
    const remove = deliveries.handleWith(({ content }) => {
      seen.push(content)
      // Nothing overtakes what was turned away.
      if (content === "message 1") receive(push(5))
    })
    await turn()
    assert.deepStrictEqual(seen, ["message 1", "message 2"])
    assert.strictEqual(rooms(), 1)
    assert.deepStrictEqual(
      sent.map(({ push_id }) => push_id),
      ["push 1", "push 2"]
    )
    // The broker pushes again on the next stream.
    deliveries.streamEnded()
    receive(push(3), push(4), push(5))
    await turn()
    assert.deepStrictEqual(seen.slice(2), ["message 3", "message 4", "message 5"])
    assert.deepStrictEqual(failures, [])
    remove()
  })

  it("are bounded by their size, too", async () => {
    const { deliveries, receive } = start({ maxCharacters: 20 })
    receive(push(1), push(2), push(3))
    const seen: Array<string> = []
    deliveries.handleWith(({ content }) => void seen.push(content))
    await turn()
    assert.deepStrictEqual(seen, ["message 1", "message 2"])
  })

  it("are forgotten when the stream ends, unless the broker counts them as delivered", async () => {
    const { deliveries, receive } = start()
    receive(push(1), withoutReceipt(2), push(3))
    deliveries.streamEnded()
    const seen: Array<string> = []
    deliveries.handleWith(({ content }) => void seen.push(content))
    await turn()
    assert.deepStrictEqual(seen, ["message 2"])
  })

  it("without a receipt and without room are lost, and not silently", () => {
    const { failures, receive } = start({ maxWaiting: 1 })
    receive(withoutReceipt(1), withoutReceipt(2))
    assert.deepStrictEqual(failures, ["A message from local:sender found no room."])
  })

  it("are not handed over once it is closed", async () => {
    const { deliveries, receive } = start()
    receive(push(1))
    deliveries.close()
    const seen: Array<string> = []
    deliveries.handleWith(({ content }) => void seen.push(content))
    await turn()
    assert.deepStrictEqual(seen, [])
  })
})

it("B11: of what was taken 10,000 messages are remembered", async () => {
  const { deliveries, receive } = start()
  let calls = 0
  deliveries.handleWith(() => void calls++)
  receive(...Array.from({ length: 10_001 }, (_, n) => push(n)))
  await turn()
  assert.strictEqual(calls, 10_001)
  receive(push(1), push(10_000))
  await turn()
  assert.strictEqual(calls, 10_001)
  receive(push(0))
  await turn()
  assert.strictEqual(calls, 10_002)
})
