/**
 * Inputs made by chance against the built broker, while a well-behaved plugin exchanges messages. `FUZZ_COUNT` says how many,
 * `FUZZ_SEED` repeats a run; the lanes of a run take turns as the machine lets them.
 */
import { readdirSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { eventually, type RunningBroker, startBroker } from "../kit/broker.js"
import { type Session, startSession } from "../kit/endToEnd.js"
import { Random } from "../kit/fuzz/Random.js"
import { fuzz } from "../kit/fuzz/run.js"
import type { World } from "../kit/fuzz/World.js"

const count = Number(process.env.FUZZ_COUNT ?? 20_000)
const seed = Number(process.env.FUZZ_SEED ?? (process.env.SOAK === undefined ? 20_260 : Date.now() % 2 ** 32))
/** A run is made of these. Each has a session to fuzz; after it the broker is cleared of what the inputs left. */
const roundSize = 1_000
const MiB = 1024 * 1024

const rssOf = ({ pid }: RunningBroker): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024
const openFiles = ({ pid }: RunningBroker): number => readdirSync(`/proc/${pid}/fd`).length

/** What inputs name. The session is theirs to spoil. */
const worldOf = ({ operatorToken, pid, port, token }: RunningBroker, { plugin, ...session }: Session): World => ({
  port,
  brokerPid: pid,
  token,
  operatorToken,
  victim: { ...session, pid: plugin.pid }
})

/** The last the broker's log says of this. */
const lastOf = ({ logFile }: RunningBroker, what: string): string =>
  readFileSync(logFile, "utf8")
    .split("\n")
    .filter((line) => line.includes(what))
    .slice(-5)
    .join("\n")

/** Messages from one to the other, one after the other, until told to stop; how many. */
const exchange = (broker: RunningBroker, from: Session, to: Session, isOver: () => boolean) =>
  Effect.gen(function* () {
    let n = 0
    while (!isOver()) {
      const { body, status } = yield* from.send(to.address, String(n))
      if (status !== 200 || body.status !== "delivered") {
        const ofChannel = lastOf(broker, `"plugin_pid":${from.plugin.pid}`)
        throw new Error(`message ${n}: ${JSON.stringify(body)}\n${lastOf(broker, from.id)}\n${ofChannel}`)
      }
      n++
    }
    return n
  })

/** Ends the endpoints that inputs registered and hands out what they left undispatched. */
const clear = (broker: RunningBroker, kept: ReadonlyArray<Session>, sink: Session) =>
  Effect.gen(function* () {
    const { endpoints } = yield* broker.status
    for (const { endpoint_id } of endpoints) {
      if (!kept.some(({ id }) => id === endpoint_id)) yield* broker.call("DELETE", `/v1/endpoint/${endpoint_id}`)
    }
    const { body } = yield* broker.call("GET", "/v1/undispatched")
    for (const { id } of body.items) {
      yield* broker.call("POST", "/v1/dispatch", { undispatched_id: id, target_endpoint_id: sink.id })
    }
  })

describe("whatever is said to it", { timeout: 60_000 + count * 5 }, () => {
  it.scopedLive("L4: the broker refuses it in its own words, lives on, and serves the others in order", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { logBytes: 1024 * MiB } })
      const [sender, receiver, sink] = [
        yield* startSession(broker),
        yield* startSession(broker),
        yield* startSession(broker)
      ]
      let isOver = false
      const exchanged = yield* Effect.fork(exchange(broker, sender, receiver, () => isOver))

      const filesBefore = openFiles(broker)
      const random = new Random(seed)
      const rounds = Math.ceil(count / roundSize)
      const statuses = new Map<number, number>()
      let inputs = 0
      let warm = Number.POSITIVE_INFINITY
      for (let round = 0; round < rounds; round++) {
        const tally = yield* Effect.scoped(
          Effect.gen(function* () {
            const world = worldOf(broker, yield* startSession(broker))
            return yield* Effect.tryPromise({
              try: () => fuzz(world, { random: random.fork(round), count: Math.min(roundSize, count), lanes: 6 }),
              catch: (error) => new Error(`FUZZ_SEED=${seed}, round ${round}: ${(error as Error).message}`)
            })
          })
        )
        inputs += tally.inputs
        for (const [status, n] of tally.statuses) statuses.set(status, (statuses.get(status) ?? 0) + n)
        yield* clear(broker, [sender, receiver, sink], sink)
        if (round === Math.floor(rounds / 2)) warm = rssOf(broker)
      }
      const hot = rssOf(broker)
      isOver = true
      const messages = yield* Fiber.join(exchanged)

      const how = `FUZZ_SEED=${seed}`
      const told = JSON.stringify(Object.fromEntries(Array.from(statuses).sort()))
      console.log(
        `${how}: ${inputs} inputs, ${messages} messages, RSS ${Math.round(warm / MiB)} then ${Math.round(hot / MiB)} MiB, ${told}`
      )
      assert.isAtLeast(inputs, count)
      for (const status of [101, 200, 400, 401, 403, 404]) assert.isAbove(statuses.get(status) ?? 0, 0, String(status))
      const received = (yield* receiver.plugin.take(messages)).map(({ content }) => content)
      assert.deepStrictEqual(
        received,
        Array.from({ length: messages }, (_, n) => String(n)),
        how
      )
      assert.isAbove(messages, 0)
      assert.isAtMost(hot, warm + 64 * MiB, `${how}: memory grows`)
      // Every connection of an input has ended.
      yield* eventually(
        Effect.sync(() => openFiles(broker)),
        (files) => files <= filesBefore + 8
      )
      assert.strictEqual((yield* broker.status).books.unaccounted, 0, how)

      const { code, signal, stderr } = yield* broker.end("SIGTERM")
      assert.deepStrictEqual([code, signal, stderr], [0, null, ""], how)
      const complaints = readFileSync(broker.logFile, "utf8").match(/^.*"level":"(error|fatal)".*$/gm) ?? []
      assert.deepStrictEqual(complaints.slice(0, 3), [], how)
    }).pipe(Effect.orDie)
  )
})
