import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Exited, eventually, type RunningBroker, startBroker, temporaryDirectory } from "../kit/broker.js"
import { startCloud, startCloudBroker, untilCalled } from "../kit/cloud.js"
import { inboxOf, type Session, sharedBroker, startSession, untilState } from "../kit/endToEnd.js"
import { cli, cliOf, here, hereOf, linesOf } from "../kit/operatorCli.js"

/** Many processes are started, and others may load the machine. */
const patience = { timeout: 120_000 }

/** Sends to the session and refuses what comes until it is dead. */
const bury = (broker: RunningBroker, { address, plugin, send, socket }: Session, content: string) =>
  Effect.gen(function* () {
    const { dead_letters } = yield* broker.status
    yield* send(address, content)
    const [frame] = yield* plugin.take(1, 30_000)
    assert.strictEqual(frame!.content, content)
    socket.send(JSON.stringify({ event: "push_nack", push_id: frame!.push_id, reason: "no" }))
    yield* eventually(broker.status, (status) => status.dead_letters === dead_letters + 1, 30_000)
  })

const listed = (broker: RunningBroker) =>
  Effect.map(
    broker.operator("GET", "/v1/operator/dead"),
    ({ body }) => body.items as ReadonlyArray<Record<string, any>>
  )

const refusing = { settings: { deliveryLimit: 1 } }

describe("dead letters of messages", patience, () => {
  const shared = sharedBroker(refusing)

  it.scopedLive("D11: list, show, retry and purge, with books that balance and no content in list and log", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker, { acknowledges: false })
      for (const content of ["secret one", "secret two", "secret three"]) yield* bury(broker, session, content)
      const items = yield* listed(broker)
      assert.lengthOf(items, 3)
      assert.deepInclude(items[0]!, { kind: "message", reason: "delivery_limit", endpoint_id: session.id })
      const [one, two, three] = items.map(({ id }) => id as string) as [string, string, string]

      const json = yield* hereOf(broker, "dead", "list", "--json")
      assert.deepStrictEqual([json.code, json.stderr, JSON.parse(json.stdout)], [0, "", { items }])
      const list = yield* cliOf(broker, "dead", "list")
      assert.lengthOf(linesOf(list.stdout), 3)
      for (const word of [one, two, "delivery_limit", session.id]) assert.include(list.stdout, word)
      const shown = yield* hereOf(broker, "dead", "show", one)
      assert.deepStrictEqual([shown.code, shown.stderr], [0, ""])
      assert.deepInclude(JSON.parse(shown.stdout), { id: one, content: "secret one", endpoint_id: session.id })

      const retried = yield* cliOf(broker, "dead", "retry", one)
      assert.deepStrictEqual([retried.code, retried.stderr], [0, ""])
      assert.strictEqual(retried.stdout, `${one} is in the mailbox of ${session.id}.\n`)
      const [again] = yield* session.plugin.take(1, 30_000)
      assert.deepInclude(again!, { content: "secret one", redelivered: true })
      session.socket.send(JSON.stringify({ event: "push_ack", push_id: again!.push_id }))
      yield* eventually(broker.status, ({ books }) => books.delivered === 1, 30_000)

      const purged = yield* hereOf(broker, "dead", "purge", two)
      assert.deepStrictEqual([purged.code, purged.stderr, purged.stdout], [0, "", `${two} is gone.\n`])
      assert.deepStrictEqual(
        (yield* listed(broker)).map(({ id }) => id),
        [three]
      )
      const all = yield* hereOf(broker, "dead", "purge", "--all")
      assert.deepStrictEqual([all.code, all.stdout], [0, "1 dead letter gone.\n"])
      assert.strictEqual((yield* hereOf(broker, "dead", "list")).stdout, "There are no dead letters.\n")
      const { books, dead_letters } = yield* broker.status
      assert.deepInclude(books, { accepted: 3, delivered: 1, dead: 2, held: 0, unaccounted: 0 })
      assert.strictEqual(dead_letters, 0)
      const { code, stderr, stdout } = yield* hereOf(broker, "doctor", "--ledger")
      assert.deepStrictEqual([code, stderr], [0, ""], stdout)

      for (const text of [list.stdout, JSON.stringify(items), JSON.stringify(broker.logLines())]) {
        assert.notInclude(text, "secret")
      }
    })
  )

  it.scopedLive("D11: one of an earlier life is retried into the inbox when its endpoint is gone", () =>
    Effect.gen(function* () {
      const first = yield* startBroker(refusing)
      const session = yield* startSession(first, { acknowledges: false })
      yield* bury(first, session, "old")
      yield* first.end("SIGTERM")
      const broker = yield* startBroker({ userData: first.userData, settings: { deliveryLimit: 1, graceMs: 100 } })
      const books = Effect.map(broker.status, (status) => status.books)
      yield* untilState(broker, session.id, "closed")
      const [item] = yield* listed(broker)
      assert.deepInclude(yield* books, { accepted: 0, dead: 0 })
      const { code, stdout } = yield* hereOf(broker, "dead", "retry", item!.id)
      assert.deepStrictEqual([code, stdout], [0, `${item!.id} is in the inbox of undispatched messages.\n`])
      yield* inboxOf(broker, "old")
      assert.deepInclude(yield* books, { accepted: 1, inbox: 1, dead: 0, unaccounted: 0 })
      // It is there for good.
      yield* broker.end("SIGKILL")
      const third = yield* startBroker({ userData: first.userData })
      yield* inboxOf(third, "old")
      assert.deepStrictEqual(yield* listed(third), [])
    })
  )

  it.scopedLive("what does not work is said on stderr and keeps no other from it", () =>
    Effect.gen(function* () {
      const broker = yield* shared
      const session = yield* startSession(broker, { acknowledges: false })
      yield* bury(broker, session, "a")
      const [item] = yield* listed(broker)
      const retried = yield* cliOf(broker, "dead", "retry", "m-nobody", item!.id)
      const purged = yield* hereOf(broker, "dead", "purge", item!.id, "r-nobody")
      for (const { code, stderr, stdout } of [retried, purged]) {
        assert.strictEqual(code, 1)
        assert.match(stderr, /^There is no dead letter "[mr]-nobody".*$/m)
        assert.notInclude(stdout, "nobody")
      }
      assert.include(retried.stdout, `${item!.id} is in the mailbox`)
      // It is retried already.
      assert.include(purged.stderr, `"${item!.id}"`)
      assert.lengthOf(linesOf(purged.stderr), 2)
      const { code, stderr, stdout } = yield* hereOf(broker, "dead", "show", "nothing/there")
      assert.deepStrictEqual([code, stdout], [1, ""])
      assert.include(stderr, '"nothing/there"')
    })
  )
})

describe.concurrent("reports the platform refused", patience, () => {
  it.scopedLive("D10: are listed, shown, retried and purged", () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const fault = yield* cloud.fault({ at: "undispatched_changed", does: "refuse", status: 422, code: "no" })
      const broker = yield* startCloudBroker(cloud, "alice")
      for (const content of ["one", "two"]) {
        yield* cloud.inject({ account: "alice", content })
      }
      yield* eventually(broker.status, ({ platform }) => platform.dead === 2, 20_000)
      const [one, two] = yield* listed(broker)
      assert.deepInclude(one!, { kind: "report", report: "UndispatchedChanged" })
      assert.match(one!.id, /^r-/)
      const shown = yield* hereOf(broker, "dead", "show", one!.id)
      assert.deepInclude(JSON.parse(shown.stdout).content, { _tag: "UndispatchedChanged" })
      yield* cloud.clear(fault.id)
      const retried = yield* hereOf(broker, "dead", "retry", one!.id)
      assert.deepStrictEqual([retried.code, retried.stdout], [0, `${one!.id} is owed to the platform again.\n`])
      yield* untilCalled(cloud, "alice", "undispatched_changed", ({ status }) => status! < 300)
      const purged = yield* hereOf(broker, "dead", "purge", two!.id)
      assert.strictEqual(purged.code, 0)
      assert.deepInclude((yield* broker.status).platform, { dead: 0, waiting: 0 })
    })
  )
})

describe.concurrent("dead", patience, () => {
  it.scopedLive("ends with 1 and a sentence when no broker runs", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const isRefused = ({ code, stderr, stdout }: Exited, args: ReadonlyArray<string>) => {
        assert.deepStrictEqual([code, stdout], [1, ""], args.join(" "))
        assert.match(stderr, /^No broker is running.*start it first\.\n$/)
      }
      isRefused(yield* cli(userData, "dead", "list"), ["list"])
      for (const args of [["list"], ["show", "m-1"], ["retry", "m-1"], ["purge", "m-1"], ["purge", "--all"]]) {
        isRefused(yield* hereOf({ directory: userData }, "dead", ...args), args)
      }
    })
  )

  it.scopedLive("ends with 2 when it is used wrongly", () =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      const isWrongUsage = ({ code, stderr, stdout }: Exited, args: ReadonlyArray<string>) => {
        assert.deepStrictEqual([code, stdout], [2, ""], args.join(" "))
        assert.isAbove(stderr.trim().length, 10)
      }
      for (const args of [["show"], ["purge", "--all", "m-1"]])
        isWrongUsage(yield* cli(userData, "dead", ...args), args)
      for (const args of [["retry"], ["purge"], ["nonsense"]]) isWrongUsage(yield* here("dead", ...args), args)
    })
  )
})
