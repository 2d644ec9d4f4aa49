/** Built brokers on the development cloud: the main job across two accounts, and what the platform hears of it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually, runProgram, temporaryDirectory } from "../kit/broker.js"
import {
  accountOf,
  callsOf,
  credentialsOf,
  hasty,
  startCloud,
  startCloudBroker,
  untilCalled,
  untilRegistered
} from "../kit/cloud.js"
import { inboxOf, startSession } from "../kit/endToEnd.js"

const presenceOf = (frames: ReadonlyArray<{ readonly event: string }>) =>
  frames.flatMap((frame) => ("presence" in frame && frame.event === "presence_changed" ? [String(frame.presence)] : []))

describe("two brokers on one cloud", () => {
  it.scopedLive("a question and its correlated answer cross it; the platform hears everything in order", () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const [a, b] = yield* Effect.all([startCloudBroker(cloud, "alice"), startCloudBroker(cloud, "bob")], {
        concurrency: 2
      })
      yield* Effect.all([untilRegistered(cloud, "alice"), untilRegistered(cloud, "bob")])
      const alice = yield* startSession(a, {}, { agent_id: "alice" })
      const bob = yield* startSession(b, {}, { agent_id: "bob" })

      const sent = yield* alice.send(`mstp://dev/bob/${bob.id}`, "what is six times seven?")
      assert.strictEqual(sent.status, 200, JSON.stringify(sent.body))
      const [question] = yield* bob.plugin.take(1)
      assert.strictEqual(question!.content, "what is six times seven?")
      assert.strictEqual(question!.from, accountOf(cloud, "alice").address)
      const answer = yield* bob.send(question!.from, "forty-two", {
        metadata: { in_reply_to: question!.metadata.correlation_id }
      })
      assert.strictEqual(answer.status, 200)
      assert.isTrue(answer.body.reply_resolved)
      const [back] = yield* alice.plugin.take(1)
      assert.strictEqual(back!.content, "forty-two")
      assert.strictEqual(back!.metadata.correlation_id, question!.metadata.correlation_id)

      yield* alice.send("mstp://dev/bob", "for nobody in particular")
      const [item] = yield* inboxOf(b, "for nobody in particular")
      yield* b.call("POST", "/v1/dispatch", { undispatched_id: item.id, target_endpoint_id: bob.id })
      const [dispatched] = yield* bob.plugin.take(1)
      assert.strictEqual(dispatched!.content, "for nobody in particular")

      yield* bob.plugin.call("DELETE", `/v1/endpoint/${bob.id}`, undefined, {
        "x-endpoint-owner-token": bob.ownerToken
      })
      yield* untilCalled(cloud, "bob", "unregister")
      const calls = (yield* callsOf(cloud, "bob")).map(({ body, call }) => [
        call,
        ...["state", "action"].flatMap((key) => {
          const value = (body as Record<string, unknown> | null)?.[key]
          return typeof value === "string" ? [value] : []
        })
      ])
      const of = (...names: ReadonlyArray<string>) =>
        calls.filter(([call]) => names.includes(call!)).map((c) => c.join(" "))
      assert.deepStrictEqual(of("register_endpoint", "state", "unregister"), [
        "register_endpoint",
        "state active",
        "state closed",
        "unregister"
      ])
      assert.deepStrictEqual(of("undispatched_changed"), ["undispatched_changed add", "undispatched_changed dispatch"])
      assert.deepStrictEqual(of("presence_changed"), ["presence_changed online"])
    })
  )

  it.scopedLive("plugins see presence when the gateway is cut and healed, and what waited comes", () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const broker = yield* startCloudBroker(cloud, "alice")
      yield* untilRegistered(cloud, "alice")
      const { id, plugin } = yield* startSession(broker, {}, { agent_id: "alice" })
      yield* cloud.fault({ at: "connect", does: "refuse", status: 503 })
      yield* cloud.cut({ account: "alice" })
      yield* eventually(
        Effect.sync(() => presenceOf(plugin.frames)),
        (states) => states.includes("reconnecting")
      )
      // Healed before it was posted, it would not be posted any more.
      yield* untilCalled(cloud, "alice", "presence_changed", ({ body }) => (body as any).state === "reconnecting")
      yield* cloud.inject({ account: "alice", endpoint_id: id, content: "while it was cut" })
      yield* cloud.clear()
      const [message] = yield* plugin.take(1)
      assert.strictEqual(message!.content, "while it was cut")
      yield* eventually(
        Effect.sync(() => presenceOf(plugin.frames)),
        (states) => states.at(-1) === "online"
      )
    })
  )

  it.scopedLive("leaving tells the platform: offline, and each endpoint's record ends", () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const broker = yield* startCloudBroker(cloud, "alice")
      yield* untilRegistered(cloud, "alice")
      yield* startSession(broker, {}, { agent_id: "alice" })
      const { code } = yield* broker.end("SIGTERM")
      assert.strictEqual(code, 0)
      const calls = yield* callsOf(cloud, "alice")
      const last = calls.filter(({ call }) => call === "presence_changed").at(-1)
      assert.strictEqual((last!.body as any).state, "offline")
      assert.include(
        calls.map(({ call }) => call),
        "unregister"
      )
    })
  )

  it.scopedLive("F21: another runtime takes over: the broker leaves cleanly, with code 0", () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const broker = yield* startCloudBroker(cloud, "alice")
      yield* untilRegistered(cloud, "alice")
      yield* cloud.replace("alice")
      const { code, stderr } = yield* broker.exited
      assert.strictEqual(code, 0, stderr)
    })
  )
})

describe("L1: a start", () => {
  const start = (settings: Record<string, string>) =>
    Effect.gen(function* () {
      const userData = yield* temporaryDirectory
      return yield* runProgram("programs/broker.js", [], {
        PATH: process.env.PATH ?? "",
        HOME: userData,
        MASONS_BROKER_USER_DATA: userData,
        ...settings
      })
    })

  it.scopedLive("with a token the platform refuses ends with 1 and a sentence about credentials", () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      const directory = yield* temporaryDirectory
      const file = credentialsOf(directory, { ...accountOf(cloud, "alice"), token: "rk_wrong" })
      const { code, stderr } = yield* start({
        MASONS_BROKER_CREDENTIALS_FILE: file,
        MASONS_BROKER_ACCOUNT_ID: "alice"
      })
      assert.strictEqual(code, 1)
      assert.include(stderr, "credentials")
      assert.notInclude(stderr, "rk_wrong")
    })
  )

  it.scopedLive("with gateway and platform down is healthy all the same, says so, and heals by itself", () =>
    Effect.gen(function* () {
      const cloud = yield* startCloud()
      yield* cloud.fault({ at: "connect", does: "refuse", status: 503 })
      yield* cloud.fault({ at: "platform", does: "refuse", status: 503 })
      const broker = yield* startCloudBroker(cloud, "alice", hasty)
      const { body } = yield* broker.call("GET", "/health")
      assert.isTrue(body.ok)
      const down = yield* broker.status
      assert.notStrictEqual(down.connector.state, "up")
      assert.isNotEmpty(down.connector.reason)
      yield* cloud.clear()
      yield* eventually(broker.status, ({ connector }) => connector.state === "up")
      yield* untilCalled(cloud, "alice", "presence_changed", ({ body }) => (body as any).state === "online")
    })
  )
})
