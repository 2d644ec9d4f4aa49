/** Thousands of logins that fail: a client with an old token that does not stop trying. */
import { readdirSync, readFileSync, statSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { eventually, type RunningBroker, startBroker } from "../kit/broker.js"
import { startSession } from "../kit/endToEnd.js"
import { converse, Pipeline, type PipelinedAnswer, staysOpen } from "../kit/pipeline.js"
import { head, upgradeHeaders } from "../kit/rawHttp.js"

const MiB = 1024 * 1024
const rssOf = ({ pid }: RunningBroker): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1024
const openFiles = ({ pid }: RunningBroker): number => readdirSync(`/proc/${pid}/fd`).length

const isRefused = ({ status, text }: PipelinedAnswer) => status === 401 && JSON.parse(text).error === "unauthorized"

describe("S6: five thousand failed logins", { timeout: 60_000 }, () => {
  it.scopedLive("are all refused, cost the others nothing, and leave no trace in memory, descriptors or log", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { logLevel: "debug" } })
      const [sender, receiver] = [yield* startSession(broker), yield* startSession(broker)]
      const host = `Host: 127.0.0.1:${broker.port}`
      const wrong = (n: number) => `Authorization: Bearer ${String(n).padStart(43, "x")}`

      /** So many requests over kept connections, in batches of a hundred. */
      const requests = (count: number) =>
        Effect.promise(async () => {
          const pipeline = new Pipeline(broker.port)
          for (let n = 0; n < count; n += 100) {
            const batch = Array.from({ length: 100 }, (_, k) => {
              const body = `{"endpoint_id":"x","to":"x","content":"${n + k}"}`
              const lines = [host, ...(k % 4 === 0 ? [] : [wrong(n + k)])]
              return k % 2 === 0
                ? head("GET /v1/undispatched", lines)
                : head("POST /v1/send", [...lines, `Content-Length: ${body.length}`]) + body
            })
            const answers = await pipeline.exchange(
              Buffer.from(batch.join("")),
              batch.map(() => "GET")
            )
            assert.lengthOf(answers.filter(isRefused), 100)
          }
          pipeline.close()
        })
      /** So many upgrades, each on a connection of its own; the client may be gone before it reads the answer. */
      const upgrades = (count: number) =>
        Effect.forEach(
          Array.from({ length: count }, (_, n) => n),
          (n) =>
            Effect.promise(async () => {
              const lines = [host, ...upgradeHeaders, wrong(n), "x-plugin-pid: 9999999"]
              const answers = await converse(broker.port, [Buffer.from(head("GET /v1/stream", lines))], "end")
              assert.isTrue(answers.length === 0 || isRefused(answers[0]!), JSON.stringify(answers))
            }),
          { concurrency: 4, discard: true }
        )

      yield* requests(1_000)
      yield* upgrades(100)
      const before = { rss: rssOf(broker), files: openFiles(broker), log: statSync(broker.logFile).size }
      const logins = yield* Effect.fork(Effect.all([requests(4_500), upgrades(500)], { concurrency: 2 }))
      for (let n = 0; n < 100; n++) {
        assert.strictEqual((yield* sender.send(receiver.address, String(n))).body.status, "delivered")
      }
      yield* Fiber.join(logins)

      const received = yield* receiver.plugin.take(100)
      assert.deepStrictEqual(
        received.map(({ content }) => content),
        Array.from({ length: 100 }, (_, n) => String(n))
      )
      assert.isAtMost(rssOf(broker), before.rss + 48 * MiB)
      yield* eventually(
        Effect.sync(() => openFiles(broker)),
        (files) => files <= before.files + 4
      )
      assert.isAtMost(statSync(broker.logFile).size, before.log + 20_000)
      const { code, stderr } = yield* broker.end("SIGTERM")
      assert.deepStrictEqual([code, stderr], [0, ""])
      const text = readFileSync(broker.logFile, "utf8")
      assert.notMatch(text, /x{30}/, "no token that was tried is logged")
    })
  )

  it.scopedLive("L4: a refused client that keeps its side of the connection open is cut off", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker()
      const before = openFiles(broker)
      const upgrade = head("GET /v1/stream", [`Host: 127.0.0.1:${broker.port}`, ...upgradeHeaders])
      for (const text of [upgrade, "this is no HTTP\r\n\r\n"]) {
        for (let n = 0; n < 20; n++) yield* staysOpen(broker.port, text)
      }
      yield* eventually(
        Effect.sync(() => openFiles(broker)),
        (files) => files <= before + 2
      )
    })
  )
})
