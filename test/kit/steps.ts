/** What tests of the broker do over and over. */
import { assert, vi } from "@effect/vitest"
import { Effect, type Scope, TestClock } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { type DeadLetter, DeadLetters } from "../../src/services/DeadLetters.js"
import { Ledger } from "../../src/services/Ledger.js"
import { type RegisterRequest, Registration } from "../../src/services/Registration.js"
import { Store, Transaction } from "../../src/services/Store.js"
import { FakePlugin, settle, withReceipts } from "./core.js"
import type { Given } from "./FakeNetwork.js"

/** For tests that let much time pass: regular checks come rarely, for each costs a turn of the test clock. */
export const quiet: Partial<Settings> = {
  livenessIntervalMs: 3_600_000,
  pingIntervalMs: 1e9,
  silenceMs: 2e9
}

/** Everything that is ready runs, and the books balance. */
export const settled: Effect.Effect<void, never, Ledger> = Effect.flatMap(Ledger, (ledger) =>
  Effect.map(settle, () => assert.strictEqual(ledger.unsafeBooks().unaccounted, 0, "the books balance"))
)

/** So many milliseconds pass. */
export const pass = (ms: number): Effect.Effect<void> =>
  settle.pipe(Effect.zipRight(TestClock.adjust(ms)), Effect.zipRight(settle))

/** Until the test ends random waits lie so far up in their spread: 0 is the shortest, 1 the longest. */
export const jitter = (at: number): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => vi.spyOn(Math, "random").mockReturnValue(at)),
      (random) => Effect.sync(() => random.mockRestore())
    )
  )

/** A message for the endpoint; its content is also its id. */
export const mail = (endpointId: string, content: string, metadata: object = {}): Given => ({
  content,
  metadata: { target_endpoint_id: endpointId, ...metadata }
})

/** `prefix1`, `prefix2` and so on. */
export const names = (prefix: string, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)

/** One turn and its commit, done when durable. */
export const commit = <A>(decide: (transaction: Transaction) => A): Effect.Effect<A, never, Store> =>
  Effect.flatMap(Store, (store) => {
    const transaction = new Transaction()
    const decided = decide(transaction)
    return Effect.as(store.commit(transaction), decided)
  })

/** The whole dead letters, the oldest first. */
export const deadLetters: Effect.Effect<ReadonlyArray<DeadLetter>, never, DeadLetters> = Effect.map(
  DeadLetters,
  (dead) => dead.unsafeList().map(([id]) => dead.unsafeGet(id)!)
)

/** A plugin with an open stream and one endpoint. */
export const session = (
  pid: number,
  given: Partial<RegisterRequest> = {},
  capabilities: ReadonlyArray<string> = withReceipts
) =>
  Effect.gen(function* () {
    const plugin = new FakePlugin(pid, capabilities)
    yield* plugin.open
    return Object.assign(plugin, yield* plugin.register(given))
  }).pipe(Effect.orDie)
export type Session = Effect.Effect.Success<ReturnType<typeof session>>

/** The plugin opens a new stream and takes its endpoint back; how much mail was undelivered. */
export const comeBack = ({ endpointId, open, pid }: Session) =>
  open.pipe(
    Effect.zipRight(Registration),
    Effect.flatMap((registration) => registration.reattach(endpointId, pid, { pid, ownerToken: undefined })),
    Effect.orDie
  )

/** The plugin acknowledges whatever it gets until nothing more comes. */
export const drain = (plugin: FakePlugin): Effect.Effect<void, never, Ledger> =>
  Effect.suspend(() => {
    const count = plugin.received.length
    plugin.acknowledge(...plugin.received.filter(({ push_id }) => push_id !== undefined))
    return Effect.flatMap(settled, () => (plugin.received.length > count ? drain(plugin) : Effect.void))
  })
