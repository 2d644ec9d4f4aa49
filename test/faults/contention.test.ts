import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { WebSocket } from "ws"
import { eventually, type RunningBroker, startBroker, startPlugin } from "../kit/broker.js"
import { contentsOf, logged, refused, sharedBroker, startSession } from "../kit/endToEnd.js"
import { head, rawRequest, upgradeHeaders } from "../kit/rawHttp.js"
import { idleProcess } from "../kit/startedProcess.js"

/**
 * A client that opens its stream again whenever it ends or is refused, as published ones do, only sooner. `closing` is what it
 * answers a close frame with; the same code unless given.
 */
const startClient = (broker: RunningBroker, pid: number, closing?: { readonly code: number | undefined }) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = { opened: 0, refusals: [] as Array<number>, isOpen: false, stop: () => {} }
      let socket: WebSocket
      let timer: NodeJS.Timeout
      const open = () => {
        socket = new WebSocket(`${broker.url.replace("http", "ws")}/v1/stream`, {
          headers: { authorization: `Bearer ${broker.token}`, "x-plugin-pid": String(pid) }
        })
        if (closing !== undefined) {
          const { close } = socket
          socket.close = () => close.call(socket, closing.code)
        }
        socket.on("open", () => {
          client.opened++
          client.isOpen = true
        })
        socket.on("unexpected-response", (_, response) => {
          client.refusals.push(response.statusCode!)
          socket.terminate()
        })
        socket.on("error", () => undefined)
        socket.on("close", () => {
          client.isOpen = false
          timer = setTimeout(open, 50)
        })
      }
      open()
      client.stop = () => {
        socket.removeAllListeners("close").terminate()
        clearTimeout(timer)
      }
      return client
    }),
    ({ stop }) => Effect.sync(stop)
  )

describe.concurrent("E3: two clients with one process id", { timeout: 30_000 }, () => {
  it.scopedLive(
    "come to rest with one connected; the other is told with 429 what to do, and gets in when that leaves",
    () =>
      Effect.gen(function* () {
        const broker = yield* startBroker()
        const { pid } = yield* idleProcess
        const clients = [yield* startClient(broker, pid), yield* startClient(broker, pid)]
        yield* eventually(
          Effect.sync(() => clients.flatMap(({ refusals }) => refusals)),
          (refusals) => refusals.length >= 5,
          15_000
        )
        const [stays, waits] = clients[0]!.isOpen ? [clients[0]!, clients[1]!] : [clients[1]!, clients[0]!]
        assert.isTrue(stays.isOpen)
        assert.isFalse(waits.isOpen)
        assert.deepStrictEqual([...new Set(waits.refusals)], [429])
        assert.deepStrictEqual(stays.refusals, [])
        // Five were displaced, and one stays; an end may be heard of one turn late.
        assert.include([6, 7], stays.opened + waits.opened)

        const lines = [
          `Host: 127.0.0.1:${broker.port}`,
          `Authorization: Bearer ${broker.token}`,
          `x-plugin-pid: ${pid}`
        ]
        const answer = yield* rawRequest(broker.port, head("GET /v1/stream", [...upgradeHeaders, ...lines]))
        refused(answer, 429, "channel_contended", String(pid), "one client per process")
        assert.strictEqual(answer.body.retryable, true)
        const seconds = Number(answer.headers["retry-after"])
        assert.isTrue(seconds > 0 && seconds <= 30, answer.headers["retry-after"])
        const { channels, limits_hit, warnings } = yield* broker.status
        assert.strictEqual(channels.open, 1)
        assert.isAtLeast(limits_hit.channel_contention!, 6)
        assert.include(warnings.join("\n"), `process ${pid}`)
        yield* logged(broker, "channel_contended", { plugin_pid: pid })

        stays.stop()
        yield* eventually(
          Effect.sync(() => waits.isOpen),
          (isOpen) => isOpen
        )
        assert.deepStrictEqual((yield* broker.status).warnings, [])
      })
  )

  for (const [what, code] of [
    ["no code", undefined],
    ["another code", 1001]
  ] as const) {
    it.scopedLive(`come to rest as well when they answer the broker's close with ${what}`, () =>
      Effect.gen(function* () {
        const broker = yield* startBroker({ settings: { contentionCount: 2 } })
        const { pid } = yield* idleProcess
        const clients = [yield* startClient(broker, pid, { code }), yield* startClient(broker, pid, { code })]
        yield* eventually(
          Effect.sync(() => clients.flatMap(({ refusals }) => refusals)),
          (refusals) => refusals.length > 0,
          15_000
        )
        assert.deepStrictEqual([...new Set(clients.flatMap(({ refusals }) => refusals))], [429])
      })
    )
  }

  it.scopedLive("wait no longer than the rest lasts, and after one more turn wait again", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { contentionCount: 3, contentionRestMs: 400 } })
      const { pid } = yield* idleProcess
      const clients = [yield* startClient(broker, pid), yield* startClient(broker, pid)]
      const opened = Effect.sync(() => clients[0]!.opened + clients[1]!.opened)
      yield* eventually(opened, (count) => count >= 6, 15_000)
      assert.isAbove(clients.flatMap(({ refusals }) => refusals).length, 0)
    })
  )

  it.scopedLive("are nobody else's concern: other plugins and their mail go on", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ settings: { contentionCount: 2 } })
      const session = yield* startSession(broker)
      const { pid } = yield* idleProcess
      const clients = [yield* startClient(broker, pid), yield* startClient(broker, pid)]
      yield* eventually(
        Effect.sync(() => clients.flatMap(({ refusals }) => refusals)),
        (refusals) => refusals.length > 0,
        15_000
      )
      yield* session.send(session.address, "served")
      assert.deepStrictEqual(yield* contentsOf(session.plugin, 1), ["served"])
      yield* session.plugin.open
      assert.isUndefined(session.plugin.closed())
    })
  )
})

describe("E3: a plugin that reconnects is never refused, however often", { timeout: 30_000 }, () => {
  const times = 30
  const shared = sharedBroker({ settings: { contentionCount: 2, contentionRestMs: 60_000 } })

  it.scopedLive("when its stream was cut", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const plugin = yield* startPlugin(broker)
      for (let n = 0; n < times; n++) {
        yield* plugin.open
        yield* plugin.drop
      }
      assert.isUndefined((yield* broker.status).limits_hit.channel_contention)
    })
  )

  it.scopedLive("when it closed its stream itself and does not wait for the broker's answer", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const plugin = yield* startPlugin(broker)
      for (let n = 0; n < times; n++) {
        const socket = yield* plugin.open
        if (n % 3 === 0) socket.close()
        else if (n % 3 === 1) socket.close(1000, "client_close")
        else socket.close(1012, "broker_recover")
      }
      assert.isUndefined((yield* broker.status).limits_hit.channel_contention)
    })
  )

  it.scopedLive("when its old streams are dead: they answer nothing", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const plugin = yield* startPlugin(broker)
      for (let n = 0; n < times; n++) (yield* plugin.open).pause()
      // Those of the tests before are gone, or go.
      const { limits_hit } = yield* eventually(broker.status, ({ channels }) => channels.open === 1)
      assert.isUndefined(limits_hit.channel_contention)
    })
  )
})
