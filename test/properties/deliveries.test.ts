/**
 * The whole broker under random interleavings: D3 order per endpoint, D4 nobody else's mail, D5 no duplicates, D8 nothing
 * dropped, D11 books that balance, and in the end every message with a plugin. `npm run soak properties` runs more of them.
 */
import { it } from "@effect/vitest"
import { Effect, FastCheck as fc } from "effect"
import * as TestContext from "effect/TestContext"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { core } from "../kit/core.js"
import { quiet } from "../kit/steps.js"
import { World } from "../kit/World.js"

interface Step {
  readonly apply: (world: World) => Effect.Effect<unknown, unknown, never>
  readonly toString: () => string
}

const runs = Number(process.env.PROPERTY_RUNS ?? 10)
const index = fc.nat(5)
const step = (name: string, apply: (world: World) => Effect.Effect<unknown, unknown, any>): Step => ({
  apply: apply as Step["apply"],
  toString: () => name
})
const onPlugin = (
  name: string,
  weight: number,
  apply: (world: World, n: number) => Effect.Effect<unknown, unknown, any>
) => ({
  weight,
  arbitrary: index.map((n) => step(`${name}(${n})`, (world) => apply(world, n)))
})

const steps = fc.array(
  fc.oneof(
    {
      weight: 12,
      arbitrary: fc
        .record({ n: index, count: fc.integer({ min: 1, max: 6 }), mortal: fc.boolean() })
        .map(({ count, mortal, n }) =>
          step(`deliver(${n}, ${count}, ${mortal})`, (world) =>
            world.deliverTo(n === 5 ? undefined : world.endpointAt(n), count, mortal && n % 2 === 0)
          )
        )
    },
    {
      weight: 3,
      arbitrary: fc
        .record({ n: index, echo: fc.boolean() })
        .map(({ echo, n }) => step(`answer(${n}, ${echo})`, (world) => world.answer(n, echo)))
    },
    {
      weight: 8,
      arbitrary: fc
        .record({ n: index, count: fc.integer({ min: 1, max: 5 }) })
        .map(({ count, n }) => step(`acknowledge(${n}, ${count})`, (world) => world.acknowledge(world.at(n), count)))
    },
    {
      weight: 3,
      arbitrary: fc
        .record({ n: index, to: index })
        .map(({ n, to }) => step(`dispatch(${n}, ${to})`, (world) => world.dispatch(n, world.endpointAt(to))))
    },
    {
      weight: 5,
      arbitrary: fc
        .constantFrom(10, 120, 1_100, 6_000, 61_000)
        .map((ms) => step(`pass(${ms})`, (world) => world.pass(ms)))
    },
    onPlugin("start", 1, (world) => world.start()),
    onPlugin("register", 2, (world, n) => world.register(world.at(n))),
    onPlugin("open", 2, (world, n) => world.open(world.at(n))),
    onPlugin("comeBack", 4, (world, n) => world.comeBack(world.at(n))),
    onPlugin("drop", 3, (world, n) => world.drop(world.at(n))),
    onPlugin("die", 1, (world, n) => world.die(world.at(n))),
    onPlugin("unregister", 1, (world, n) => world.unregister(world.at(n))),
    onPlugin("refuse", 2, (world, n) => world.refuse(world.at(n), n)),
    onPlugin("stopReading", 1, (world, n) => world.stopReading(world.at(n))),
    onPlugin("readOn", 1, (world, n) => world.readOn(world.at(n))),
    onPlugin("send", 3, (world, n) => world.send(world.endpointAt(n)))
  ),
  { maxLength: 60, size: "max" }
)

const tight: Partial<Settings> = {
  ...quiet,
  windowMessages: 3,
  mailboxMessages: 8,
  inboxMessages: 4,
  holdBackMessages: 10,
  congestedBytes: 2_000,
  uncongestedBytes: 500,
  deliveryLimit: 1_000_000,
  spillAfterAccepted: 2
}

const run = (script: ReadonlyArray<Step>, accept: "cumulative" | "individual") => {
  const world = new World()
  world.network.abilities = { ...world.network.abilities, accept }
  return Effect.gen(function* () {
    yield* world.start()
    yield* world.start()
    for (const { apply } of script) {
      yield* apply(world)
      yield* world.look
    }
    yield* world.finish
  }).pipe(
    Effect.provide(core({ settings: tight, network: world.network, processes: world.processes })),
    Effect.scoped,
    Effect.provide(TestContext.TestContext),
    Effect.runPromise
  )
}

for (const accept of ["cumulative", "individual"] as const) {
  it(
    `whatever happens in whatever order, every message arrives where it belongs, once and in order (${accept})`,
    () =>
      fc.assert(
        fc.asyncProperty(steps, (script) => run(script, accept)),
        { numRuns: runs, ...(process.env.PROPERTY_SEED ? { seed: Number(process.env.PROPERTY_SEED) } : {}) }
      ),
    60_000 + runs * 2_000
  )
}
