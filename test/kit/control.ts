import { Effect, Layer } from "effect"
import * as ControlEventsNone from "../../src/layers/ControlEventsNone.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { ControlDispatcher } from "../../src/services/ControlDispatcher.js"
import { Directory } from "../../src/services/Directory.js"
import { Inbox } from "../../src/services/Inbox.js"
import { Spawner, type SpawnOrder, type SpawnRefused } from "../../src/services/Spawner.js"
import { core, type LogLine } from "./core.js"
import { FakeNetwork } from "./FakeNetwork.js"
import { FakePlatform } from "./FakePlatform.js"
import { FakeStore } from "./FakeStore.js"
import { quiet, settled } from "./steps.js"

/** A spawner the test holds in its hands. */
export class FakeSpawner {
  readonly orders: Array<SpawnOrder> = []
  onSpawn: (order: SpawnOrder) => Effect.Effect<void, SpawnRefused> = () => Effect.void
  readonly layer = Layer.succeed(Spawner, {
    spawn: (order) =>
      Effect.suspend(() => {
        this.orders.push(order)
        return this.onSpawn(order)
      }),
    isAvailable: () => Effect.succeed(false),
    unsafeRegistered: () => false,
    unsafeOnRegistered: () => undefined
  })
}

/** What outlives the broker, and what the test looks at. */
export class World {
  network = new FakeNetwork()
  readonly platform = new FakePlatform()
  readonly store = new FakeStore()
  readonly spawner = new FakeSpawner()
  readonly log: Array<LogLine> = []

  /** A life of the broker. */
  life(settings: Partial<Settings> = {}) {
    this.network = new FakeNetwork()
    return core({
      network: this.network,
      log: this.log,
      settings: { ...quiet, ...settings },
      variants: {
        platform: this.platform.layer,
        store: this.store.layer,
        control: { events: ControlEventsNone.layer, spawner: this.spawner.layer }
      }
    })
  }

  /** Acknowledgements the platform accepted, as `key status detail`. */
  get acks(): ReadonlyArray<string> {
    return this.platform.posts.flatMap((report) =>
      report._tag === "ControlAck"
        ? [[report.ack.idempotency_key, report.ack.status, report.ack.detail].filter(Boolean).join(" ")]
        : []
    )
  }
}

export const event = (type: string, key: string, fields: object = {}) =>
  JSON.stringify({ type, version: 1, idempotency_key: key, emitted_at: 1, ...fields })
export const dispatch = (key: string, undispatched_id: string, target_endpoint_id: string) =>
  event("dispatch_undispatched", key, { undispatched_id, target_endpoint_id })
export const unregister = (key: string, endpoint_id: string) =>
  event("force_unregister", key, { endpoint_id, reason: "owner_removed" })
export const spawn = (key: string, prompt = "go") =>
  event("spawn_request", key, { prompt, runtime_kind: "claude-code" })

export const handle = (...events: ReadonlyArray<string>) =>
  Effect.flatMap(ControlDispatcher, (dispatcher) =>
    Effect.zipRight(Effect.forEach(events, dispatcher.handle, { concurrency: "unbounded" }), settled)
  )
/** Begins, and goes on by itself. */
export const begin = (...events: ReadonlyArray<string>) =>
  Effect.flatMap(ControlDispatcher, (dispatcher) =>
    Effect.forEach(events, (data) => Effect.forkScoped(dispatcher.handle(data)))
  )
export const undispatched = Effect.map(Inbox, (inbox) =>
  Array.from(inbox.unsafeItems(), ({ message }) => message.content)
)
export const isThere = (id: string) => Effect.map(Directory, (directory) => directory.unsafeGet(id) !== undefined)
