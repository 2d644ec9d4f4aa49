/** Answers no platform should give, very many of them. `FUZZ_SEED=<number>` repeats a run. */
import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit, type Layer, Option } from "effect"
import { PlatformApi, PlatformError } from "../../src/services/PlatformApi.js"
import { FakePlatformServer, type Scripted } from "../kit/FakePlatformServer.js"
import { type CallName, callNames, calls, inMemory, real } from "../kit/platformCalls.js"

const seed = Number(process.env.FUZZ_SEED ?? 20_310_304)

/** Random choices that a seed repeats (mulberry32). */
const choices = (seed: number) => {
  let state = seed
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return {
    below,
    chance: (of: number) => next() < of,
    pick: <A>(list: ReadonlyArray<A>): A => list[below(list.length)]!
  }
}
type Choices = ReturnType<typeof choices>

const token = new FakePlatformServer().token

const bodies: ReadonlyArray<unknown> = [
  {
    endpoint_id: "ep_1",
    node_id: "n",
    heartbeat_after_seconds: 30,
    session_naming: { nickname: "a", owner_edited_name: null }
  },
  { subjectId: "node_5", subjectType: "agent-runtime", ownerUserId: "u", carrier: "c" },
  { endpoint_id: "ep_1", node_id: "node_5", display_label: "x", retired_at: "2031-03-04T08:00:00Z", is_self: true },
  { endpoint_id: "ep_1", retired_at: null },
  { error: "endpoint_unknown", message: "No such endpoint." },
  { error: `bad ${token}`, message: `the token ${token} is bad` },
  { ok: true },
  {}
]
const values: ReadonlyArray<unknown> = [
  null,
  true,
  0,
  -1,
  1e308,
  "",
  ".",
  "..",
  "x".repeat(600),
  "\ud800",
  "\u0000\u001b[2J\n",
  [],
  {},
  [[]],
  token,
  { error: 1 },
  { toString: 1 },
  { __proto__: null }
]
const texts: ReadonlyArray<string> = [
  "",
  " ",
  "null",
  "{",
  "}",
  "[]",
  '"',
  "<html><body>502</body></html>",
  "\ufeff{}",
  "1e999",
  "-",
  "NaN",
  '{"__proto__":{"error":"x"},"endpoint_id":"ep"}',
  '{"endpoint_id":"a","endpoint_id":7}',
  "[".repeat(20_000),
  `${'{"a":'.repeat(5_000)}1${"}".repeat(5_000)}`,
  "\u0000\u0001\u0002",
  "😀".repeat(50)
]
const headerPairs: ReadonlyArray<readonly [string, string]> = [
  ["retry-after", "5"],
  ["retry-after", "-5"],
  ["retry-after", "1e9"],
  ["retry-after", "Tue, 04 Mar 2031 08:00:20 GMT"],
  ["retry-after", "Mon, nonsense"],
  ["retry-after", "9".repeat(400)],
  ["retry-after", ""],
  ["retry-after", "\u00e9"],
  ["content-type", "text/html"],
  ["content-type", ";;;"],
  ["content-encoding", "gzip"],
  ["content-encoding", "br, br"],
  ["set-cookie", "%E0%A4%A; =;=; Path"],
  ["location", "http://127.0.0.1:1/"],
  ["location", "::"],
  ["connection", "close"],
  ["x-long", "y".repeat(9_000)],
  ["www-authenticate", `Bearer ${token}`]
]
const statuses = [
  200, 201, 202, 204, 301, 304, 307, 400, 401, 403, 404, 408, 409, 410, 422, 425, 429, 500, 502, 503, 504
]

const mutate = (text: string, { below, pick }: Choices): string => {
  const at = below(text.length + 1)
  switch (below(5)) {
    case 0:
      return text.slice(0, at)
    case 1:
      return text.slice(0, at) + String.fromCharCode(below(0x10000)) + text.slice(at + 1)
    case 2:
      return text.slice(0, at) + text
    case 3:
      return text.slice(0, at) + pick(['"', "\\", "{", "}", ",", "\u0000", "\ud800", "1e999"]) + text.slice(at)
    default:
      return text.slice(at) + text.slice(0, at)
  }
}

const body = (random: Choices): unknown => {
  const { below, chance, pick } = random
  if (chance(0.2)) return pick(texts)
  if (chance(0.1)) return pick(values)
  const given = structuredClone(pick(bodies)) as Record<string, unknown>
  for (const key of Object.keys(given)) if (chance(0.2)) given[key] = pick(values)
  if (!chance(0.4)) return given
  let text = JSON.stringify(given)
  for (let times = below(4); times >= 0; times--) text = mutate(text, random)
  return text
}

const answer = (random: Choices): Scripted => {
  const { below, chance, pick } = random
  return {
    status: chance(0.8) ? pick(statuses) : 100 + below(900),
    headers: Object.fromEntries(Array.from({ length: below(3) }, () => pick(headerPairs))),
    body: chance(0.001) ? "z".repeat(1_500_000) : body(random),
    ...(chance(0.02) ? { fault: pick(["cut", "throw", "breakOff", "hang", "hangInBody"] as const) } : {})
  }
}

const garbage = (random: Choices): string => {
  const { below, chance, pick } = random
  const whole = [
    `HTTP/1.1 ${pick(["200 OK", "204", "000 x", "9999 x", "101 Switching Protocols", "100 Continue", "-1", "OK"])}`,
    pick([
      "Content-Length: 2",
      "Content-Length: 9999999999",
      "Content-Length: -1",
      "Content-Length: 2\r\nContent-Length: 3"
    ]),
    pick([
      "Transfer-Encoding: chunked",
      "Transfer-Encoding: gzip, chunked",
      "X: y",
      "X\u0000: y",
      "no colon",
      " folded",
      "Upgrade: x"
    ]),
    "",
    pick(["{}", "", "2\r\n{}\r\n0\r\n\r\n", "ZZ\r\n{}", "5\r\nab", "\u0000".repeat(50)])
  ].join(pick(["\r\n", "\r\n", "\r\n", "\n", "\r"]))
  return chance(0.3) ? mutate(whole, random) : chance(0.1) ? whole.slice(0, below(whole.length)) : whole
}

/** What a call may come to when each of its requests gets this answer; `undefined` where that takes knowing more. */
const expected = (name: CallName, { fault, status = 200 }: Scripted): string | undefined => {
  // What hangs is a race of two deadlines on a busy machine.
  if (name === "endpointState" || fault === "hangInBody") return undefined
  if (fault !== undefined && fault !== "breakOff") return "unavailable"
  const asks = name === "register" || name === "whoami"
  if (status >= 200 && status < 300) return asks ? undefined : "done"
  if (status === 404 && ["state", "removed", "unregister"].includes(name)) return "done"
  if (status === 410 && ["removed", "unregister"].includes(name)) return "done"
  if (status === 401) return "unauthorized"
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status) ? "refused" : "unavailable"
}

const insist = (condition: boolean, what: string): void => {
  if (!condition) throw new Error(what)
}

const check = (exit: Exit.Exit<unknown, PlatformError>, name: CallName, scripted: Scripted | undefined): void => {
  let kind = "done"
  if (Exit.isFailure(exit)) {
    const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
    if (!(error instanceof PlatformError)) throw new Error(`not an error but ${Cause.pretty(exit.cause)}`)
    const { code, reason, retryAfterMs = 0 } = error
    kind = error.kind
    insist(code !== "" && code.length <= 200 && reason !== "" && reason.length <= 600, "code and reason are bounded")
    insist(!/\p{Cc}/u.test(code + reason), "code and reason are on one line")
    insist(!(JSON.stringify(error) + String(error)).includes(token), "the token is in no error")
    insist(retryAfterMs >= 0 && retryAfterMs <= 3_600_000, "the wait is bounded")
  } else if (name === "register") {
    const { endpointId, heartbeatAfterMs = 1_000 } = exit.value as { endpointId: unknown; heartbeatAfterMs?: number }
    insist(typeof endpointId === "string" && endpointId !== "", "an endpoint has an id")
    insist(heartbeatAfterMs >= 1_000 && heartbeatAfterMs <= 86_400_000, "heartbeats are neither frequent nor rare")
  } else if (name === "whoami") {
    insist((exit.value as { subjectId: string }).subjectId !== "", "an account has an id")
  } else if (name === "endpointState") {
    insist(["open", "closed", "unknown"].includes(exit.value as string), "an endpoint has a state")
  } else insist(exit.value === undefined, "a post has no result")
  const owed = scripted === undefined ? undefined : expected(name, scripted)
  insist(owed === undefined || kind === owed, `${kind} instead of ${owed}`)
}

const lanes = 16

/** `count` calls in lanes, each lane with a platform of its own; then each platform works again, and so do the calls. */
const storm = (
  count: number,
  make: (random: Choices) => Scripted,
  layer: (server: FakePlatformServer) => Layer.Layer<PlatformApi>,
  isExact: boolean
) => {
  const lane = (first: number) => {
    const server = new FakePlatformServer()
    return Effect.gen(function* () {
      const platform = yield* PlatformApi
      const all = calls(platform)
      for (let index = first; index < count; index += lanes) {
        // A step that meets every call in every lane.
        const name = callNames[Math.floor(index / lanes) % callNames.length]!
        const scripted = make(choices(seed + index))
        server.onRequest = () => scripted
        server.requests.length = 0
        const exit = yield* Effect.exit(all[name] as Effect.Effect<unknown, PlatformError>)
        try {
          check(exit, name, isExact ? scripted : undefined)
        } catch (error) {
          const told = JSON.stringify(scripted).slice(0, 1_000)
          throw new Error(`FUZZ_SEED=${seed}, call ${index}, ${name}, ${told}: ${(error as Error).message}`)
        }
      }
      server.onRequest = () => undefined
      // The first may still meet a connection that is just being closed, or a machine that is busy with other tests.
      const { subjectId } = yield* Effect.retry(platform.whoami!, { times: 100 })
      assert.strictEqual(subjectId, server.subjectId)
    }).pipe(Effect.provide(layer(server)))
  }
  const faults: Array<unknown> = []
  const onFault = (fault: unknown) => void faults.push(fault)
  const events = ["uncaughtException", "unhandledRejection"] as const
  return Effect.acquireUseRelease(
    Effect.sync(() => {
      for (const event of events) process.on(event, onFault)
      // Most of the time would go into stacks of errors.
      const { stackTraceLimit } = Error
      Error.stackTraceLimit = 0
      return stackTraceLimit
    }),
    () =>
      Effect.forEach(
        Array.from({ length: lanes }, (_, first) => first),
        lane,
        { concurrency: lanes, discard: true }
      ).pipe(Effect.zipRight(Effect.sleep(50))),
    (stackTraceLimit) =>
      Effect.sync(() => {
        Error.stackTraceLimit = stackTraceLimit
        for (const event of events) process.off(event, onFault)
      })
  ).pipe(Effect.zipRight(Effect.sync(() => assert.deepStrictEqual(faults, [], `FUZZ_SEED=${seed}`))))
}

const answers = Number(process.env.PLATFORM_ANSWERS ?? 500)
// Much longer than it takes: other tests may keep the machine busy.
const limit = { timeout: 90_000 + answers * 5 }

it.live(
  `${answers} answers out of memory end as what they are`,
  () => storm(answers, answer, (server) => inMemory(server, { platformMs: 60 }), true),
  limit
)
/** Each opens a connection or two, and some wait for a deadline. */
const sent = Math.ceil(answers / 4)
it.live(
  `${sent} odd answers over real connections end as errors or successes`,
  () => storm(sent, answer, (server) => real(server, { platformMs: 100 }), false),
  limit
)
it.live(
  `${Math.ceil(sent / 2)} answers that are not HTTP do, too`,
  () =>
    storm(
      Math.ceil(sent / 2),
      (random) => ({ raw: garbage(random) }),
      (server) => real(server, { platformMs: 100 }),
      false
    ),
  limit
)
