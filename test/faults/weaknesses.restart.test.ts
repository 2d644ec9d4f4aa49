/**
 * Weaknesses of the reference that show when a broker dies or its disk fails, and are not there: the built broker, killed, on
 * the development cloud. The names begin with their numbers in the list of known weaknesses.
 */

import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, type RunningBroker, temporaryDirectory } from "../kit/broker.js"
import { accountOf, type Cloud, startCloud, startCloudBroker } from "../kit/cloud.js"
import { contentsOf, inboxNow, inboxOf, kill, reopen, startSession, untilState } from "../kit/endToEnd.js"
import { canPreload, compiled, unlessPreloadable } from "../kit/preload.js"
import { idleProcess } from "../kit/startedProcess.js"
import { names } from "../kit/steps.js"

const inject = (cloud: Cloud, id: string | undefined, ...contents: ReadonlyArray<string>) =>
  Effect.forEach(contents, (content) =>
    Effect.orDie(cloud.inject({ account: "alice", content, ...(id === undefined ? {} : { endpoint_id: id }) }))
  )
const waiting = (cloud: Cloud) => Effect.map(Effect.orDie(cloud.view("alice")), ({ mail }) => mail.waiting)
/** What the gateway was told is safe is not kept there any more. */
const allAccepted = (cloud: Cloud) => eventually(waiting(cloud), (count) => count === 0)
/** Each message is reported by itself: they are listed in any order. */
const untilListed = (cloud: Cloud, ...ids: ReadonlyArray<string>) =>
  eventually(
    Effect.orDie(cloud.view("alice")),
    ({ undispatched }) =>
      undispatched.length === ids.length && undispatched.every((it) => ids.includes(it.undispatched_id))
  )
const dispatch = (broker: RunningBroker, item: { readonly id: string }, target: string) =>
  Effect.map(
    broker.call("POST", "/v1/dispatch", { undispatched_id: item.id, target_endpoint_id: target }),
    ({ status }) => assert.strictEqual(status, 200)
  )

const given = { agent_id: "alice" }

/** A cloud, and lives of a broker on one directory; all before is killed. */
const onCloud = Effect.gen(function* () {
  const cloud = yield* startCloud()
  const userData = yield* temporaryDirectory
  let living: RunningBroker | undefined
  const live = (settings = {}, environment = {}) =>
    Effect.gen(function* () {
      if (living !== undefined) yield* living.end("SIGKILL")
      living = yield* startCloudBroker(cloud, "alice", settings, userData, environment)
      return living
    })
  return { cloud, live, userData, process: yield* idleProcess }
})

describe("a broker that was killed", () => {
  it.scopedLive(
    "A6, A12, A22: has its undispatched messages, what was dispatched to an endpoint that was away, and the platform lists the same",
    () =>
      Effect.gen(function* () {
        const { cloud, live, process } = yield* onCloud
        const before = yield* live()
        const away = yield* startSession(before, { process }, given)
        yield* inject(cloud, undefined, "one", "two", "three")
        const [one] = yield* inboxOf(before, "one", "two", "three")
        yield* allAccepted(cloud)
        yield* away.plugin.drop
        yield* untilState(before, away.id, "reconnecting")
        yield* dispatch(before, one, away.id)

        const after = yield* live()
        const [two, three] = yield* inboxNow(after, "one", "two", "three")
        assert.deepStrictEqual([two.content, three.content], ["two", "three"])
        yield* untilListed(cloud, two.id, three.id)
        const back = yield* startSession(after, { process }, given)
        assert.strictEqual(back.id, away.id)
        assert.deepStrictEqual(yield* contentsOf(back.plugin, 1), ["one"])
        yield* dispatch(after, two, back.id)
        assert.deepStrictEqual(yield* contentsOf(back.plugin, 1), ["two"])
        yield* untilListed(cloud, three.id)
      })
  )

  it.scopedLive("A13: waits for the owners of stored mail, then it is undispatched, and the platform hears of it", () =>
    Effect.gen(function* () {
      const { cloud, live, process } = yield* onCloud
      const before = yield* live()
      const { id, plugin } = yield* startSession(before, { process }, given)
      yield* plugin.drop
      yield* untilState(before, id, "reconnecting")
      yield* inject(cloud, id, "kept 1", "kept 2")
      yield* allAccepted(cloud)

      const after = yield* live({ graceMs: 300 })
      const items = yield* inboxOf(after, "kept 1", "kept 2")
      assert.deepStrictEqual(
        items.map(({ content, reason }: any) => [content, reason]),
        [
          ["kept 1", "closed_session_continuation"],
          ["kept 2", "closed_session_continuation"]
        ]
      )
      yield* eventually(
        Effect.orDie(cloud.view("alice")),
        ({ endpoints, undispatched }) =>
          endpoints.every(({ endpoint_id, state }) => endpoint_id !== id || state === "closed") &&
          undispatched.length === 2
      )
    })
  )

  it.scopedLive("A15, F29: a stream that opens and ends at once loses nothing; a restarted session gets it", () =>
    Effect.gen(function* () {
      const { cloud, live, process } = yield* onCloud
      const options = { process, capabilities: ["push_receipt_ack_v1", "endpoint_resume_v1"] }
      const before = yield* live()
      const first = yield* startSession(before, options, given)
      yield* first.plugin.drop
      yield* untilState(before, first.id, "reconnecting")
      yield* inject(cloud, first.id, ...names("m", 20))
      yield* allAccepted(cloud)

      const after = yield* live()
      const hasty = yield* startSession(after, { ...options, acknowledges: false }, given)
      assert.strictEqual(hasty.id, first.id)
      yield* hasty.plugin.drop
      yield* untilState(after, first.id, "reconnecting")
      // The session is started anew: another process takes over what its token shows to be its own.
      yield* kill(process)
      const restarted = yield* startSession(
        after,
        { capabilities: options.capabilities },
        { ...given, resume: { endpoint_id: first.id, endpoint_owner_token: first.ownerToken } }
      )
      assert.strictEqual(restarted.id, first.id)
      assert.deepStrictEqual(yield* contentsOf(restarted.plugin, 20), names("m", 20))
    })
  )

  it.scopedLive("A21: knows the conversations: an answer finds who asked, and who was asked may answer", () =>
    Effect.gen(function* () {
      const { cloud, live, process } = yield* onCloud
      const before = yield* live()
      const session = yield* startSession(before, { process }, given)
      const bob = accountOf(cloud, "bob").address
      const question = yield* session.send(bob, "how late is it?")
      assert.strictEqual(question.status, 200, JSON.stringify(question.body))
      const [sent] = yield* cloud.happened({ account: "alice", event: "SEND_MESSAGE" })
      const { correlation_id } = (sent as any).fields.metadata
      assert.isString(correlation_id)
      const metadata = { correlation_id: "theirs" }
      yield* Effect.orDie(
        cloud.inject({ account: "alice", endpoint_id: session.id, from: bob, content: "and where?", metadata })
      )
      const [asked] = yield* session.plugin.take(1)
      yield* allAccepted(cloud)

      const after = yield* live()
      const back = yield* startSession(after, { process }, given)
      yield* Effect.orDie(cloud.inject({ account: "alice", content: "late", metadata: { correlation_id } }))
      assert.deepStrictEqual(yield* contentsOf(back.plugin, 1), ["late"])
      const answer = yield* back.send(asked!.from, "here", {
        metadata: { in_reply_to: metadata.correlation_id }
      })
      assert.deepInclude(answer.body, { reply_resolved: true }, JSON.stringify(answer.body))
    })
  )
})

describe(`a disk that fails under the broker${unlessPreloadable}`, () => {
  it.scopedLive.runIf(canPreload)(
    "C4, C7: it lives on, live mail passes, what must be stored stays at the gateway; all is well when the disk works again",
    () =>
      Effect.gen(function* () {
        const { cloud, live, userData } = yield* onCloud
        const flag = join(userData, "failing")
        const library = yield* compiled("test/faults/failingDisk.c")
        const broker = yield* live({ holdBackMs: 50, holdBackMaxMs: 100 }, { LD_PRELOAD: library, FAILING_DISK: flag })
        const [away, here] = [yield* startSession(broker, {}, given), yield* startSession(broker, {}, given)]
        yield* away.plugin.drop
        yield* untilState(broker, away.id, "reconnecting")
        writeFileSync(flag, "w")
        yield* inject(cloud, away.id, "stored 1", "stored 2")
        yield* eventually(broker.status, ({ store }) => !store.healthy)
        yield* inject(cloud, here.id, "live 1", "live 2")
        assert.deepStrictEqual(yield* contentsOf(here.plugin, 2), ["live 1", "live 2"])
        assert.isAtLeast(yield* waiting(cloud), 2)

        rmSync(flag)
        yield* eventually(broker.status, ({ store }) => store.healthy, 15_000)
        yield* allAccepted(cloud)
        yield* reopen(away)
        assert.deepStrictEqual(yield* contentsOf(away.plugin, 2), ["stored 1", "stored 2"])
        assert.strictEqual((yield* broker.status).books.unaccounted, 0)
      })
  )
})

const cpuOf = (pid: number) => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return Number(fields[11]) + Number(fields[12])
}

it.scopedLive.runIf(process.platform === "linux")(
  "weakness D4: a message for an endpoint that is away costs the same however many wait before it",
  () =>
    Effect.gen(function* () {
      const { cloud, live } = yield* onCloud
      const broker = yield* live()
      const away = yield* startSession(broker, {}, given)
      yield* away.plugin.drop
      yield* untilState(broker, away.id, "reconnecting")
      const [text, part] = ["x".repeat(500), 1_000]
      const costs: Array<number> = []
      for (let round = 0; round < 5; round++) {
        const before = cpuOf(broker.pid)
        yield* inject(cloud, away.id, ...Array.from({ length: part }, () => text))
        yield* allAccepted(cloud)
        costs.push(cpuOf(broker.pid) - before)
      }
      // The first round warms the code up. With a cost that grows with what waits, the last would be four times the second.
      assert.isBelow(costs[4]!, 2.5 * costs[1]! + 10, `hundredths of a second of CPU: ${costs}`)
      assert.strictEqual((yield* broker.status).books.held, 5 * part)
    }),
  60_000
)
