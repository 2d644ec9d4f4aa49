import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { BrokerStatus } from "../../src/services/BrokerStatus.js"
import { ControlEvents, type ControlStatus } from "../../src/services/ControlEvents.js"
import { Directory } from "../../src/services/Directory.js"
import { Status } from "../../src/services/ipc/OperatorGroup.js"
import { Ledger } from "../../src/services/Ledger.js"
import { Registry } from "../../src/services/Registry.js"
import { FakeSpawner } from "../kit/control.js"
import { type CoreOptions, core } from "../kit/core.js"
import { FakeNetwork } from "../kit/FakeNetwork.js"
import { FakePlatform, refused, unauthorized } from "../kit/FakePlatform.js"
import { FakeStore } from "../kit/FakeStore.js"
import { commit, jitter, mail, pass, quiet, session, settled } from "../kit/steps.js"

interface Options extends Omit<CoreOptions, "settings" | "variants"> {
  readonly settings?: Partial<Settings>
  readonly platform?: FakePlatform
  readonly store?: FakeStore
  /** How the stream of control events is; none unless given. */
  readonly control?: () => ControlStatus
}
const broker = ({
  control,
  platform = new FakePlatform(),
  settings = {},
  store = new FakeStore(),
  ...options
}: Options = {}) =>
  core({
    ...options,
    settings: { ...quiet, ...settings },
    variants: {
      platform: platform.layer,
      store: store.layer,
      ...(control === undefined
        ? {}
        : {
            control: {
              events: Layer.succeed(ControlEvents, { name: "fake", listen: Effect.void, unsafeStatus: control }),
              spawner: new FakeSpawner().layer
            }
          })
    }
  })

const status = Effect.map(BrokerStatus, (service) => {
  const shown = service.unsafeStatus()
  // What is shown is what the wire carries.
  assert.deepStrictEqual(Schema.decodeUnknownSync(Status)(JSON.parse(JSON.stringify(shown))), shown)
  return shown
})
const warnings = Effect.map(status, ({ warnings }) => warnings.join("\n"))

describe("a broker with nothing to do", () => {
  it.scoped("shows who and what it is, nothing held, and no warning", () =>
    Effect.gen(function* () {
      yield* settled
      const { endpoints, pid, started_at, version, ...shown } = yield* status
      assert.deepStrictEqual(endpoints, [])
      assert.strictEqual(pid, process.pid)
      assert.strictEqual(started_at, new Date(0).toISOString())
      assert.match(version, /^runtime-broker\/\d/)
      assert.deepStrictEqual(shown, {
        account: "default",
        connector: { name: "fake", state: "up", since: new Date(0).toISOString() },
        control_events: { name: "none", state: "off", since: new Date(0).toISOString() },
        presence: "online",
        store: { healthy: true },
        sockets: { open: 0, limit: 4_096 },
        channels: { open: 0, limit: 1_024 },
        limits_hit: {},
        mailboxes: { messages: 0, bytes: 0, limit_messages: 1_000_000, limit_bytes: 4 * 1024 ** 3 },
        inbox: { messages: 0, bytes: 0, limit_messages: 256, limit_bytes: 64 * 1024 ** 2 },
        held_back: [],
        sends: { waiting: 0, given_up: 0 },
        platform: { name: "fake", waiting: 0, dead: 0 },
        books: { accepted: 0, delivered: 0, held: 0, inbox: 0, expired: 0, dead: 0, unaccounted: 0 },
        invalid_expiries: 0,
        dead_letters: 0,
        log_lines_dropped: 0,
        warnings: []
      })
    }).pipe(Effect.provide(broker()))
  )
})

describe("endpoints", () => {
  it.scoped("are shown with their state and their mail, and without tokens, names and content", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* pass(1_000)
      const plugin = yield* session(48_213, { session_name: "private", workspace: "/srv/parser", task_hint: "lexing" })
      network.deliver(mail(plugin.endpointId, "secret a"), mail(plugin.endpointId, "secret b"))
      yield* settled
      const endpoint = {
        endpoint_id: plugin.endpointId,
        agent: "agent",
        kind: "test",
        label: "test · parser",
        task_hint: "lexing",
        plugin_pid: 48_213,
        state: "active",
        state_since: new Date(1_000).toISOString(),
        undelivered: 2,
        in_flight: 2,
        stored_bytes: 0
      }
      assert.deepStrictEqual((yield* status).endpoints as ReadonlyArray<unknown>, [endpoint])
      yield* pass(2_000)
      plugin.drop()
      yield* settled
      const shown = yield* status
      assert.deepStrictEqual(shown.endpoints as ReadonlyArray<unknown>, [
        {
          ...endpoint,
          state: "reconnecting",
          state_since: new Date(3_000).toISOString(),
          grace_deadline: new Date(603_000).toISOString(),
          in_flight: 0,
          stored_bytes: 200
        }
      ])
      assert.deepInclude(shown.mailboxes, { messages: 2, bytes: 200 })
      for (const hidden of ["private", "secret", plugin.ownerToken]) {
        assert.notInclude(JSON.stringify(shown), hidden)
      }
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("show the latest task hint", () =>
    Effect.gen(function* () {
      const plugin = yield* session(11, { task_hint: "old" })
      const registry = yield* Registry
      const endpoint = (yield* Directory).unsafeGet(plugin.endpointId)!
      yield* commit((transaction) => registry.unsafeSetTaskHint(transaction, endpoint, "new"))
      assert.strictEqual((yield* status).endpoints[0]!.task_hint, "new")
    }).pipe(Effect.provide(broker()))
  )
})

describe("a warning is shown", () => {
  it.scoped("while the link is not up, with the reason", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      yield* network.setLink({ state: "down", since: 0, reason: "the gateway refused the token" })
      yield* settled
      assert.deepInclude((yield* status).connector, { state: "down", reason: "the gateway refused the token" })
      assert.include(yield* warnings, "is down: the gateway refused the token")
    }).pipe(Effect.provide(broker({ network })))
  })

  it.scoped("once the platform's control events have not been heard for a minute, with the reason", () => {
    let control: ControlStatus = { state: "open", since: 0, position: "7", lastFailure: undefined }
    const since = new Date(100_000).toISOString()
    return Effect.gen(function* () {
      yield* pass(100_000)
      assert.deepStrictEqual((yield* status).control_events, {
        name: "fake",
        state: "open",
        since: new Date(0).toISOString()
      })
      assert.strictEqual(yield* warnings, "", "however long it has been open")
      control = { ...control, state: "waiting", since: 100_000, lastFailure: "status 503" }
      assert.deepInclude((yield* status).control_events, { state: "waiting", since, reason: "status 503" })
      yield* pass(59_999)
      assert.strictEqual(yield* warnings, "")
      yield* pass(1)
      assert.strictEqual(
        yield* warnings,
        `The platform's control events have not been heard since ${since}: status 503.`
      )
      control = { ...control, state: "connecting", lastFailure: undefined }
      assert.include(yield* warnings, `since ${since}.`)
      control = { ...control, state: "off" }
      assert.strictEqual(yield* warnings, "", "a broker that leaves, or whose network has none")
    }).pipe(Effect.provide(broker({ control: () => control })))
  })

  it.scoped("while there is too little room for new mail", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      store.shortage = { since: 5, reason: "the disk has 3 MiB free" }
      const { store: told } = yield* status
      assert.deepStrictEqual(told, {
        healthy: false,
        state: "full",
        since: new Date(5).toISOString(),
        reason: "the disk has 3 MiB free"
      })
      assert.include(
        yield* warnings,
        "No new mail is taken, and mail that is here still leaves: the disk has 3 MiB free."
      )
    }).pipe(Effect.provide(broker({ store })))
  })

  it.scoped("while the store cannot be written", () => {
    const store = new FakeStore()
    return Effect.gen(function* () {
      yield* jitter(1)
      const plugin = yield* session(11)
      yield* pass(5)
      store.failure = "no space left"
      plugin.drop()
      yield* settled
      assert.deepStrictEqual((yield* status).store, {
        healthy: false,
        state: "failing",
        since: new Date(5).toISOString(),
        reason: "no space left"
      })
      assert.include(yield* warnings, "no space left")
      store.failure = undefined
      yield* pass(100)
      assert.deepStrictEqual((yield* status).store, { healthy: true })
      assert.strictEqual(yield* warnings, "")
    }).pipe(Effect.provide(broker({ store })))
  })

  it.scoped("above 90 % of the inbox, the mailboxes and the channels", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      const away = yield* session(11)
      away.drop()
      const mails = Array.from({ length: 9 }, (_, index) => mail(away.endpointId, `m${index}`))
      network.deliver(...mails.slice(0, 8), ...mails.slice(0, 8).map(({ content }) => ({ content: `i${content}` })))
      yield* settled
      assert.strictEqual(yield* warnings, "")
      network.deliver(mails[8]!, { content: "i9" })
      for (let pid = 100; pid < 109; pid++) yield* session(pid)
      yield* settled
      const shown = yield* warnings
      for (const part of ["inbox is nearly full (9", "mailboxes are nearly full (9", "9 of 10 plugin channels"]) {
        assert.include(shown, part)
      }
    }).pipe(Effect.provide(broker({ network, settings: { inboxMessages: 10, totalMessages: 10, channels: 10 } })))
  })

  it.scoped("above 90 % of the endpoints, those whose plugin is away included", () =>
    Effect.gen(function* () {
      const away = yield* session(11)
      away.drop()
      for (let n = 1; n < 8; n++) yield* session(11 + n)
      assert.strictEqual(yield* warnings, "")
      yield* session(30)
      assert.include(yield* warnings, "9 of 10 endpoints are registered.")
    }).pipe(Effect.provide(broker({ settings: { endpoints: 10 } })))
  )

  it.scoped("above 90 % of the inbox's bytes", () => {
    const network = new FakeNetwork()
    return Effect.gen(function* () {
      network.deliver({ content: "a", bytes: 899 })
      yield* settled
      assert.strictEqual(yield* warnings, "")
      network.deliver({ content: "b", bytes: 1 })
      yield* settled
      assert.include(yield* warnings, "inbox is nearly full (2 messages, 900 bytes)")
    }).pipe(Effect.provide(broker({ network, settings: { inboxBytes: 1_000 } })))
  })

  it.scoped("for reports the platform refused, and while it refuses the credentials", () => {
    const platform = new FakePlatform()
    platform.onPost = () => refused
    return Effect.gen(function* () {
      yield* settled
      assert.deepInclude((yield* status).platform, { waiting: 0, dead: 1, last_failure: refused.message })
      assert.include(yield* warnings, "refused 1 reports for good")
      platform.onPost = () => unauthorized
      yield* session(11)
      yield* settled
      const paused_until = new Date(60_000).toISOString()
      assert.deepInclude((yield* status).platform, { waiting: 1, paused_until, last_failure: unauthorized.message })
      assert.include(yield* warnings, "refused the broker's credentials")
    }).pipe(Effect.provide(broker({ platform })))
  })

  it.scoped("when the books do not balance", () =>
    Effect.gen(function* () {
      ;(yield* Ledger).unsafeCount("accepted", 3)
      assert.include(yield* warnings, "3 messages are unaccounted for")
      assert.strictEqual((yield* status).books.unaccounted, 3)
    }).pipe(Effect.provide(broker()))
  )
})

describe("what opening the store found", () => {
  it.scoped("is shown and warned of: what is missing, what was set aside, where the damaged store is kept", () => {
    const store = new FakeStore()
    const kept = "/x/store.damaged-20310304T081602Z"
    const problems = ["Page 7 cannot be read."]
    store.findings = {
      records: 5,
      setAside: { mail: 2 },
      setAsideFile: "/x/store/damaged.jsonl",
      salvaged: {
        reason: "The file is damaged.",
        missing: 3,
        missingFrom: ["inbox", "mail"],
        recovered: 1,
        problems,
        keptAs: kept
      },
      damagedCopies: [kept],
      migrated: 0,
      compacted: undefined
    }
    store.damagedSince = 4
    return Effect.gen(function* () {
      yield* settled
      assert.deepStrictEqual((yield* status).store.findings, {
        set_aside: { mail: 2 },
        set_aside_file: "/x/store/damaged.jsonl",
        damaged_since: 4,
        salvaged: {
          reason: "The file is damaged.",
          missing: 3,
          missing_from: ["inbox", "mail"],
          recovered: 1,
          problems,
          kept_as: kept
        },
        damaged_copies: [kept]
      })
      const shown = yield* warnings
      for (const part of [
        "3 records are missing, perhaps of inbox, mail",
        kept,
        "mail: 2",
        "damaged.jsonl",
        "4 times"
      ]) {
        assert.include(shown, part)
      }
    }).pipe(Effect.provide(broker({ store })))
  })

  it.scoped("is no warning when nothing of it is missing", () => {
    const store = new FakeStore()
    store.findings = {
      ...store.findings,
      migrated: 3,
      compacted: { before: 200, after: 100 },
      damagedCopies: ["/x/old"]
    }
    return Effect.gen(function* () {
      yield* settled
      const shown = (yield* status).store
      assert.deepStrictEqual(shown, {
        healthy: true,
        findings: { migrated: 3, compacted: { before: 200, after: 100 }, damaged_copies: ["/x/old"] }
      })
      assert.strictEqual(yield* warnings, "")
    }).pipe(Effect.provide(broker({ store })))
  })

  it.scoped("says so when nobody knows how much is missing", () => {
    const store = new FakeStore()
    const salvaged = { reason: "The file is damaged.", missing: undefined, missingFrom: ["unknown"], recovered: 0 }
    store.findings = { ...store.findings, salvaged: { ...salvaged, problems: [], keptAs: undefined } }
    return Effect.gen(function* () {
      yield* settled
      assert.isNull((yield* status).store.findings?.salvaged?.missing)
      assert.include(yield* warnings, "An unknown number of records is missing")
    }).pipe(Effect.provide(broker({ store })))
  })
})
