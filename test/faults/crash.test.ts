/** Kills the broker on the loopback network while messages flow, again and again, on one directory: D1–D5, D11. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { startBroker } from "../kit/broker.js"
import { commitPoints, crash, type Ground, type Life, points } from "../kit/crashing.js"
import { times } from "../kit/lmdbStore.js"

const kills = times("CRASH_KILLS", 10)
const seed = times("CRASH_SEED", Math.floor(Math.random() * 2 ** 31))

/** Sends one message and records what was promised. */
const send = ({ a, record }: Life, address: string, to: string | undefined, stream: string) =>
  Effect.gen(function* () {
    const content = record.give(stream, to, false)
    const { status } = yield* a.send(address, content)
    if (status === 200) record.promise(content)
    yield* Effect.sleep(2)
  })

const ground: Ground = {
  start: (userData, environment) => startBroker({ userData, environment }),
  traffic: (life) => {
    const toB = Effect.suspend(() => {
      const address = life.addressOfB()
      return address === undefined ? Effect.sleep(10) : send(life, address, "b", "to b")
    })
    let count = 0
    // So few that the inbox never fills up.
    const toNobody = Effect.suspend(() =>
      Effect.zipRight(
        Effect.sleep(count++ < 15 ? 50 : 300),
        send(life, `local:${life.a.agent}`, undefined, "to nobody")
      )
    )
    return [toB, send(life, life.a.address, "a", "to itself"), toNobody]
  },
  isQuiet: Effect.succeed(true),
  points: [points.anywhere, points.receipt, points.drain, points.dispatch, ...commitPoints, points.settled]
}

it.scopedLive(
  `D2: of what was accepted nothing is lost, reordered or doubled by ${kills} kills (CRASH_SEED=${seed})`,
  () =>
    Effect.gen(function* () {
      const { record } = yield* crash(ground, kills, seed)
      const { figures } = record
      if (process.env.SOAK) console.log(`CRASH_SEED=${seed}`, figures)
      assert.isAbove(figures.promised, kills, "messages did flow")
    }),
  kills * 5_000 + 60_000
)
