import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { CorrelationIndex } from "../../src/services/CorrelationIndex.js"
import { Directory } from "../../src/services/Directory.js"
import { Dispatch } from "../../src/services/Dispatch.js"
import { IdempotencyKeys } from "../../src/services/IdempotencyKeys.js"
import { Inbox } from "../../src/services/Inbox.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Liveness } from "../../src/services/Liveness.js"
import { EndpointKey, MessageId } from "../../src/services/model/Ids.js"
import { ordered } from "../../src/services/model/StoreKey.js"
import { Registry } from "../../src/services/Registry.js"
import { ReplyCorrelations } from "../../src/services/ReplyCorrelations.js"
import { table } from "../../src/services/Store.js"
import { type CoreOptions, core, FakePlugin, FakeProcesses, type LogLine, withReceipts } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform, unavailable } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import {
  comeBack,
  commit,
  drain,
  jitter,
  mail,
  names,
  pass,
  quiet,
  type Session,
  session,
  settled
} from "../kit/steps.js"

interface Options extends Omit<CoreOptions, "settings" | "variants"> {
  readonly settings?: Partial<Settings>
  readonly platform?: FakePlatform
  readonly store?: FakeStore
}
const broker = ({ platform = new FakePlatform(), settings = {}, store = new FakeStore(), ...options }: Options = {}) =>
  core({
    ...options,
    settings: { ...quiet, ...settings },
    variants: { platform: platform.layer, store: store.layer }
  })

const stateOf = ({ endpointId }: { readonly endpointId: string }) =>
  Effect.map(Directory, (directory) => directory.unsafeGet(endpointId)?.state)
const tagOf = (endpoint: { readonly endpointId: string }) => Effect.map(stateOf(endpoint), (state) => state?._tag)
const unregister = ({ endpointId }: { readonly endpointId: string }) =>
  Effect.flatMap(Registry, (registry) => registry.unregister(endpointId))
const undispatched = Effect.map(Inbox, (inbox) => Array.from(inbox.unsafeItems(), ({ message }) => message.content))
const resumable = [...withReceipts, "endpoint_resume_v1"]

describe("the grace period", () => {
  it.scoped("begins when the channel ends, keeps the endpoint for ten minutes, and not a millisecond longer", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* pass(5_000)
      plugin.drop()
      yield* settled
      assert.deepStrictEqual(yield* stateOf(plugin), { _tag: "Reconnecting", deadline: 605_000 })
      yield* pass(599_999)
      assert.strictEqual(yield* tagOf(plugin), "Reconnecting")
      yield* pass(1)
      assert.isUndefined(yield* tagOf(plugin))
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("is over when the plugin is back, and begins afresh when it leaves again", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      yield* pass(599_999)
      yield* comeBack(plugin)
      yield* pass(1)
      yield* pass(300_000)
      assert.strictEqual(yield* tagOf(plugin), "Active")
      plugin.drop()
      yield* pass(599_999)
      assert.strictEqual(yield* tagOf(plugin), "Reconnecting")
      yield* pass(1)
      assert.isUndefined(yield* tagOf(plugin))
    }).pipe(Effect.provide(broker()))
  )

  it.scoped("is counted per endpoint", () =>
    Effect.gen(function* () {
      const a = yield* session(11)
      const b = yield* session(12)
      a.drop()
      yield* pass(1_000)
      b.drop()
      yield* pass(9_000)
      assert.isUndefined(yield* tagOf(a))
      assert.strictEqual(yield* tagOf(b), "Reconnecting")
      yield* pass(1_000)
      assert.isUndefined(yield* tagOf(b))
    }).pipe(Effect.provide(broker({ settings: { graceMs: 10_000 } })))
  )
})

describe("the plugin's process", () => {
  it.scoped("dead when its channel ends: the endpoint is closed at once", () => {
    const processes = new FakeProcesses()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const other = yield* session(12)
      processes.dead.add(11)
      plugin.drop()
      yield* settled
      assert.isUndefined(yield* tagOf(plugin))
      assert.strictEqual(yield* tagOf(other), "Active")
    }).pipe(Effect.provide(broker({ processes })))
  })

  it.scoped("D14: dying in grace, it is found by the next check, every 2 s", () => {
    const processes = new FakeProcesses()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      plugin.drop()
      yield* pass(2_000)
      processes.dead.add(11)
      yield* pass(1_999)
      assert.strictEqual(yield* tagOf(plugin), "Reconnecting")
      yield* pass(1)
      assert.isUndefined(yield* tagOf(plugin))
    }).pipe(Effect.provide(broker({ processes, settings: { livenessIntervalMs: 2_000 } })))
  })

  it.scoped("dying while its channel still looks open, it is found, too", () => {
    const processes = new FakeProcesses()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      processes.dead.add(11)
      yield* pass(2_000)
      assert.isUndefined(yield* tagOf(plugin))
    }).pipe(Effect.provide(broker({ processes, settings: { livenessIntervalMs: 2_000 } })))
  })

  it.scoped("with endpoint_resume_v1 its endpoints wait for it also when it died, until their grace is over", () => {
    const processes = new FakeProcesses()
    return Effect.gen(function* () {
      const dropped = yield* session(11, {}, resumable)
      const silent = yield* session(12, {}, resumable)
      processes.dead.add(11).add(12)
      dropped.drop()
      yield* pass(2_000)
      assert.strictEqual(yield* tagOf(dropped), "Reconnecting")
      assert.deepStrictEqual(yield* stateOf(silent), { _tag: "Reconnecting", deadline: 12_000 })
      yield* pass(8_000)
      assert.isUndefined(yield* tagOf(dropped))
      assert.strictEqual(yield* tagOf(silent), "Reconnecting")
      yield* pass(2_000)
      assert.isUndefined(yield* tagOf(silent))
    }).pipe(Effect.provide(broker({ processes, settings: { livenessIntervalMs: 2_000, graceMs: 10_000 } })))
  })

  it.scoped("is told from the next one with its pid, whose channel is not judged by the endpoints of the dead", () => {
    const started = new Map([[11, "first"]])
    const processes = new (class extends FakeProcesses {
      override readonly layer = Layer.succeed(Liveness, {
        unsafeIsAlive: (pid, start) => started.get(pid) === start,
        startOf: (pid) => Effect.succeed(started.get(pid))
      })
    })()
    return Effect.gen(function* () {
      const first = yield* session(11, { kind: "first" }, resumable)
      first.drop()
      started.set(11, "second")
      const second = yield* session(11, { kind: "second" })
      second.drop()
      yield* settled
      assert.strictEqual(yield* tagOf(second), "Reconnecting", "its process lives")
      assert.strictEqual(yield* tagOf(first), "Reconnecting")
    }).pipe(Effect.provide(broker({ processes })))
  })

  it.scoped("that the broker cannot see is never found dead", () => {
    const processes = new (class extends FakeProcesses {
      override readonly layer = Layer.succeed(Liveness, {
        unsafeIsAlive: () => false,
        startOf: () => Effect.succeed(undefined)
      })
    })()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* pass(2_000)
      assert.strictEqual(yield* tagOf(plugin), "Active")
      plugin.drop()
      yield* pass(2_000)
      assert.strictEqual(yield* tagOf(plugin), "Reconnecting")
    }).pipe(Effect.provide(broker({ processes, settings: { livenessIntervalMs: 2_000 } })))
  })
})

describe("A2: a newer channel of the same process", () => {
  it.scoped("carries every endpoint over and delivers to it; the old one's end changes nothing", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const second = yield* plugin.register({ kind: "second" })
      yield* plugin.open
      yield* pass(1_000)
      network.deliver(mail(plugin.endpointId, "a"), mail(second.endpointId, "b"))
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a", "b"])
      for (const endpoint of [plugin, second]) assert.deepInclude(yield* stateOf(endpoint), { _tag: "Active" })
      yield* drain(plugin)
      plugin.drop()
      yield* settled
      for (const endpoint of [plugin, second]) assert.strictEqual(yield* tagOf(endpoint), "Reconnecting")
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("does not touch endpoints that wait since before, nor those of other processes", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const other = yield* session(12)
      plugin.drop()
      yield* settled
      yield* plugin.open
      yield* plugin.open
      network.deliver(mail(plugin.endpointId, "a"), mail(other.endpointId, "b"))
      yield* settled
      assert.strictEqual(yield* tagOf(plugin), "Reconnecting")
      assert.deepStrictEqual(plugin.contents, [])
      assert.deepStrictEqual(other.contents, ["b"])
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("A3: gets what is dispatched to an endpoint it took over", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* plugin.open
      network.deliver({ content: "a" })
      yield* settled
      yield* (yield* Dispatch).dispatch("a", plugin.endpointId)
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a"])
    }).pipe(Effect.provide(broker({ network })))
  })
})

describe("A4: while the platform is slow to register", () => {
  const registering = (platform: FakePlatform, meanwhile: (plugin: FakePlugin) => Effect.Effect<void, never, any>) =>
    Effect.gen(function* () {
      const plugin = new FakePlugin(11)
      yield* plugin.open
      const answer = platform.holdRegistrations()
      const register = yield* Effect.fork(plugin.register())
      yield* settled
      yield* meanwhile(plugin)
      yield* settled
      yield* answer
      return Object.assign(plugin, yield* Effect.orDie(Fiber.join(register))) as Session
    })

  it.scoped("the channel may end: then the endpoint waits for its plugin, its mail is kept, and it comes back", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = yield* registering(platform, (plugin) => Effect.sync(() => plugin.drop()))
      assert.strictEqual(yield* tagOf(plugin), "Reconnecting")
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      assert.deepStrictEqual(network.accepted, ["a"])
      assert.strictEqual(yield* comeBack(plugin), 1)
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a"])
      assert.deepStrictEqual(platform.statesOf(plugin.endpointId).at(-1), "active/reattach")
    }).pipe(Effect.provide(broker({ network, platform })))
  })

  it.scoped("and stay away: then its grace period ends it", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = yield* registering(platform, (plugin) => Effect.sync(() => plugin.drop()))
      yield* pass(600_000)
      assert.isUndefined(yield* tagOf(plugin))
      assert.deepStrictEqual(platform.statesOf(plugin.endpointId).slice(-2), ["closed/grace_timeout", "removed"])
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("a newer channel may come: then the endpoint is bound to it, and in use", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = yield* registering(platform, (plugin) => Effect.asVoid(plugin.open))
      assert.deepInclude(yield* stateOf(plugin), { _tag: "Active", claimed: true })
      network.deliver(mail(plugin.endpointId, "a"))
      yield* settled
      assert.deepStrictEqual(plugin.contents, ["a"])
    }).pipe(Effect.provide(broker({ network, platform })))
  })
})

describe("A5: mail of an endpoint that ends", () => {
  const processes = new FakeProcesses()
  const endings: ReadonlyArray<readonly [string, (plugin: Session) => Effect.Effect<unknown, never, Registry>]> = [
    ["when its grace is over", () => pass(600_000)],
    [
      "when its plugin is found dead",
      () =>
        Effect.zipRight(
          Effect.sync(() => processes.dead.add(11)),
          pass(quiet.livenessIntervalMs!)
        )
    ],
    ["when it is unregistered", (plugin) => Effect.orDie(unregister(plugin))]
  ]
  for (const [when, end] of endings) {
    it.scoped(`becomes undispatched, with its target, ${when}`, () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      processes.dead.clear()
      return Effect.gen(function* () {
        const plugin = yield* session(11)
        network.deliver(mail(plugin.endpointId, "in flight"))
        yield* settled
        plugin.drop()
        network.deliver(mail(plugin.endpointId, "held"))
        yield* settled
        yield* end(plugin)
        yield* settled
        assert.isUndefined(yield* tagOf(plugin))
        assert.deepStrictEqual(yield* undispatched, ["in flight", "held"])
        for (const item of [...(yield* Inbox).unsafeItems()]) {
          assert.deepInclude(item, { reason: "closed_session_continuation", originalTarget: plugin.endpointId })
        }
        assert.deepStrictEqual(network.accepted, ["in flight", "held"])
        assert.deepStrictEqual(store.recordsOf("endpoints"), [])
      }).pipe(Effect.provide(broker({ network, processes, store, settings: { graceMs: 600_000 } })))
    })
  }
})

describe("unregistering", () => {
  it.scoped("ends the endpoint in any state, forgets its correlations, and is fine for ids nobody knows", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const active = yield* session(11)
      const away = yield* session(12)
      const index = yield* CorrelationIndex
      const key = (yield* Directory).unsafeGet(active.endpointId)!.key
      yield* commit((transaction) => index.unsafeAdd(transaction, key, "c"))
      away.drop()
      for (const endpoint of [active, away, away, { endpointId: "ep_unknown" }]) yield* unregister(endpoint)
      assert.deepStrictEqual(Array.from((yield* Directory).unsafeAll()), [])
      assert.deepStrictEqual(index.unsafeSenders("c"), [])
      assert.deepStrictEqual(store.recordsOf("correlation_sent"), [])
      active.drop()
      yield* pass(600_000)
      assert.deepStrictEqual(Array.from((yield* Directory).unsafeAll()), [])
    }).pipe(Effect.provide(broker({ store })))
  })

  it.scoped("is done when it is durable, not before", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      store.hold()
      const done = yield* Effect.fork(unregister(plugin))
      yield* settled
      assert.isNull(done.unsafePoll())
      store.release()
      yield* Fiber.join(done)
    }).pipe(Effect.provide(broker({ store })))
  })
})

describe("a start", () => {
  it.scoped("forgets what the store remembers of endpoints that are not there, and nothing of those that are", () => {
    const store = new FakeStore()
    const remember = (endpoint: EndpointKey) =>
      Effect.gen(function* () {
        const [sent, received, keys] = [yield* CorrelationIndex, yield* ReplyCorrelations, yield* IdempotencyKeys]
        yield* commit((transaction) => {
          sent.unsafeAdd(transaction, endpoint, "c")
          received.unsafeRecord(transaction, endpoint, "c")
          keys.unsafePut(transaction, endpoint, "k", { digest: "d", messageId: "m", correlationId: "c" })
        })
      })
    const counts = () =>
      ["correlation_sent", "correlation_received", "idempotency"].map((name) => store.keysOf(name).length)
    return Effect.gen(function* () {
      const before = Effect.gen(function* () {
        const { endpointId } = yield* session(11)
        yield* remember((yield* Directory).unsafeGet(endpointId)!.key)
        yield* remember(EndpointKey(77))
      })
      yield* before.pipe(Effect.provide(broker({ store })))
      assert.deepStrictEqual(counts(), [2, 2, 2])
      const after = Effect.gen(function* () {
        yield* settled
        assert.deepStrictEqual(counts(), [1, 1, 1])
        const { key } = [...(yield* Directory).unsafeAll()][0]!
        assert.deepStrictEqual((yield* CorrelationIndex).unsafeSenders("c"), [key])
      })
      yield* after.pipe(Effect.provide(broker({ store })))
    })
  })

  describe("that finds no record of the last key", () => {
    const keyOf = ({ endpointId }: { readonly endpointId: string }) =>
      Effect.map(Directory, (directory) => directory.unsafeGet(endpointId)!.key)
    /** An endpoint with three messages that wait for it, then the record is lost. */
    const lifeBefore = (store: FakeStore, network: FakeNetwork) =>
      Effect.gen(function* () {
        const plugin = yield* session(11, { session_name: "work" })
        plugin.drop()
        network.deliver(...names("m", 3).map((id) => mail(plugin.endpointId, id)))
        yield* settled
        return { ...plugin, key: yield* keyOf(plugin) }
      }).pipe(
        Effect.provide(broker({ network, store })),
        Effect.tap(() => Effect.sync(() => store.damage("endpoint_keys", "last")))
      )

    it.scoped("gives no new endpoint the key of one that is there, nor its mail", () =>
      Effect.gen(function* () {
        const [store, network] = [new FakeStore(), new FakeNetwork()]
        const first = yield* lifeBefore(store, network)
        yield* Effect.gen(function* () {
          const other = yield* session(12, { session_name: "other" })
          yield* settled
          assert.isAbove(yield* keyOf(other), first.key)
          assert.deepStrictEqual(other.contents, [])
          const back = yield* session(11, { session_name: "work" })
          yield* settled
          assert.deepStrictEqual(back.contents, names("m", 3))
        }).pipe(Effect.provide(broker({ network, store })))
      })
    )

    it.scoped("nor that of one whose record is lost as well, or whose mail is on its way", () =>
      Effect.gen(function* () {
        for (const isMoving of [false, true]) {
          const [store, network] = [new FakeStore(), new FakeNetwork()]
          const first = yield* lifeBefore(store, network)
          store.damage("endpoints", store.keysOf("endpoints")[0]!)
          if (isMoving) {
            yield* commit((transaction) =>
              transaction.put(table("mail_moves", 1), ordered(EndpointKey(first.key + 1)), { originalTarget: "ended" })
            ).pipe(Effect.provide(broker({ store })))
          }
          yield* Effect.gen(function* () {
            const other = yield* session(12)
            yield* settled
            assert.isAbove(yield* keyOf(other), isMoving ? first.key + 1 : first.key)
            assert.deepStrictEqual(other.contents, [])
          }).pipe(Effect.provide(broker({ network, store })))
        }
      })
    )
  })

  it.scoped("finds mail whose endpoint is lost: it becomes undispatched, without a target, and is told of once", () =>
    Effect.gen(function* () {
      const [store, network] = [new FakeStore(), new FakeNetwork()]
      yield* Effect.gen(function* () {
        const plugin = yield* session(11)
        plugin.drop()
        network.deliver(
          mail(plugin.endpointId, "over", { expires_at: 1_000 }),
          ...names("m", 3).map((id) => mail(plugin.endpointId, id))
        )
        yield* settled
      }).pipe(Effect.provide(broker({ network, store })))
      store.damage("endpoints", store.keysOf("endpoints")[0]!)

      const log: Array<LogLine> = []
      yield* Effect.gen(function* () {
        const plugin = yield* session(12)
        yield* settled
        assert.deepStrictEqual(yield* undispatched, ["over", ...names("m", 3)])
        for (const item of (yield* Inbox).unsafeItems()) assert.notProperty(item, "originalTarget")
        assert.deepInclude((yield* Ledger).unsafeBooks(), { accepted: 4, held: 0, inbox: 4 })
        yield* pass(1_000)
        assert.deepStrictEqual(yield* undispatched, names("m", 3))
        yield* (yield* Dispatch).dispatch(MessageId("m1"), plugin.endpointId)
        yield* drain(plugin)
        assert.deepStrictEqual(plugin.contents, ["m1"])
      }).pipe(Effect.provide(broker({ log, network, store })))
      const told = log.filter(({ event }) => event === "mail_without_endpoint")
      assert.deepStrictEqual(told, [{ level: "warn", event: "mail_without_endpoint", fields: { count: 4 } }])
      assert.deepStrictEqual([store.keysOf("mail"), store.keysOf("mail_moves")], [[], []])
    })
  )
})

describe("a store that cannot be written", () => {
  it.scoped("refuses to end an endpoint, which stays; one that was ending is told in time, and ends", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      const other = yield* session(12)
      store.failure = "no space left"
      const ending = yield* Effect.fork(Effect.flip(unregister(plugin)))
      yield* settled
      assert.strictEqual((yield* Effect.flip(unregister(other)))._tag, "store_unavailable")
      assert.strictEqual(yield* tagOf(other), "Active")
      yield* pass(3_000)
      assert.include((yield* Fiber.join(ending)).message, "no space left")
      store.failure = undefined
      yield* pass(30_000)
      assert.deepStrictEqual([yield* tagOf(plugin), store.recordsOf("endpoints").length], [undefined, 1])
    }).pipe(Effect.provide(broker({ store })))
  })
})

describe("endpoints that end together", () => {
  it.scoped("end each in a transaction of its own: their mail together may be more than one write should be", () => {
    const network = new FakeNetwork()
    const store = new FakeStore()
    const sizes: Array<number> = []
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      const ids = [plugin.endpointId]
      for (const kind of ["b", "c"]) ids.push((yield* plugin.register({ kind })).endpointId)
      plugin.drop()
      yield* settled
      network.deliver(...ids.map((id) => mail(id, `for ${id}`)))
      yield* settled
      store.onTransaction = ({ ops }) => sizes.push(ops.filter(({ table }) => table.name === "inbox").length)
      yield* pass(600_000)
      yield* settled
      assert.strictEqual((yield* undispatched).length, 3)
      assert.strictEqual(Math.max(...sizes), 1)
    }).pipe(Effect.provide(broker({ network, store })))
  })
})

describe("what the platform is told", () => {
  it.scoped("is every state in order, then that the record can go", () => {
    const platform = new FakePlatform()
    return Effect.gen(function* () {
      const plugin = yield* session(11)
      yield* settled
      plugin.drop()
      yield* settled
      yield* comeBack(plugin)
      yield* settled
      yield* unregister(plugin)
      yield* settled
      assert.deepStrictEqual(platform.statesOf(plugin.endpointId), [
        "active/register",
        "reconnecting/ipc_close",
        "active/reattach",
        "closed/explicit_unregister",
        "removed"
      ])
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("A16, A17: is the latest state where it could not be told in between, however long that took", () => {
    const platform = new FakePlatform()
    platform.onPost = () => unavailable()
    return Effect.gen(function* () {
      const back = yield* session(11)
      const gone = yield* session(12)
      yield* pass(1_000)
      back.drop()
      gone.drop()
      yield* pass(5_000)
      yield* comeBack(back)
      yield* pass(600_000)
      platform.onPost = () => Effect.void
      yield* pass(30_000)
      assert.deepStrictEqual(platform.statesOf(back.endpointId), ["active/reattach"])
      assert.deepStrictEqual(platform.statesOf(gone.endpointId), ["closed/grace_timeout", "removed"])
    }).pipe(Effect.provide(broker({ platform })))
  })
})
