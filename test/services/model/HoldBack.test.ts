import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { HoldBack, type HoldBackLimits } from "../../../src/services/model/HoldBack.js"
import { MessageId } from "../../../src/services/model/Ids.js"

const unlimited: HoldBackLimits = { messages: undefined, bytes: undefined }

/** The router's part: offers a message and does what `HoldBack` says. */
const route = (holdBack: HoldBack, name: string, destination: string, hasRoom: boolean, bytes = 1) => {
  const id = MessageId(name)
  if (holdBack.stalls(id)) return "stalled"
  if (holdBack.mayPass(id, destination) && hasRoom) {
    holdBack.take(id, bytes)
    return "taken"
  }
  holdBack.refuse(id, destination, 1_000)
  return "refused"
}

/** True when the message was taken. */
const offer = (...given: Parameters<typeof route>): boolean => route(...given) === "taken"

describe("behind a message that could not be stored", () => {
  it("nothing passes to the same destination, everything to others", () => {
    const holdBack = new HoldBack(unlimited)
    assert.isFalse(offer(holdBack, "a1", "a", false))
    assert.isFalse(offer(holdBack, "a2", "a", true))
    assert.isTrue(offer(holdBack, "b1", "b", true))
  })
  it("they come back in order and pass in order", () => {
    const holdBack = new HoldBack(unlimited)
    for (const name of ["a1", "a2", "a3"]) offer(holdBack, name, "a", false)
    holdBack.askAgain()
    assert.isTrue(offer(holdBack, "a1", "a", true))
    assert.isFalse(offer(holdBack, "a2", "a", false))
    assert.isFalse(offer(holdBack, "a3", "a", true))
    holdBack.askAgain()
    assert.isTrue(offer(holdBack, "a2", "a", true))
    assert.isTrue(offer(holdBack, "a3", "a", true))
    assert.isTrue(holdBack.isEmpty)
    assert.isTrue(offer(holdBack, "a4", "a", true))
  })
  it("a new message waits until all that were refused before it are back", () => {
    const holdBack = new HoldBack(unlimited)
    offer(holdBack, "a1", "a", false)
    holdBack.askAgain()
    assert.isFalse(offer(holdBack, "a9", "a", true))
    assert.isTrue(offer(holdBack, "a1", "a", true))
    assert.isTrue(offer(holdBack, "a9", "a", true))
  })
  it("one that does not come back before its successor is not waited for any longer", () => {
    const holdBack = new HoldBack(unlimited)
    offer(holdBack, "a1", "a", false)
    offer(holdBack, "a2", "a", false)
    holdBack.askAgain()
    assert.isTrue(offer(holdBack, "a2", "a", true))
    assert.isTrue(holdBack.isEmpty)
  })
  it("one that comes twice in a round is not overtaken", () => {
    const holdBack = new HoldBack(unlimited)
    offer(holdBack, "a1", "a", false)
    offer(holdBack, "a2", "a", false)
    assert.isFalse(offer(holdBack, "a2", "a", true))
    assert.isTrue(offer(holdBack, "a1", "a", true))
  })
  it("one that is routed elsewhere when it comes back frees its destination", () => {
    const holdBack = new HoldBack(unlimited)
    offer(holdBack, "a1", "a", false)
    holdBack.askAgain()
    assert.isTrue(offer(holdBack, "a1", "b", true))
    assert.isTrue(offer(holdBack, "a2", "a", true))
    assert.isTrue(holdBack.isEmpty)
  })
  it("one that is taken without asking for its destination, a dead letter say, frees it", () => {
    const holdBack = new HoldBack(unlimited)
    offer(holdBack, "a1", "a", false)
    holdBack.take(MessageId("a1"), 1)
    assert.isTrue(holdBack.isEmpty)
    assert.isTrue(offer(holdBack, "a2", "a", true))
  })
  it("status lists each destination with its beginning and how many wait", () => {
    const holdBack = new HoldBack(unlimited)
    holdBack.refuse(MessageId("a1"), "a", 5)
    holdBack.refuse(MessageId("a2"), "a", 6)
    holdBack.refuse(MessageId("b1"), "b", 7)
    assert.deepStrictEqual(holdBack.list(), [
      { destination: "a", since: 5, waiting: 2 },
      { destination: "b", since: 7, waiting: 1 }
    ])
  })
})

describe("the limit on what is taken behind it", () => {
  const stalled = (limits: HoldBackLimits) => {
    const holdBack = new HoldBack(limits)
    offer(holdBack, "a1", "a", false)
    return holdBack
  }
  it("in messages: so many pass, the next one stalls all", () => {
    const holdBack = stalled({ messages: 2, bytes: undefined })
    assert.isTrue(offer(holdBack, "b1", "b", true))
    assert.isTrue(offer(holdBack, "b2", "b", true))
    assert.isFalse(holdBack.isStalled)
    assert.isFalse(offer(holdBack, "b3", "b", true))
    assert.isTrue(holdBack.isStalled)
    assert.isFalse(offer(holdBack, "c1", "c", true))
  })
  it("in bytes", () => {
    const holdBack = stalled({ messages: undefined, bytes: 100 })
    assert.isTrue(offer(holdBack, "b1", "b", true, 99))
    assert.isTrue(offer(holdBack, "b2", "b", true, 99))
    assert.isFalse(offer(holdBack, "b3", "b", true))
  })
  it("does not exist where each message is accepted by itself", () => {
    const holdBack = stalled(unlimited)
    for (let n = 0; n < 100; n++) assert.isTrue(offer(holdBack, `b${n}`, "b", true, 1e9))
  })
  it("counts nothing while nothing is held back", () => {
    const holdBack = new HoldBack({ messages: 2, bytes: undefined })
    for (let n = 0; n < 100; n++) assert.isTrue(offer(holdBack, `b${n}`, "b", true))
  })
  it("starts afresh once nothing is held back any more", () => {
    const holdBack = stalled({ messages: 2, bytes: undefined })
    offer(holdBack, "b1", "b", true)
    offer(holdBack, "b2", "b", true)
    assert.isTrue(offer(holdBack, "a1", "a", true))
    assert.isTrue(offer(holdBack, "b3", "b", true))
  })
  it("the stall ends when the message it began with is back, and what was held back before it is not", () => {
    const holdBack = stalled({ messages: 1, bytes: undefined })
    offer(holdBack, "b1", "b", true)
    offer(holdBack, "b2", "b", true)
    holdBack.askAgain()
    assert.isTrue(offer(holdBack, "b2", "b", true))
    assert.isFalse(holdBack.isStalled)
  })
  it("the stall ends also when the message it began with is taken without a destination, expired say", () => {
    const holdBack = stalled({ messages: 1, bytes: undefined })
    offer(holdBack, "b1", "b", true)
    offer(holdBack, "b2", "b", true)
    holdBack.askAgain()
    offer(holdBack, "a1", "a", true)
    holdBack.take(MessageId("b2"), 1)
    assert.isFalse(holdBack.isStalled)
    assert.isFalse(holdBack.stalls(MessageId("b3")))
  })
  it("the held-back message itself passes during a stall: it comes back before the one the stall began with", () => {
    const holdBack = stalled({ messages: 1, bytes: undefined })
    offer(holdBack, "b1", "b", true)
    offer(holdBack, "b2", "b", true)
    holdBack.askAgain()
    assert.isTrue(offer(holdBack, "a1", "a", true))
    assert.isFalse(offer(holdBack, "b3", "b", true), "b2 still comes first")
    assert.isTrue(offer(holdBack, "b2", "b", true))
    assert.isFalse(holdBack.isEmpty, "nobody else remembers b3")
    holdBack.askAgain()
    assert.isTrue(offer(holdBack, "b3", "b", true))
    assert.isTrue(holdBack.isEmpty)
  })
})

describe("a message that is routed elsewhere when it comes back", () => {
  it("keeps its place before those that were refused after it", () => {
    const holdBack = new HoldBack(unlimited)
    offer(holdBack, "m1", "a", false)
    offer(holdBack, "m2", "inbox", false)
    holdBack.askAgain()
    assert.isFalse(offer(holdBack, "m1", "inbox", false))
    assert.isFalse(offer(holdBack, "m2", "inbox", true), "m1 is before it")
    holdBack.askAgain()
    assert.isTrue(offer(holdBack, "m1", "inbox", true))
    assert.isTrue(offer(holdBack, "m2", "inbox", true))
    assert.isTrue(holdBack.isEmpty)
  })
})

const destinations = ["inbox", "a", "b"] as const
type Step =
  | { readonly _tag: "Deliver"; readonly destination: string }
  | { readonly _tag: "Room"; readonly destination: string; readonly hasRoom: boolean }
  | { readonly _tag: "AskAgain" }
const anyDestination = fc.constantFrom(...destinations)
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: anyDestination.map((destination): Step => ({ _tag: "Deliver", destination })) },
    {
      weight: 2,
      arbitrary: fc
        .record({ destination: anyDestination, hasRoom: fc.boolean() })
        .map((props): Step => ({ _tag: "Room", ...props }))
    },
    fc.constant<Step>({ _tag: "AskAgain" })
  ),
  { maxLength: 60 }
)

/** A network that delivers in order and again what was not accepted, and destinations that are full at times. */
const run = (limits: HoldBackLimits, script: ReadonlyArray<Step>) => {
  const holdBack = new HoldBack(limits)
  const full = new Set<string>()
  const released: Array<{ readonly n: number; readonly destination: string }> = []
  const taken = new Map<string, Array<number>>(destinations.map((destination) => [destination, []]))
  const refused = new Set<number>()
  let sent = 0
  let mostBehind = 0

  const pass = (message: { readonly n: number; readonly destination: string }) => {
    const { destination, n } = message
    const oldest = released[0]?.n ?? n
    const outcome = route(holdBack, `m${n}`, destination, !full.has(destination))
    if (outcome === "refused") refused.add(n)
    if (outcome !== "taken") {
      released.push(message)
      released.sort((a, b) => a.n - b.n)
      return
    }
    taken.get(destination)!.push(n)
    const behind = [...taken.values()].flat().filter((other) => other > oldest && !refused.has(other)).length
    mostBehind = Math.max(mostBehind, behind)
  }
  const askAgain = () => {
    holdBack.askAgain()
    for (const message of released.splice(0)) pass(message)
  }
  for (const step of script) {
    if (step._tag === "Deliver") pass({ n: ++sent, destination: step.destination })
    else if (step._tag === "AskAgain") askAgain()
    else if (step.hasRoom) full.delete(step.destination)
    else full.add(step.destination)
  }
  full.clear()
  for (let round = 0; round <= sent && released.length > 0; round++) askAgain()
  return { holdBack, taken, sent, mostBehind, left: released.length }
}

const check = ({ holdBack, left, sent, taken }: ReturnType<typeof run>) => {
  assert.strictEqual(left, 0, "everything is taken once there is room")
  assert.strictEqual([...taken.values()].flat().length, sent)
  for (const order of taken.values()) {
    assert.deepStrictEqual(
      order,
      [...order].sort((a, b) => a - b),
      "in order for each destination"
    )
  }
  assert.isTrue(holdBack.isEmpty)
}

it.prop(
  "whatever is full when, each destination gets all its messages, once and in order",
  [steps],
  ([script]) => check(run(unlimited, script)),
  { fastCheck: { numRuns: 500 } }
)

it.prop(
  "so it is with a limit, and no more than the limit is taken behind the oldest held-back message",
  [steps, fc.integer({ min: 1, max: 5 })],
  ([script, messages]) => {
    const result = run({ messages, bytes: undefined }, script)
    check(result)
    assert.isAtMost(result.mostBehind, messages)
  },
  { fastCheck: { numRuns: 500 } }
)
