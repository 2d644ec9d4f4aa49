import { Effect, Layer, Redacted } from "effect"
import * as ControlEventsHttp from "../../src/layers/ControlEventsHttp.js"
import * as ShutdownDefault from "../../src/layers/ShutdownDefault.js"
import { AccountCheck } from "../../src/services/AccountCheck.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { ControlDispatcher } from "../../src/services/ControlDispatcher.js"
import { ControlEvents } from "../../src/services/ControlEvents.js"
import { Credentials } from "../../src/services/Credentials.js"
import { FakeEventSource } from "./FakeEventSource.js"
import { FakeStore } from "./FakeStore.js"
import { configWith, KeptLog } from "./ground.js"

/** What outlives the subscription, and what the test looks at. */
export class SubscriptionWorld {
  readonly source = new FakeEventSource()
  readonly store = new FakeStore()
  readonly log = new KeptLog()
  /** Data in the order its handling began, and what was handled. */
  readonly begun: Array<string> = []
  readonly handled: Array<string> = []
  onEvent: (data: string) => Effect.Effect<void> = () => Effect.void
  account = Effect.succeed<{ readonly subjectId: string } | undefined>({ subjectId: "node 5" })

  /** A life of the subscription. */
  life(settings: Partial<Settings> = {}, apiOrigin = "https://api.example") {
    return Layer.scopedDiscard(Effect.flatMap(ControlEvents, ({ listen }) => listen)).pipe(
      Layer.provideMerge(this.silent(settings, apiOrigin))
    )
  }

  /** One that does not listen. */
  silent(settings: Partial<Settings> = {}, apiOrigin = "https://api.example") {
    const dispatcher = Layer.succeed(ControlDispatcher, {
      handle: (data) =>
        Effect.suspend(() => {
          this.begun.push(data)
          return Effect.map(this.onEvent(data), () => void this.handled.push(data))
        })
    })
    const credentials = { accountId: "a", runtimeToken: Redacted.make("token"), connectorUrl: "", apiOrigin }
    return ControlEventsHttp.layerOnClient.pipe(
      Layer.provide(Layer.mergeAll(this.source.layer, dispatcher, this.store.layer)),
      Layer.provide(Layer.succeed(AccountCheck, { account: this.account, unsafeRefusal: () => undefined })),
      Layer.provide(Layer.succeed(Credentials, credentials)),
      Layer.provideMerge(ShutdownDefault.layer),
      Layer.provide(Layer.mergeAll(configWith(settings), this.log.layer))
    )
  }

  get asked(): ReadonlyArray<string | undefined> {
    return this.source.subscriptions.map(({ headers }) => headers["last-event-id"])
  }

  get reasons(): ReadonlyArray<unknown> {
    return this.log.lines.flatMap(({ event, fields }) => (event === "sse_reconnect" ? [fields.reason] : []))
  }
}
