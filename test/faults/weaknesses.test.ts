/** Weaknesses of the reference by their ids that no other file tells: costs that grow, errors in timers, ids as names. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { RecentIds } from "../../src/layers/internal/RecentIds.js"
import { Directory } from "../../src/services/Directory.js"
import { Dispatch } from "../../src/services/Dispatch.js"
import { Inbox } from "../../src/services/Inbox.js"
import { EndpointId, EndpointKey } from "../../src/services/model/Ids.js"
import { plan } from "../../src/services/model/RoutePlan.js"
import { core, type LogLine } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { comeBack, commit, jitter, mail, names, pass, quiet, session, settled } from "../kit/steps.js"

describe("D7: the endpoint that sent a correlation id", () => {
  it("is asked for by the id: routing looks at no other endpoint, however many there are", () => {
    const asked: Array<string> = []
    const endpoint = (id: string) => ({ id: EndpointId(id), agent: "agent" })
    const known = new Map(names("ep_", 1_000).map((id) => [id, endpoint(id)] as const))
    const view = {
      endpoint: (id: string) => {
        asked.push(id)
        return known.get(id)
      },
      senders: function* (correlationId: string) {
        asked.push(correlationId)
        yield known.get("ep_777")!
      }
    }
    const route = plan({ correlation_id: "c" }, undefined, view)
    assert.deepInclude(route, { _tag: "Endpoint", endpoint: endpoint("ep_777") })
    assert.deepStrictEqual(asked, ["c"])
  })

  it("is found at once among many: 100,000 look-ups in 1,000 endpoints with 100 ids each end", () => {
    const ids = new RecentIds({ count: 100, ageMs: 1_000 }, () => undefined)
    for (let n = 0; n < 100_000; n++) ids.add(EndpointKey(n % 1_000), String(n), 0)
    for (let n = 0; n < 100_000; n++) assert.strictEqual(ids.owners(String(n), 0)[0], n % 1_000)
  })
})

describe("D8: what goes first, or from the middle, costs the same however much there is", () => {
  it("of remembered ids: 200,000 leave a memory of 200,000, the oldest first", () => {
    let next = 0
    const ids = new RecentIds({ count: 200_000, ageMs: 1_000 }, (_, id) => {
      if (id !== String(next++)) assert.fail(`${id} left before its time`)
    })
    for (let n = 0; n < 400_000; n++) ids.add(EndpointKey(1), String(n), 0)
    assert.strictEqual(next, 200_000)
    assert.strictEqual(ids.count(EndpointKey(1)), 200_000)
  })

  it.scoped("of undispatched messages: those taken from the middle leave the others in their order", () => {
    const network = new FakeNetwork()
    const contents = names("m", 3_000)
    return Effect.gen(function* () {
      const inbox = yield* Inbox
      network.deliver(...contents.map((content) => ({ content })))
      yield* settled
      const odd = contents.filter((_, n) => n % 2 === 1)
      yield* commit((transaction) => {
        for (const id of odd.toReversed()) assert.strictEqual(inbox.unsafeTake(transaction, id)?.message.id, id)
      })
      assert.deepStrictEqual(
        Array.from(inbox.unsafeItems(), ({ message }) => message.content),
        contents.filter((_, n) => n % 2 === 0)
      )
    }).pipe(Effect.provide(core({ network, settings: { ...quiet, inboxMessages: 3_000 } })))
  })
})

describe("C9: a store that cannot be written when a timer fires", () => {
  it.scoped(
    "ends nothing but the endpoint whose grace is over; its mail is undispatched, and later so in the store",
    () => {
      const network = new FakeNetwork()
      const store = new FakeStore()
      const log: Array<LogLine> = []
      return Effect.gen(function* () {
        yield* jitter(1)
        const [gone, other] = [yield* session(11), yield* session(12)]
        gone.drop()
        network.deliver(mail(gone.endpointId, "held 1"), mail(gone.endpointId, "held 2"))
        yield* settled
        store.failure = "EACCES: permission denied"
        yield* pass(600_000)
        assert.isUndefined((yield* Directory).unsafeGet(gone.endpointId))
        network.deliver(mail(other.endpointId, "live"))
        yield* settled
        assert.deepStrictEqual(other.contents, ["live"], "pushing needs no store")
        assert.deepStrictEqual(store.recordsOf("inbox"), [])

        store.failure = undefined
        yield* pass(30_000)
        const stored = store.recordsOf<{ message: { content: string }; originalTarget: string }>("inbox")
        assert.deepStrictEqual(
          stored.map(({ message, originalTarget }) => [message.content, originalTarget]),
          [
            ["held 1", gone.endpointId],
            ["held 2", gone.endpointId]
          ]
        )
        const { ok } = yield* Effect.as((yield* Dispatch).dispatch("held 1", other.endpointId), { ok: true })
        assert.isTrue(ok)
        yield* settled
        assert.deepStrictEqual(other.contents, ["live", "held 1"])
        assert.includeMembers(
          log.map(({ event }) => event),
          ["store_write_failed", "store_recovered"]
        )
      }).pipe(Effect.orDie, Effect.provide(core({ network, log, settings: quiet, variants: { store: store.layer } })))
    }
  )
})

describe("F26: ids that would be the same file name", () => {
  const ids = ["a/b", "a:b", "a\\b", "a_b", "../a/b", "A/B", "a/b ", "a%2Fb", "é", "e\u0301"]

  it.scoped("are different endpoints: none gets the mail of another, held or live", () => {
    const network = new FakeNetwork()
    const platform = new FakePlatform()
    const minted = [...ids]
    platform.onRegister = () => Effect.sync(() => ({ endpointId: minted.shift()! }))
    const store = new FakeStore()
    return Effect.gen(function* () {
      const sessions = yield* Effect.forEach(ids, (_, n) => session(100 + n))
      for (const plugin of sessions) plugin.drop()
      network.deliver(...ids.map((id) => mail(id, `held for ${id}`)))
      yield* settled
      for (const plugin of sessions) yield* comeBack(plugin)
      network.deliver(...ids.map((id) => mail(id, `live for ${id}`)))
      yield* settled
      for (const [n, plugin] of sessions.entries()) {
        assert.strictEqual(plugin.endpointId, ids[n])
        assert.deepStrictEqual(plugin.contents, [`held for ${ids[n]}`, `live for ${ids[n]}`])
      }
    }).pipe(
      Effect.provide(core({ network, settings: quiet, variants: { platform: platform.layer, store: store.layer } }))
    )
  })

  it.scoped("are different messages", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      network.deliver(...ids.map((messageId) => ({ messageId, content: `content of ${messageId}` })))
      yield* settled
      const items = [...(yield* Inbox).unsafeItems()].map(({ message }) => [message.id as string, message.content])
      assert.deepStrictEqual(
        items,
        ids.map((id) => [id, `content of ${id}`])
      )
    }).pipe(Effect.provide(core({ network, settings: quiet })))
  })
})

describe("F27: the states of an endpoint", () => {
  const root = fileURLToPath(new URL("../../src/", import.meta.url))
  const filesWith = (pattern: RegExp) =>
    readdirSync(root, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts") && pattern.test(readFileSync(join(root, name), "utf8")))
      .sort()

  it("are made in model/EndpointLifecycle alone: registration, resumption and reattachment ask it like all others", () => {
    const made = /(?<!\.)\b(?:Active|Reconnecting|Closed)\(\{|_tag: "(?:Active|Reconnecting|Closed)"/
    assert.deepStrictEqual(filesWith(made), ["services/model/EndpointLifecycle.ts"])
    const decided = /import \{[^}]*\b(?:begin|step)\b[^}]*\} from "[^"]*EndpointLifecycle\.js"/
    assert.deepStrictEqual(filesWith(decided), ["layers/RegistryStore.ts"])
  })

  it("are written by the registry alone", () => {
    assert.deepStrictEqual(filesWith(/\bendpoint\.state = /), ["layers/RegistryStore.ts"])
  })
})
