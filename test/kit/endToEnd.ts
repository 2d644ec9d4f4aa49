/** What the tests of the built broker share. */
import type { ChildProcess } from "node:child_process"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import type { WebSocket } from "ws"
import {
  type Answer,
  type BrokerOptions,
  eventually,
  type Plugin,
  type PluginOptions,
  type RunningBroker,
  startBroker,
  startPlugin
} from "./broker.js"
import { removeAtEnd, StartedProcess } from "./startedProcess.js"

/** What all tests of a file or a suite share: made before the first, released after the last. */
export const sharedResource = <A>(make: Effect.Effect<A, unknown, Scope.Scope>): Effect.Effect<A> => {
  const scope = Effect.runSync(Scope.make())
  let made: A | undefined
  beforeAll(async () => {
    made = await Effect.runPromise(Scope.extend(make, scope))
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return Effect.sync(() => made!)
}

/** One broker for all tests of a file that do not get in each other's way. */
export const sharedBroker = (options: BrokerOptions): Effect.Effect<RunningBroker> =>
  sharedResource(startBroker(options))

let usual: Promise<RunningBroker> | undefined

/**
 * The broker of usual settings that all files of a test process share. Only for tests that leave it as they found it, but for
 * endpoints that ended and what they left undispatched: a start is dearer than what most tests do with it.
 */
export const usualBroker: Effect.Effect<RunningBroker> = Effect.promise(() => {
  usual ??= Effect.runPromise(
    Effect.gen(function* () {
      const userData = mkdtempSync(join(tmpdir(), "runtime-broker-test-"))
      removeAtEnd(userData)
      return yield* Scope.extend(startBroker({ userData }), yield* Scope.make())
    })
  )
  return usual
})

/** A plugin with an open stream and one registered session. */
export interface Session {
  readonly plugin: Plugin
  /** The stream it registered on. */
  readonly socket: WebSocket
  readonly id: string
  readonly ownerToken: string
  readonly agent: string
  /** Reaches this endpoint. */
  readonly address: string
  /** Sends from this endpoint; `rest` are further fields of the body. */
  readonly send: (to: string, content: string, rest?: object) => Effect.Effect<Answer>
}

/** Its agent is its own unless `given` names one. */
export const startSession = (
  broker: RunningBroker,
  options: PluginOptions = {},
  given: Record<string, unknown> = {}
): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.gen(function* () {
    const plugin = yield* startPlugin(broker, options)
    const socket = yield* plugin.open
    const agent = typeof given.agent_id === "string" ? given.agent_id : `agent-${plugin.pid}`
    const { body, status } = yield* plugin.call("POST", "/v1/endpoint/register", {
      agent_id: agent,
      plugin_pid: plugin.pid,
      kind: "test",
      ...given
    })
    assert.strictEqual(status, 200, JSON.stringify(body))
    const { endpoint_id: id, endpoint_owner_token: ownerToken } = body
    return {
      plugin,
      socket,
      id,
      ownerToken,
      agent,
      address: `local:${encodeURIComponent(agent)}/${id}`,
      send: (to, content, rest = {}) =>
        plugin.call(
          "POST",
          "/v1/send",
          { endpoint_id: id, to, content, ...rest },
          { "x-endpoint-owner-token": ownerToken }
        )
    }
  })

/** The contents of the next messages. */
export const contentsOf = (plugin: Plugin, count: number) =>
  Effect.map(plugin.take(count), (messages) => messages.map(({ content }) => content))

/** Registers the session once more, as published clients do; `given` is laid over what it says of itself. */
export const registerAgain = ({ agent, plugin }: Session, given: object = {}) =>
  Effect.map(
    plugin.call("POST", "/v1/endpoint/register", { agent_id: agent, plugin_pid: plugin.pid, kind: "test", ...given }),
    ({ body, status }) => {
      assert.strictEqual(status, 200, JSON.stringify(body))
      return body as { endpoint_id: string; endpoint_owner_token: string; resumed: boolean }
    }
  )

/** Opens another stream and registers the session on it. */
export const reopen = (session: Session) => Effect.tap(session.plugin.open, () => registerAgain(session))

/** Kills the process and waits for its end. */
export const kill = (child: StartedProcess | ChildProcess): Effect.Effect<unknown> =>
  child instanceof StartedProcess
    ? Effect.zipRight(
        Effect.sync(() => child.kill("SIGKILL")),
        child.ended
      )
    : Effect.async<void>((resume) => {
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })

/** What the broker says of the endpoint; `undefined` when it is closed. */
export const statusOf = (broker: RunningBroker, id: string) =>
  Effect.map(broker.status, ({ endpoints }) => endpoints.find(({ endpoint_id }) => endpoint_id === id))

/** Waits until the endpoint is in this state. */
export const untilState = (broker: RunningBroker, id: string, state: "active" | "reconnecting" | "closed") =>
  eventually(statusOf(broker, id), (endpoint) => (endpoint?.state ?? "closed") === state)

/** The undispatched messages with these contents that are there now, in the order of the list. */
export const inboxNow = (broker: RunningBroker, ...contents: ReadonlyArray<string>) =>
  Effect.map(broker.call("GET", "/v1/undispatched"), ({ body }) =>
    (body.items as ReadonlyArray<any>).filter(({ content }) => contents.includes(content))
  )

/** The same, once all of them are there. */
export const inboxOf = (broker: RunningBroker, ...contents: ReadonlyArray<string>) =>
  eventually(inboxNow(broker, ...contents), (items) => items.length === contents.length)

/** Waits until the log, which is written in the background, holds this event with these fields; returns the line. */
export const logged = (broker: RunningBroker, msg: string, fields: { readonly [name: string]: unknown } = {}) =>
  Effect.map(
    eventually(
      Effect.try(
        () =>
          broker
            .logLines()
            .find((line) => line.msg === msg && Object.entries(fields).every(([name, value]) => line[name] === value))
        // A line of which half is written is there a moment later.
      ).pipe(Effect.orElseSucceed(() => undefined)),
      (line) => line !== undefined
    ),
    (line) => line!
  )

/** The answer is this refusal, and its message says each of `words`. */
export const refused = (
  { body, status }: Pick<Answer, "status" | "body">,
  expected: number,
  error: string,
  ...words: ReadonlyArray<string>
): void => {
  assert.deepStrictEqual({ status, error: body?.error }, { status: expected, error }, JSON.stringify(body))
  assert.isString(body.message)
  for (const word of words) assert.include(body.message, word)
}
