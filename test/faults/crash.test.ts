/**
 * Kills the broker while messages flow, again and again, on one directory. A recorder keeps what was promised (200) and what
 * came; a checker proves D1–D3 and D5: what was accepted arrives, in order, twice only over a kill, and then marked.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import type { MessageReceived } from "../../src/services/ipc/StreamFrame.js"
import { pluginProcess, startBroker, temporaryDirectory } from "../kit/broker.js"
import { inboxNow, startSession } from "../kit/endToEnd.js"

const kills = Number(process.env.CRASH_KILLS ?? 10)
const seed = Number(process.env.CRASH_SEED ?? Math.floor(Math.random() * 2 ** 31))

/** The same numbers for the same seed. */
const random = (() => {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    return state / 0x7fffffff
  }
})()

it.scopedLive(
  `D2: of what was accepted nothing is lost, reordered or doubled by ${kills} kills (CRASH_SEED=${seed})`,
  () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const [from, to] = [yield* pluginProcess, yield* pluginProcess]
      /** Numbers that were answered 200, and every message that came, in order. */
      const promised: Array<number> = []
      const came: Array<{ readonly n: number; readonly life: number; readonly redelivered: boolean }> = []
      let next = 0

      for (let life = 0; life < kills; life++) {
        const withBroker = Effect.gen(function* () {
          const broker = yield* startBroker({ userData })
          const receiver = yield* startSession(broker, { process: to })
          const sender = yield* startSession(broker, { process: from })
          const seen = (messages: ReadonlyArray<MessageReceived>) => {
            for (const { content, redelivered } of messages) {
              came.push({ n: Number(content), life, redelivered: redelivered === true })
            }
          }
          const send = Effect.gen(function* () {
            while (true) {
              const n = next++
              const { status } = yield* sender.send(receiver.address, String(n))
              if (status === 200) promised.push(n)
            }
          })
          // Some lives end while the receiver is away and mail piles up.
          const isAway = random() < 0.4
          if (isAway) yield* receiver.plugin.drop
          const wait = 30 + Math.floor(random() * 150)
          yield* Effect.race(
            Effect.catchAllCause(send, () => Effect.never),
            Effect.sleep(wait)
          )
          yield* broker.end("SIGKILL")
          seen(receiver.plugin.messages)
        })
        yield* Effect.scoped(withBroker)
      }

      const broker = yield* startBroker({ userData })
      const receiver = yield* startSession(broker, { process: to })
      yield* startSession(broker, { process: from }).pipe(
        Effect.flatMap(({ send }) => send(receiver.address, String(next)))
      )
      while (came.at(-1)?.n !== next) {
        const [message] = yield* receiver.plugin.take(1)
        came.push({ n: Number(message!.content), life: kills, redelivered: message!.redelivered === true })
      }
      assert.deepStrictEqual(yield* inboxNow(broker), [])

      const firsts = new Map<number, number>()
      const order: Array<number> = []
      for (const { life, n, redelivered } of came) {
        const before = firsts.get(n)
        if (before === undefined) order.push(n)
        else {
          const both = JSON.stringify(came.filter((one) => one.n === n))
          assert.isTrue(life > before && redelivered, `it comes again as if it were new: ${both}`)
        }
        firsts.set(n, life)
      }
      assert.deepStrictEqual(
        promised.filter((n) => !firsts.has(n)),
        [],
        "accepted, and lost"
      )
      assert.deepStrictEqual(
        order,
        order.toSorted((a, b) => a - b)
      )
      assert.isAbove(promised.length, kills, "messages did flow")
      const { books } = yield* broker.status
      assert.strictEqual(books.unaccounted, 0)
    }),
  30 * 60_000
)
