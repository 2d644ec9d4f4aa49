import { setTimeout as sleep } from "node:timers/promises"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { BrokerClient } from "../../src/programs/client.js"
import { startBroker } from "../kit/broker.js"
import { launchGround, olderProgram } from "../kit/launching.js"
import { idleProcess } from "../kit/startedProcess.js"

/** Messages, one every two milliseconds; more by `npm run soak upgrade`. */
const count = Number(process.env.UPGRADE_MESSAGES ?? 1_000)
const everyMs = 2

const client = (ground: { readonly options: Parameters<typeof BrokerClient.discover>[0] }) =>
  Effect.acquireRelease(
    // Only the launcher starts a broker here.
    Effect.promise(() => BrokerClient.discover({ ...ground.options, launch: false })),
    (client) => Effect.promise(() => client.close())
  )

it.scopedLive(
  "E12: an older broker is replaced while messages flow: none is lost, none comes twice unmarked",
  () =>
    Effect.gen(function* () {
      const ground = yield* launchGround()
      const older = yield* startBroker({ userData: ground.userData, program: yield* olderProgram })
      const [receiver, sender] = [yield* client(ground), yield* client(ground)]
      const pids = [(yield* idleProcess).pid, (yield* idleProcess).pid] as const
      const received: Array<{ readonly content: string; readonly redelivered: boolean; readonly at: number }> = []
      const pace = { reconnectBackoffInitialMs: 50, reconnectBackoffMaxMs: 200, retryForMs: 60_000 }
      yield* Effect.promise(() =>
        receiver.connect({
          ...pace,
          pluginPid: pids[0],
          onMessage: async ({ content, redelivered = false }) => {
            received.push({ content, redelivered, at: performance.now() })
          }
        })
      )
      yield* Effect.promise(() => sender.connect({ ...pace, pluginPid: pids[1] }))
      const register = (client: BrokerClient, agent_id: string) =>
        Effect.promise(() => client.registerEndpoint({ kind: "test", agent_id }))
      const to = yield* register(receiver, "receiver")
      const from = yield* register(sender, "sender")

      const flow = yield* Effect.fork(
        Effect.promise(async () => {
          const sends: Array<Promise<unknown>> = []
          for (let n = 0; n < count; n++) {
            sends.push(sender.send(from.endpoint_id, `local:receiver/${to.endpoint_id}`, String(n)))
            await sleep(everyMs)
          }
          await Promise.all(sends)
        })
      )
      yield* Effect.sleep((count * everyMs) / 4)
      const [upgraded] = yield* ground.call(1)
      assert.isTrue(upgraded!.found!.spawned)
      assert.strictEqual((yield* older.exited).code, 0)
      yield* flow
      const distinct = () => new Set(received.map(({ content }) => content)).size
      yield* Effect.promise(async () => {
        for (const until = Date.now() + 30_000; distinct() < count && Date.now() < until; ) await sleep(20)
      })
      assert.strictEqual(distinct(), count, "none is lost")
      const unmarked = received.filter(({ redelivered }) => !redelivered)
      assert.strictEqual(new Set(unmarked.map(({ content }) => content)).size, unmarked.length, "none comes twice")
      const gap = Math.max(...received.slice(1).map(({ at }, n) => at - received[n]!.at))
      console.log(
        `upgrade: ${count} messages, ${received.length - count} came again, the longest gap ${Math.round(gap)} ms, ` +
          `the launcher took ${Math.round(upgraded!.ms)} ms`
      )
      assert.isBelow(gap, 20_000)
    }),
  90_000
)
