import { assert, it } from "@effect/vitest"
import { Effect, Layer, TestClock } from "effect"
import * as EmittersOutbox from "../../src/layers/EmittersOutbox.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { Emitters } from "../../src/services/Emitters.js"
import type { UndispatchedItem } from "../../src/services/Inbox.js"
import { MessageId } from "../../src/services/model/Ids.js"
import { laneOf, type PlatformReport } from "../../src/services/model/PlatformReport.js"
import { Outbox } from "../../src/services/Outbox.js"
import { Transaction } from "../../src/services/Store.js"
import { groundWith } from "../kit/core.js"

const layer = (owed: Array<PlatformReport>, settings: Partial<Settings> = {}) =>
  EmittersOutbox.layer.pipe(
    Layer.provide(
      Layer.succeed(Outbox, {
        unsafeAdd: (_, report) => {
          owed.push(report)
        },
        drained: Effect.void,
        unsafeStatus: () => ({ waiting: 0, dead: 0, pausedUntil: undefined, lastFailure: undefined }),
        unsafeDead: () => [],
        unsafeGetDead: () => undefined,
        unsafeRetry: () => false,
        unsafePurge: () => false
      })
    ),
    Layer.provide(groundWith({ settings }))
  )

const item = (content: string, metadata: object = {}): UndispatchedItem => ({
  message: {
    id: MessageId("gm-10"),
    from: "mstp://acme.example/eve",
    content,
    contentType: "text",
    metadata: { ...metadata },
    arrivedAt: 1_930_000_000_000,
    bytes: 100
  },
  reason: "unaddressed"
})

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

it.effect("an unaddressed message is added under the name the platform knows", () => {
  const owed: Array<PlatformReport> = []
  return Effect.gen(function* () {
    const emitters = yield* Emitters
    emitters.unsafeAdded(new Transaction(), item("hello?", { correlation_id: "c-91", traceparent }))
    assert.deepStrictEqual(owed, [
      {
        _tag: "UndispatchedChanged",
        event: {
          type: "undispatched_changed",
          version: 1,
          action: "add",
          undispatched_id: "gm-10",
          sender_address: "mstp://acme.example/eve",
          content_preview: "hello?",
          reason: "no_target_endpoint",
          in_reply_to: "c-91",
          arrived_at: 1_930_000_000_000,
          source_message_id: "gm-10",
          traceparent
        }
      }
    ])
  }).pipe(Effect.provide(layer(owed)))
})

it.effect("one for a closed session names the endpoint it was meant for", () => {
  const owed: Array<PlatformReport> = []
  return Effect.gen(function* () {
    const emitters = yield* Emitters
    emitters.unsafeAdded(new Transaction(), {
      ...item("hello?"),
      reason: "closed_session_continuation",
      originalTarget: "ep_31"
    })
    const [report] = owed
    assert.strictEqual(report?._tag, "UndispatchedChanged")
    if (report?._tag !== "UndispatchedChanged") return
    assert.deepInclude(report.event, { reason: "closed_session_continuation", target_endpoint_id_hint: "ep_31" })
    assert.notProperty(report.event, "in_reply_to")
  }).pipe(Effect.provide(layer(owed)))
})

it.effect("E11: the preview is the first 80 code points, never half a character; none where the setting says so", () =>
  Effect.gen(function* () {
    const preview = (content: string, settings: Partial<Settings> = {}) => {
      const owed: Array<PlatformReport> = []
      return Effect.gen(function* () {
        const emitters = yield* Emitters
        emitters.unsafeAdded(new Transaction(), item(content))
        const [report] = owed
        return report?._tag === "UndispatchedChanged" ? report.event.content_preview : undefined
      }).pipe(Effect.provide(layer(owed, settings)))
    }
    assert.strictEqual(yield* preview("x".repeat(80)), "x".repeat(80))
    assert.strictEqual(yield* preview("x".repeat(81)), "x".repeat(80))
    assert.strictEqual(yield* preview("🐙".repeat(81)), "🐙".repeat(80))
    assert.strictEqual(yield* preview("x", { previewCodePoints: 0 }), "")
  })
)

it.effect("dispatch and removal follow the addition in the message's own lane", () => {
  const owed: Array<PlatformReport> = []
  return Effect.gen(function* () {
    const emitters = yield* Emitters
    const transaction = new Transaction()
    emitters.unsafeAdded(transaction, item("hello?"))
    emitters.unsafeDispatched(transaction, "gm-10", "ep_31")
    emitters.unsafeRemoved(transaction, "gm-10", "gone")
    const about = { type: "undispatched_changed", version: 1, undispatched_id: "gm-10" } as const
    assert.deepStrictEqual(owed.slice(1), [
      { _tag: "UndispatchedChanged", event: { ...about, action: "dispatch", dispatched_to_endpoint_id: "ep_31" } },
      { _tag: "UndispatchedChanged", event: { ...about, action: "remove", remove_reason: "gone" } }
    ])
    assert.deepStrictEqual([...new Set(owed.map(laneOf))], ["undispatched:gm-10"])
  }).pipe(Effect.provide(layer(owed)))
})

it.effect("a presence change carries its time, a task hint its endpoint", () => {
  const owed: Array<PlatformReport> = []
  return Effect.gen(function* () {
    const emitters = yield* Emitters
    yield* TestClock.setTime(1_930_000_000_000)
    emitters.unsafePresence(new Transaction(), "reconnecting", "connector_disconnected")
    emitters.unsafeTaskHint(new Transaction(), "ep_31", "rewriting the lexer")
    const event = {
      type: "network_presence_changed",
      version: 1,
      state: "reconnecting",
      ts: 1_930_000_000_000,
      reason: "connector_disconnected"
    } as const
    assert.deepStrictEqual(owed, [
      { _tag: "NetworkPresenceChanged", event },
      { _tag: "DisplayMetadata", endpointId: "ep_31", taskHint: "rewriting the lexer" }
    ])
  }).pipe(Effect.provide(layer(owed)))
})
