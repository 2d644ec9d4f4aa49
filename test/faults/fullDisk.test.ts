/** The built broker on a small disk: what it takes, what leaves, what it says, and that it heals. */
import { rmSync, statfsSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker, startBroker } from "../kit/broker.js"
import { contentsOf, inboxOf, registerAgain, startSession, untilState } from "../kit/endToEnd.js"
import { onOwnDisk } from "../kit/ownDisk.js"
import { works } from "../kit/preload.js"

const MiB = 2 ** 20

const [probe, ...args] = onOwnDisk("/mnt", MiB, ["true"])
const hasOwnDisks = works(probe!, args)

const freeBytes = ({ directory }: RunningBroker) => {
  const { bavail, bsize } = statfsSync(directory)
  return bavail * bsize
}

/** Fills the disk until so many bytes are free. */
const fillUp = (broker: RunningBroker, left: number) => {
  const file = join(broker.directory, "ballast")
  writeFileSync(file, Buffer.alloc(freeBytes(broker) - left))
  return () => rmSync(file)
}

/** What the store is, in the status. */
const untilStore = (broker: RunningBroker, state: "full" | "failing" | undefined) =>
  eventually(broker.status, ({ store }) => store.state === state)

describe(`a small disk${hasOwnDisks ? "" : " (skipped: unshare -rm is forbidden here)"}`, { timeout: 60_000 }, () => {
  it.scopedLive.runIf(hasOwnDisks)("below the limit no new mail is taken, and what is here leaves", () =>
    Effect.gen(function* () {
      const broker = yield* startBroker({ diskBytes: 48 * MiB, settings: { freeDiskBytes: 16 * MiB } })
      const [one, away, ending] = [
        yield* startSession(broker),
        yield* startSession(broker),
        yield* startSession(broker)
      ]
      for (const session of [away, ending]) yield* session.plugin.drop
      for (const { id } of [away, ending]) yield* untilState(broker, id, "reconnecting")
      for (const n of [1, 2, 3]) assert.strictEqual((yield* one.send(away.address, `held ${n}`)).status, 200)
      assert.strictEqual((yield* one.send(ending.address, "left")).status, 200)

      const remove = fillUp(broker, 10 * MiB)
      const { warnings } = yield* untilStore(broker, "full")
      assert.match(warnings.join(), /No new mail is taken.* 10 MiB free.* 16 MiB/)
      const refused = yield* one.send(one.address, "new")
      assert.deepInclude(refused, { status: 503 })
      assert.deepInclude(refused.body, { error: "store_unavailable", retryable: true })
      assert.match(refused.body.message, /10 MiB free/)

      yield* away.plugin.open
      assert.isTrue((yield* registerAgain(away)).resumed)
      assert.deepStrictEqual(yield* contentsOf(away.plugin, 3), ["held 1", "held 2", "held 3"])
      assert.strictEqual((yield* ending.plugin.call("DELETE", `/v1/endpoint/${ending.id}`)).status, 200)
      const [left] = yield* inboxOf(broker, "left")
      const dispatch = { undispatched_id: left!.id, target_endpoint_id: away.id }
      assert.strictEqual((yield* one.plugin.call("POST", "/v1/dispatch", dispatch)).status, 200)
      assert.deepStrictEqual(yield* contentsOf(away.plugin, 1), ["left"])
      const { books } = yield* eventually(broker.status, ({ books }) => books.delivered === 4)
      assert.deepInclude(books, { accepted: 4, held: 0, inbox: 0, unaccounted: 0 })

      remove()
      yield* untilStore(broker, undefined)
      assert.strictEqual((yield* one.send(away.address, "new")).status, 200)
      assert.deepStrictEqual(yield* contentsOf(away.plugin, 1), ["new"])
    })
  )

  it.scopedLive.runIf(hasOwnDisks)("endpoints that end with as much mail as is free do not fill it", () =>
    Effect.gen(function* () {
      const settings = { freeDiskBytes: 8 * MiB, graceMs: 400, windowMessages: 4 }
      const broker = yield* startBroker({ diskBytes: 80 * MiB, settings })
      const one = yield* startSession(broker)
      const slow = yield* startSession(broker, { acknowledges: false })
      const other = yield* slow.plugin.register({ kind: "other", agent_id: slow.agent })
      const content = "x".repeat(MiB - 10_000)
      const addresses = [...Array(36).fill(slow.address), ...Array(4).fill(slow.address.replace(slow.id, other))]
      for (const to of addresses) assert.strictEqual((yield* one.send(to, content)).status, 200)
      assert.isBelow(freeBytes(broker), 40 * MiB)
      yield* slow.plugin.drop
      const { books } = yield* eventually(broker.status, ({ books }) => books.inbox === addresses.length, 20_000)
      assert.deepInclude(books, { held: 0, unaccounted: 0 })
      assert.isAbove(freeBytes(broker), 0)
      assert.isFalse(broker.logLines().some(({ msg }) => msg === "store_write_failed"))
    })
  )

  it.scopedLive.runIf(hasOwnDisks)(
    "that is full: callers are told in time, and what was decided is stored when there is room",
    () =>
      Effect.gen(function* () {
        const settings = { freeDiskBytes: 1, storeWaitMs: 300, backoffMs: 100, backoffMaxMs: 200 }
        const broker = yield* startBroker({ diskBytes: 24 * MiB, settings })
        const one = yield* startSession(broker)
        const remove = fillUp(broker, 0)
        // Until what the file has beyond its pages is used.
        const content = "x".repeat(500_000)
        let taken = 0
        while ((yield* one.send(`local:${one.agent}`, content)).status === 200) taken++
        const failing = yield* untilStore(broker, "failing")
        assert.match(failing.store.reason!, /no space left/)
        const ended = yield* one.plugin.call("DELETE", `/v1/endpoint/${one.id}`)
        assert.deepInclude(ended.body, { error: "store_unavailable" })
        remove()
        yield* untilStore(broker, undefined)
        assert.strictEqual((yield* one.plugin.call("DELETE", `/v1/endpoint/${one.id}`)).status, 200)
        const { books } = yield* eventually(broker.status, ({ books }) => books.inbox === taken + 1)
        assert.strictEqual(books.unaccounted, 0)
      })
  )
})
