import { assert, it } from "@effect/vitest"
import { describe as inWords } from "../../src/programs/cli/status.js"
import type { Status } from "../../src/services/ipc/OperatorGroup.js"

const status: Status = {
  version: "runtime-broker/1.2.3",
  pid: 7,
  started_at: new Date(0).toISOString(),
  account: "default",
  connector: { name: "gateway", state: "up", since: new Date(0).toISOString(), agent: "builder" },
  control_events: { name: "http", state: "open", since: new Date(0).toISOString() },
  presence: "online",
  store: { healthy: true },
  sockets: { open: 0, limit: 1 },
  channels: { open: 0, limit: 1 },
  limits_hit: {},
  endpoints: [],
  mailboxes: { messages: 0, bytes: 0, limit_messages: 1, limit_bytes: 1 },
  inbox: { messages: 0, bytes: 0, limit_messages: 1, limit_bytes: 1 },
  held_back: [],
  sends: { waiting: 0, given_up: 0 },
  platform: { name: "http", waiting: 0, dead: 0 },
  books: { accepted: 0, delivered: 0, held: 0, inbox: 0, expired: 0, dead: 0, unaccounted: 0 },
  invalid_expiries: 0,
  dead_letters: 0,
  log_lines_dropped: 0,
  warnings: []
}
const lineOf = (word: string, given: Partial<Status>, now: number) =>
  inWords({ ...status, ...given }, now)
    .split("\n")
    .find((line) => line.startsWith(word))

it("the stream of control events is told as the link is: its state, for how long, and why it was lost", () => {
  assert.strictEqual(lineOf("control", {}, 90_000), "control    http, open for 90 s")
  const control_events = {
    name: "http",
    state: "waiting",
    since: new Date(60_000).toISOString(),
    reason: "status 503"
  } as const
  assert.strictEqual(lineOf("control", { control_events }, 660_000), "control    http, waiting for 10 min (status 503)")
  const none = { name: "none", state: "off", since: new Date(0).toISOString() } as const
  assert.strictEqual(lineOf("control", { control_events: none }, 660_000), "control    none")
  assert.strictEqual(lineOf("network", {}, 0), "network    gateway as builder, link up; presence online")
})

it("what was turned away, and times that cannot be read, are told where there are any", () => {
  assert.isUndefined(lineOf("limits", {}, 0))
  assert.isUndefined(lineOf("expiry", {}, 0))
  assert.strictEqual(lineOf("limits", { limits_hit: { sockets: 2 } }, 0), "limits     turned away: sockets: 2")
  assert.strictEqual(
    lineOf("expiry", { invalid_expiries: 1 }, 0),
    "expiry     1 message with a time that cannot be read"
  )
})

it("what others wrote cannot do anything to the terminal", () => {
  const connector = { ...status.connector, agent: "\u001b[2Jeve\n" }
  assert.include(lineOf("network", { connector }, 0), "gateway as  [2Jeve , link up")
})
