/** Hostile and mistaken local callers, over all routes there are: the table comes from the declaration of the HTTP surface. */
import { Agent, request } from "node:http"
import { networkInterfaces } from "node:os"
import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type RunningBroker, startBroker } from "../kit/broker.js"
import { type Session, startSession, statusOf, usualBroker } from "../kit/endToEnd.js"
import { head, rawRequest, upgradeHeaders } from "../kit/rawHttp.js"
import { type Route, routes, wellFormed } from "../kit/routes.js"

const tokens = ["none", "wrong", "plugin", "operator"] as const
const pids = ["none", "right", "wrong"] as const
const ownerTokens = ["none", "right", "wrong"] as const

interface Case {
  readonly route: Route
  readonly token: (typeof tokens)[number]
  /** What `x-plugin-pid` says. */
  readonly pid: (typeof pids)[number]
  readonly ownerToken: (typeof ownerTokens)[number]
  /** Whether the body's `plugin_pid`, where there is one, is that of the endpoint. */
  readonly bodyPid: "right" | "wrong"
  /** Whether the endpoint demands its owner token. */
  readonly demands: boolean
}

const takesPid = ({ fields }: Route) => fields.some(({ name }) => name === "plugin_pid")

const cases: ReadonlyArray<Case> = routes.flatMap((route) =>
  tokens.flatMap((token) =>
    pids.flatMap((pid) =>
      ownerTokens.flatMap((ownerToken) =>
        (takesPid(route) ? (["right", "wrong"] as const) : (["right"] as const)).flatMap((bodyPid) =>
          [false, true].map((demands) => ({ route, token, pid, ownerToken, bodyPid, demands }))
        )
      )
    )
  )
)

const everywhere = ["host_not_allowed", "origin_not_allowed", "operator_only"]
const byOwner = ["endpoint_pid_mismatch", "plugin_pid_mismatch", "endpoint_owner_token_mismatch"]

/** A route that does not say `endpoint_pid_mismatch` has a code of its own for it. */
const codeForStrangers = ({ forbids }: Route) =>
  forbids.includes("endpoint_pid_mismatch")
    ? "endpoint_pid_mismatch"
    : forbids.find((code) => !everywhere.includes(code) && !byOwner.includes(code))

/** The rule: the refusal of this caller, or `undefined` when it may. */
const refusalOf = ({ bodyPid, demands, ownerToken, pid, route, token }: Case): string | undefined => {
  if (token !== "plugin" && token !== "operator" && route.access !== "anyone") return "401 unauthorized"
  if (route.access === "operators" && token === "plugin") return "403 operator_only"
  if (!route.takesOwner) return undefined
  if (takesPid(route) && pid !== "none" && pid !== bodyPid) return "403 plugin_pid_mismatch"
  if (!route.namesEndpoint) return undefined
  const isStranger = pid === "wrong" || (takesPid(route) && bodyPid === "wrong")
  if (isStranger) return `403 ${codeForStrangers(route)}`
  return demands && ownerToken !== "right" ? "403 endpoint_owner_token_mismatch" : undefined
}

const nameOf = ({ bodyPid, demands, ownerToken, pid, route, token }: Case) =>
  `${route.method} ${route.path}: token ${token}, pid ${pid}, owner token ${ownerToken}, pid in the body ${bodyPid}, ` +
  `endpoint ${demands ? "with" : "without"} token`

/** Who the callers are: the endpoint's plugin, and another one that has a stream and a session of its own. */
interface Parties {
  readonly owner: Session
  readonly other: Session
}

/** One connection after the other: there are thousands of questions, and `fetch` is slow. */
const agent = new Agent({ keepAlive: true, maxSockets: 1 })
afterAll(() => agent.destroy())

/** The answer of the broker, as `status code`; `undefined` for a success. */
const ask = (broker: RunningBroker, one: Case, { other, owner }: Parties) => {
  const { bodyPid, ownerToken, pid, route, token } = one
  const { body, target } = wellFormed(route, {
    endpoint_id: owner.id,
    plugin_pid: (bodyPid === "right" ? owner : other).plugin.pid,
    to: owner.address
  })
  const headers = {
    ...(token === "none"
      ? {}
      : {
          authorization: `Bearer ${{ wrong: "x".repeat(43), plugin: broker.token, operator: broker.operatorToken }[token]}`
        }),
    ...(pid === "none" ? {} : { "x-plugin-pid": String((pid === "right" ? owner : other).plugin.pid) }),
    ...(ownerToken === "none" ? {} : { "x-endpoint-owner-token": (ownerToken === "right" ? owner : other).ownerToken })
  }
  const text = route.method === "GET" ? "" : JSON.stringify(body)
  return Effect.async<string | undefined, Error>((resume) => {
    const length = { "content-length": Buffer.byteLength(text) }
    const options = { method: route.method, agent, headers: { ...headers, ...length } }
    const asking = request(broker.url + target, options, (answer) => {
      let said = ""
      answer.setEncoding("utf8")
      answer.on("data", (chunk) => {
        said += chunk
      })
      answer.on("end", () => {
        const isOk = answer.statusCode! >= 200 && answer.statusCode! < 300
        resume(Effect.sync(() => (isOk ? undefined : `${answer.statusCode} ${JSON.parse(said).error}`)))
      })
    })
    asking.on("error", (error) => resume(Effect.fail(error)))
    asking.end(text)
  }).pipe(Effect.orDie)
}

const isForbidden = (answer: string | undefined) => /^40[13] /.test(answer ?? "")

/** Routes that end the broker. */
const ending = ["/v1/operator/stop", "/v1/operator/drain"]

describe("S4, S7, S8, E1: every route, with every token and every owner", { timeout: 60_000 }, () => {
  const partiesOf = (broker: RunningBroker, demands: boolean) => {
    const capabilities = ["push_receipt_ack_v1", ...(demands ? ["endpoint_owner_token_v1"] : [])]
    return Effect.map(
      Effect.all([startSession(broker, { capabilities }), startSession(broker, { capabilities })]),
      ([owner, other]): Parties => ({ owner, other })
    )
  }

  it("the table covers the surface: open routes, both roles, owners in path and body", () => {
    assert.isAbove(routes.length, 12)
    assert.isAbove(cases.length, 1_000)
    assert.deepStrictEqual(new Set(routes.map(({ access }) => access)), new Set(["anyone", "plugins", "operators"]))
    assert.deepStrictEqual(
      routes.filter(({ namesEndpoint, takesOwner }) => namesEndpoint && !takesOwner),
      [],
      "a route about an endpoint looks at who owns it"
    )
  })

  for (const demands of [false, true]) {
    it.scopedLive(
      `refuses with the right code and does nothing: an endpoint ${demands ? "with" : "without"} token`,
      () =>
        Effect.gen(function* () {
          const broker = yield* usualBroker
          const parties = yield* partiesOf(broker, demands)
          const { id, plugin } = parties.owner
          const before = yield* statusOf(broker, id)
          const wrong: Array<string> = []
          for (const one of cases.filter((one) => one.demands === demands)) {
            const expected = refusalOf(one)
            if (expected === undefined) continue
            const answer = yield* ask(broker, one, parties)
            if (answer !== expected) wrong.push(`${nameOf(one)}: ${answer} and not ${expected}`)
          }
          assert.deepStrictEqual(wrong, [])
          assert.deepStrictEqual(yield* statusOf(broker, id), before)
          assert.deepStrictEqual(plugin.messages, [])
          assert.isUndefined(plugin.closed())
        })
    )

    it.scopedLive(`lets everybody else through: an endpoint ${demands ? "with" : "without"} token`, () =>
      Effect.gen(function* () {
        const broker = yield* usualBroker
        let parties = yield* partiesOf(broker, demands)
        const wrong: Array<string> = []
        for (const one of cases.filter((one) => one.demands === demands)) {
          if (refusalOf(one) !== undefined || ending.includes(one.route.path)) continue
          const answer = yield* ask(broker, one, parties)
          if (isForbidden(answer)) wrong.push(`${nameOf(one)}: ${answer}`)
          // Whoever may end the endpoint does.
          if (one.route.method !== "DELETE") continue
          if ((yield* statusOf(broker, parties.owner.id)) === undefined) parties = yield* partiesOf(broker, demands)
        }
        assert.deepStrictEqual(wrong, [])
      })
    )
  }

  it.scopedLive("S8: only the operator's token ends the broker", () =>
    Effect.gen(function* () {
      for (const path of ending) {
        const broker = yield* startBroker()
        const parties = yield* partiesOf(broker, false)
        const asked = cases.filter(({ pid, route }) => route.path === path && pid === "none")
        for (const one of asked) {
          if (one.token !== "operator") {
            assert.strictEqual(yield* ask(broker, one, parties), refusalOf(one), nameOf(one))
          }
        }
        assert.isUndefined(yield* ask(broker, asked.find(({ token }) => token === "operator")!, parties))
        assert.strictEqual((yield* broker.exited).code, 0)
      }
    })
  )

  it.scopedLive("S4: the stream opens with either token, and with no other", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const opened = (lines: ReadonlyArray<string>) =>
        Effect.map(
          rawRequest(
            broker.port,
            head("GET /v1/stream", [
              `Host: 127.0.0.1:${broker.port}`,
              ...upgradeHeaders,
              "x-plugin-pid: 9999999",
              ...lines
            ])
          ),
          ({ status }) => status
        )
      assert.strictEqual(yield* opened([]), 401)
      assert.strictEqual(yield* opened([`Authorization: Bearer ${"x".repeat(43)}`]), 401)
      assert.strictEqual(yield* opened([`Authorization: Bearer ${broker.token}`]), 101)
      assert.strictEqual(yield* opened([`Authorization: Bearer ${broker.operatorToken}`]), 101)
    })
  )
})

describe("S1: the port", () => {
  it.scopedLive("answers on 127.0.0.1, and on no other address of this machine", () =>
    Effect.gen(function* () {
      const broker = yield* usualBroker
      const addresses = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address))
      for (const address of new Set([...addresses, "::1", "127.0.0.2"])) {
        if (address === "127.0.0.1") continue
        const answer = yield* Effect.exit(rawRequest(broker.port, head("GET /health"), address))
        assert.strictEqual(answer._tag, "Failure", address)
      }
      assert.strictEqual((yield* broker.call("GET", "/health")).status, 200)
    })
  )
})
